"""How the gateway says no: one exception with an HTTP status, and every labkit error's place among them."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

from starlette.responses import Response

from labkit.errors import (
    ContextOverflow,
    EngineTimeout,
    EngineUnavailable,
    LabkitError,
    ModelNotFound,
    NotEnoughMemory,
    OptionInvalid,
    StorageFailed,
)

STATUS = (
    (ModelNotFound, 404, "model_not_found"),
    (ContextOverflow, 400, "context_length_exceeded"),
    (OptionInvalid, 400, "invalid_value"),
    (NotEnoughMemory, 507, "not_enough_memory"),
    (EngineTimeout, 504, "timeout"),
    (EngineUnavailable, 503, "unavailable"),
    (StorageFailed, 503, "storage_failed"),
    (LabkitError, 502, "engine_failed"),
)
HUNG_UP = 499  # nginx's status for a client that did not wait; no client ever sees it
TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Refused(LabkitError):
    """Turn a request away with an HTTP status; `after` is the seconds of a Retry-After."""

    def __init__(self, status: int, code: str, what: str, fix: str = "", after: float = 0.0) -> None:
        super().__init__(what, fix=fix)
        self.status, self.code, self.after = status, code, after


def refused(error: LabkitError) -> Refused:
    """Return the refusal that an error means."""
    if isinstance(error, Refused):
        return error
    status, code = next((status, code) for kind, status, code in STATUS if isinstance(error, kind))
    after = 1.0 if status == 503 else 0.0
    return Refused(status, code, error.what, error.fix, getattr(error, "after", after))


def status_of(error: BaseException) -> int:
    """Return the status with which a request ends that this breaks."""
    if isinstance(error, LabkitError):
        return refused(error).status
    return HUNG_UP if isinstance(error, asyncio.CancelledError | GeneratorExit) else 500


def error_object(no: Refused) -> dict[str, Any]:
    """Return the body that OpenAI's clients read."""
    kind = TYPES.get(no.status, "invalid_request_error" if no.status < 500 else "server_error")
    return {"error": {"message": str(no), "type": kind, "param": None, "code": no.code}}


def error_response(no: Refused, body: dict[str, Any] | None = None) -> Response:
    """Return the refusal as a response, in OpenAI's shape unless `body` has another."""
    headers = {"Retry-After": str(math.ceil(no.after))} if no.after else {}
    if no.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return json_response(body or error_object(no), no.status, headers)


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return JSON in ASCII, so that half a character somebody sent does no harm on its way back."""
    return Response(json.dumps(body), status, headers, "application/json")
