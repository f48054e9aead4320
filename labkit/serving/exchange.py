"""What is noted about one request: its line in the audit log, and whether a model's calls could be used."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

from labkit.serving.audit import Audit
from labkit.serving.keys import User
from labkit.serving.router import Tried
from labkit.serving.telemetry import Request
from labkit.types import ToolCall

QUIET = ("/health", "/ready", "/metrics", "/")  # asked every few seconds, and no business of an audit
KINDS: dict[str, Any] = {"string": str, "integer": int, "number": int | float, "array": list, "object": dict}


class Exchange:
    """Accompany one request from its arrival to its line in the audit log."""

    def __init__(self, audit: Audit, seen: Request, user: User, route: str) -> None:
        self.audit, self.seen, self.user, self.route = audit, seen, user, route
        self.id, self.at = f"chatcmpl-{secrets.token_hex(12)}", time.time()
        self.told: dict[str, Any] = {}
        self.trail: list[Tried] = []
        self.ended = False

    def end(self, status: int) -> None:
        """Count it and write its line; later calls change nothing."""
        if self.ended:
            return
        self.ended = True
        self.seen.end(status)
        if self.route in QUIET:
            return
        tried = [[tried.backend, tried.outcome] for tried in self.trail]
        times = {"ttft": self.seen.ttft or None, "total": time.time() - self.at}
        head = {"at": self.at, "id": self.id, "user": self.user.id, "route": self.route, "status": status}
        self.audit.write({**head, **times, **({"tried": tried} if tried else {}), **self.told})


def outcome(call: ToolCall, offered: Mapping[str, Any]) -> str:
    """Return "ok", "unknown" (no such tool) or "invalid": an argument is missing or of the wrong type at its top level.

    A whole JSON schema is not checked here, on the way of every answer: agents do that before they call.
    """
    if call.name not in offered:
        return "unknown"
    schema = offered[call.name] or {}
    properties = schema.get("properties") or {}
    kinds = {
        name: KINDS.get(str(properties[name].get("type"))) for name in call.arguments if name in properties
    }
    wrong = any(kind and not isinstance(call.arguments[name], kind) for name, kind in kinds.items())
    missing = set(schema.get("required") or ()) - call.arguments.keys()
    return "invalid" if wrong or missing else "ok"
