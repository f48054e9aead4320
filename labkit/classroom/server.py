"""The instructor's server: students' notebooks report to `/events`, and a page shows the class as it is now.

The page and its figures need the instructor's token, on this machine too: on a shared one, its other users could ask.
Reports need the class's key if there is one; beyond this machine there must be one.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response

from labkit.classroom.board import Board
from labkit.errors import AnswerInvalid, LabkitError, OptionInvalid
from labkit.serving.refused import Refused, error_response, refused
from labkit.serving.settings import LOOPBACK
from labkit.serving.web import body_of, key_of

PAGE = Path(__file__).with_name("page")
FILES = ("page.js", "page.css")
MAX_BODY = 128_000  # a batch of 100 events is about 15,000 bytes
KEY_LEAST = 12
COOKIE = "labkit_class"
# Nothing but this server's own script and style runs on the page, whatever a name contains.
SAFE = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Doors:
    """Settle where to listen and who may come in; raise `OptionInvalid` for a door that is open to the world."""

    host: str = LOOPBACK[0]
    port: int = 8010
    class_key: str = field(default="", repr=False)
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    def __post_init__(self) -> None:
        if self.host not in LOOPBACK and len(self.class_key) < KEY_LEAST:
            raise OptionInvalid(
                f"{self.host} is open to others, and LABKIT_CLASS_KEY has no {KEY_LEAST} characters",
                fix="export LABKIT_CLASS_KEY=… and give it to the class",
            )
        if len(self.token) < KEY_LEAST:
            raise OptionInvalid(f"LABKIT_INSTRUCTOR_KEY has no {KEY_LEAST} characters", fix="make it longer")


def create_app(board: Board, doors: Doors) -> FastAPI:
    """Return the application."""
    app = FastAPI(title="labkit classroom", openapi_url=None, docs_url=None, redoc_url=None)
    writer = Writer(board)

    @app.middleware("http")
    async def guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        answer = await go_on(request)
        answer.headers.update(SAFE)
        return answer

    @app.exception_handler(LabkitError)
    async def failed(_: Request, error: LabkitError) -> Response:
        strange = isinstance(error, AnswerInvalid)
        return error_response(Refused(422, "no_report", error.what) if strange else refused(error))

    @app.post("/events")
    async def events(request: Request) -> dict[str, int]:
        if doors.class_key and not _same(key_of(request), doors.class_key):
            raise Refused(401, "key", "the class's key is wrong", "ask your instructor")
        # Another site's page may only send this content type if this server allows it, which it does not.
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            raise Refused(415, "content_type", "send application/json", "labkit classroom join")
        return {"new": await writer.take(_report(await body_of(request, MAX_BODY)))}

    @app.get("/")
    async def page(request: Request, token: str = "") -> Response:
        if token and _same(token, doors.token):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
            return answer
        return FileResponse(PAGE / ("page.html" if _instructor(request, doors) else "closed.html"))

    @app.get("/summary")
    async def summary(request: Request) -> Response:
        if not _instructor(request, doors):
            raise Refused(401, "token", "only the instructor may look", "open the address that serve printed")
        return JSONResponse(await run_in_threadpool(board.summary))

    @app.get("/{name}")
    async def file(name: str) -> FileResponse:
        if name not in FILES:
            raise Refused(404, "not_found", "there is nothing here", "/")
        return FileResponse(PAGE / name)

    return app


class Writer:
    """Write what has come in the meantime together: a hundred students at once cost a few flushes to disk."""

    def __init__(self, board: Board) -> None:
        self.board, self.waiting = board, list[tuple[dict[str, Any], asyncio.Future[int]]]()
        self.task: asyncio.Task[None] | None = None

    async def take(self, report: dict[str, Any]) -> int:
        """Return how many events of a report were new, once it is on the disk."""
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.waiting.append((report, done))
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self._write())
        return await done

    async def _write(self) -> None:
        while self.waiting:
            now, self.waiting = self.waiting, []
            found: Sequence[int | LabkitError]
            try:
                found = await run_in_threadpool(self.board.take_all, [report for report, _ in now])
            except LabkitError as error:  # a full disk: nobody's batch is written
                found = [error] * len(now)
            for (_, done), one in zip(now, found, strict=True):
                if not done.done():
                    done.set_result(one) if isinstance(one, int) else done.set_exception(one)


def _report(body: bytes) -> dict[str, Any]:
    try:
        report: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(422, "no_json", "that is no JSON") from None
    return report if isinstance(report, dict) else {}


def _instructor(request: Request, doors: Doors) -> bool:
    return _same(request.cookies.get(COOKIE, ""), doors.token)


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())
