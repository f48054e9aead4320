"""Carry requests, values and calls between a student's notebook and the process that judges it.

Both ends send JSON over one socket, and while an end waits for an answer it serves the calls of the other one. The end
that judges trusts nothing that comes in: sizes are bounded, values are rebuilt by `values.py`, and what breaks the
rules ends the talk (`Hangup`).
"""

from __future__ import annotations

import asyncio
import builtins
import inspect
import json
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from labkit import errors
from labkit.checks.core import Wrong
from labkit.classroom.grading.values import Unreadable, Values

MOST_BYTES = 16 * 2**20  # a message


class Hangup(BaseException):
    """The other end is gone or broke the rules. No check can catch it, for none is meant to go on."""


class Faraway(Exception):
    """An exception of the other end that has no counterpart here."""


class Wire(Values):
    """One end. `load_model` makes it the one that judges."""

    def __init__(self, end: socket.socket, load_model: Callable[..., Any] | None = None) -> None:
        super().__init__(load_model)
        self._file = end.makefile("rwb")
        self._raised: BaseException | None = None

    def close(self) -> None:
        """Let go of the socket."""
        with suppress(OSError):
            self._file.close()

    def send(self, message: dict[str, Any]) -> None:
        """Send one message; raise `Hangup` if nobody takes it."""
        try:
            data = json.dumps(message).encode()
            if len(data) > MOST_BYTES:
                text = f"an answer of {len(data):,} bytes; {MOST_BYTES:,} can travel"
                data = json.dumps({"error": "OverflowError", "text": text}).encode()
            self._file.write(struct.pack(">I", len(data)) + data)
            self._file.flush()
        except (OSError, ValueError) as exc:
            raise Hangup("the other end takes nothing") from exc

    def receive(self) -> dict[str, Any]:
        """Wait for one message; raise `Hangup` if none comes or it is none."""
        try:
            size = struct.unpack(">I", self._file.read(4))[0]
            message = json.loads(self._file.read(size)) if size <= MOST_BYTES else None
        except (OSError, ValueError, RecursionError, MemoryError, struct.error) as exc:
            raise Hangup("the other end ended, or spoke nonsense") from exc
        if not isinstance(message, dict):
            raise Hangup("the other end spoke nonsense")
        return message

    def ask(self, message: dict[str, Any]) -> Any:
        """Send a request and return its answer, serving what the other end asks meanwhile."""
        self.send(message)
        while "call" in (answer := self.receive()):
            self.serve(answer)
        if self._raised:  # by a function of this end: no code over there can hide it
            raised, self._raised = self._raised, None
            raise raised
        if "error" in answer:
            _raise(str(answer["error"]), str(answer.get("text", ""))[:500])
        try:
            return self.decode(answer.get("value"))
        except Unreadable as exc:
            raise Hangup(f"the other end sent what is no value ({exc})") from exc

    def call(self, number: int, args: list[Any], named: dict[str, Any]) -> Any:
        """Call a function of the other end."""
        return self.ask({"call": number, "args": self.encode(args), "named": self.encode(named)})

    def serve(self, message: dict[str, Any]) -> None:
        """Call what the other end asks for, and answer with its value or its error."""
        try:
            function = self.lent[message["call"]]
            args, named = self.decode(message["args"]), self.decode(message["named"])
            answer = {"value": self.encode(_finished(function(*args, **named)))}
        except Exception as exc:
            if isinstance(exc, Wrong) and self.load_model:
                self._raised = exc
            text = exc.what if isinstance(exc, errors.LabkitError) else str(exc)
            answer = {"error": type(exc).__name__, "text": text[:500]}
        self.send(answer)


def _finished(value: Any) -> Any:
    """Wait for a coroutine, in a thread of its own: this one's loop is busy with the call."""
    if not inspect.iscoroutine(value):
        return list(value) if inspect.isgenerator(value) else value
    done: list[Any] = []

    def wait() -> None:
        try:
            done.append(asyncio.run(value))
        except Exception as exc:
            done.append(exc)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    if isinstance(done[0], Exception):
        raise done[0]
    return done[0]


def _raise(name: str, text: str) -> NoReturn:
    """Raise the other end's exception: Python's or labkit's own of that name, if there is one."""
    kind = getattr(builtins, name, None) or getattr(errors, name, None)
    error: Exception = Faraway(f"{name}: {text}")
    if isinstance(kind, type) and issubclass(kind, Exception) and kind is not StopIteration:
        with suppress(TypeError):  # UnicodeDecodeError, for one, wants more than a text
            error = kind(text)
    raise error
