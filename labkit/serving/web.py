"""What HTTP needs around an answer: keys in headers, bodies with a limit, clients that hang up, streams that end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

import labkit
from labkit.serving.refused import Refused, error_response, json_response
from labkit.serving.settings import LOOPBACK

T = TypeVar("T")
STREAM = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class Gone(Exception):
    """The client hung up before there was anything to send."""


def key_of(request: Request) -> str:
    """Return the key a request carries, in OpenAI's header or in Anthropic's and Azure's kind."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")


def local_only(request: Request) -> None:
    """Refuse a web page of another site, also one whose name was made to point at this machine."""
    origin = request.headers.get("origin")
    try:
        hosts = (request.url.hostname, urlsplit(origin).hostname if origin else LOOPBACK[0])
    except ValueError:
        hosts = (None, None)
    if not all(host in LOOPBACK for host in hosts):
        raise Refused(403, "local_only", "only programs and pages of this machine may ask", "use keys")


async def body_of(request: Request, most: int) -> bytes:
    """Return a body; refuse one that is too large before it is read."""
    length = request.headers.get("content-length", "0")
    raw = bytearray()
    if length.isdecimal() and int(length) <= most:
        async for piece in request.stream():
            raw += piece
            if len(raw) > most:
                break
    if not length.isdecimal() or int(length) > most or len(raw) > most:
        raise Refused(413, "body_too_large", f"the body is over {most:,} bytes", "send less")
    return bytes(raw)


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` gives, and cancel it as soon as the client hangs up."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Gone
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))


class Streamed(StreamingResponse):
    """Send a stream, and close its source even where the client hung up before the first byte was sent."""

    def __init__(
        self, body: AsyncGenerator[bytes, None], source: AsyncGenerator[Any, None], kind: str
    ) -> None:
        super().__init__(body, 200, STREAM, kind)
        self.source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; closing a source that has ended does nothing."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.source.aclose()


async def collected(chunks: AsyncGenerator[T, None]) -> list[T]:
    """Return all items of a generator, and close it however this ends."""
    async with aclosing(chunks):
        return [chunk async for chunk in chunks]


async def description(request: Request) -> Response:
    """Describe the routes as OpenAPI does, out of openapi.json."""
    paths: dict[str, dict[str, Any]] = {}
    for way, told in json.loads(Path(__file__).with_name("openapi.json").read_text("utf-8")).items():
        method, path = way.split()
        paths.setdefault(path.replace(":path", ""), {})[method.lower()] = {"operationId": way, **told}
    info = {"title": "labkit serve", "version": labkit.__version__}
    return json_response({"openapi": "3.1.0", "info": info, "paths": paths})


async def no_such_route(request: Request, error: Exception) -> Response:
    """Answer for a path or a method that does not exist."""
    assert isinstance(error, HTTPException)
    no = Refused(error.status_code, "no_such_route", f"{error.detail}", "see /openapi.json")
    response = error_response(no)
    if error.status_code == 405:
        routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
        response.headers["Allow"] = ", ".join(sorted(set().union(*(route.methods for route in routes))))
    return response
