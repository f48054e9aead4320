"""An HTTP endpoint that speaks Ollama's API over any labkit engine, for machines without the daemon.

Here is what HTTP needs: bodies in, lines or an object out, uploads, refusals. The answers are in `ollama_answers.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import fastapi
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from pydantic import BaseModel

import labkit
from labkit.engines.beside import iterate
from labkit.errors import (
    ContextOverflow,
    EngineUnavailable,
    LabkitError,
    ModelFileInvalid,
    ModelNotFound,
    OptionInvalid,
)
from labkit.models import store
from labkit.serving.ollama_answers import ANSWERS, Line, encoded, merged, running, tags
from labkit.serving.ollama_models import ApiError, Models
from labkit.serving.ollama_requests import parsed

MAX_BODY, MAX_BLOB = 8 * 2**20, 64 * 2**30
SWEEP_S = 0.25
LOCAL = ("127.0.0.1", "localhost")
STATUS = {
    ContextOverflow: 400,
    OptionInvalid: 400,
    ModelFileInvalid: 400,
    ModelNotFound: 404,
    EngineUnavailable: 503,
}


def create_app(models: Models) -> fastapi.FastAPI:
    """Return the application; it closes `models` when it ends."""

    async def blob(digest: str, request: fastapi.Request) -> Response:
        return await take_blob(models, digest, request)

    guard = [fastapi.Depends(local_only)]
    app = fastapi.FastAPI(
        lifespan=lambda _: kept(models), dependencies=guard, docs_url=None, redoc_url=None, openapi_url=None
    )
    for kind in (ApiError, LabkitError):
        app.add_exception_handler(kind, lambda _, error: refusal(error))
    app.add_api_route("/", lambda: PlainTextResponse("Ollama is running"), methods=["GET", "HEAD"])
    app.add_api_route("/api/version", lambda: {"version": f"{labkit.__version__}-labkit"})
    app.add_api_route("/api/tags", lambda: tags(models))
    app.add_api_route("/api/ps", lambda: running(models))
    app.add_api_route("/api/blobs/{digest}", blob, methods=["HEAD", "POST"])
    for name, (body, answer) in ANSWERS.items():
        method = "DELETE" if name == "delete" else "POST"
        app.add_api_route(
            f"/api/{name}", handler(models, body, answer), methods=[method], response_model=None
        )
    return app


@contextlib.asynccontextmanager
async def kept(models: Models) -> AsyncIterator[None]:
    """Unload what has been idle for too long while the endpoint runs, and everything when it ends."""

    async def sweep() -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            await asyncio.to_thread(models.sweep)

    sweeping = asyncio.create_task(sweep())
    yield
    sweeping.cancel()
    await asyncio.to_thread(models.close)


def local_only(request: fastapi.Request) -> None:
    """Refuse a web page of another site, also one whose name was made to point at this machine."""
    origin = request.headers.get("origin")
    if request.url.hostname not in LOCAL or (origin and urlsplit(origin).hostname not in LOCAL):
        raise ApiError(403, "only programs and pages of this machine may ask")


def refusal(error: Exception) -> JSONResponse:
    """Return Ollama's error body, with the status that it has for the like."""
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
    return JSONResponse({"error": words_of(error)}, getattr(error, "status", status))


def words_of(error: Exception) -> str:
    """Return what Ollama says, where its clients look for that, or else what the error says, in one line."""
    overflown = isinstance(error, ContextOverflow)
    return "the input length exceeds the context length" if overflown else " ".join(str(error).split())


def handler(
    models: Models, kind: type[BaseModel], answer: Callable[[Models, Any], Iterator[Line]]
) -> Callable[..., Any]:
    """Return what checks a body of that `kind` and sends its answer: an object, or lines as they come."""

    async def handle(request: fastapi.Request) -> Response:
        body = parsed(kind, await read(request))
        lines = iterate(lambda: answer(models, body))
        first = await anext(lines)  # what fails before it is an HTTP error, later an error line
        if getattr(body, "stream", False) and first.keys() & {"done", "status"}:
            return StreamingResponse(encoded(first, lines, words_of), media_type="application/x-ndjson")
        whole = [first]
        async with contextlib.aclosing(lines):
            async for line in lines:
                whole.append(line)
                if await request.is_disconnected():
                    break
        return JSONResponse(merged(whole))

    return handle


async def read(request: fastapi.Request) -> bytes:
    """Return a body that is neither empty nor too large."""
    raw = bytearray()
    async for piece in request.stream():
        raw += piece
        if len(raw) > MAX_BODY:
            raise ApiError(413, "request body too large")
    if not raw.strip():
        raise ApiError(400, "missing request body")
    return bytes(raw)


async def take_blob(models: Models, digest: str, request: fastapi.Request) -> Response:
    """Keep an uploaded file whose content has the sha256 it is sent under."""
    path = models.blob(digest)
    if path.is_file() or request.method == "HEAD":
        return Response(status_code=200 if path.is_file() else 404)
    part, hashed, left = path.with_suffix(f".{random.getrandbits(64):x}.part"), hashlib.sha256(), MAX_BLOB
    with store.storage_errors(part):
        try:
            with part.open("wb") as file:
                async for piece in request.stream():
                    left -= len(piece)
                    if left < 0:
                        raise ApiError(413, "blob too large")
                    store.require_space(len(piece))
                    hashed.update(piece)
                    file.write(piece)
            got = f"sha256:{hashed.hexdigest()}"
            if models.blob(got) != path:
                raise ApiError(400, f'digest mismatch, expected "{digest}", got "{got}"')
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    return Response(status_code=201)
