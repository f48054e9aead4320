"""Carry values and calls between the process of a student's notebook and the one that judges it.

Both ends talk JSON over one socket. A value is plain data, a number array, or a dataclass of labkit's, whose
fields are set without running any of its code. A function stays where it is: the other end gets one of the same
name, signature and docstring that calls it through the wire. Whatever else there is arrives as `Opaque`, which
nothing can be done with.

The end that judges trusts nothing that comes in: sizes are bounded, classes and types of arrays come from a fixed
list, and an answer that breaks the rules ends the talk (`Hangup`).
"""

from __future__ import annotations

import asyncio
import builtins
import dataclasses
import inspect
import json
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from labkit import errors
from labkit.checks.core import Wrong
from labkit.classroom.grading.shapes import annotation, parameter_of, record_class, written
from labkit.engines.base import Model

MOST_BYTES = 16 * 2**20  # a message
DEEPEST = 40
NUMBERS = "biufc"  # numpy's kinds of number: bool, int, unsigned, float, complex
METHODS = ("chat", "stream", "score", "tokenize", "close")  # what a function under test may ask of a model


class Hangup(BaseException):
    """The other end is gone or broke the rules. No check can catch it, for none is meant to go on."""


class Faraway(Exception):
    """An exception of the other end that has no counterpart here."""


class Opaque:
    """Stand for something that cannot travel."""

    def __init__(self, kind: str) -> None:
        self.kind = kind[:80]

    def __repr__(self) -> str:
        return f"<{self.kind}, which cannot leave its notebook>"


class Wire:
    """One end. `load_model` gives the end that judges its own model for one that a notebook names."""

    def __init__(self, end: socket.socket, load_model: Callable[..., Any] | None = None) -> None:
        self._file = end.makefile("rwb")
        self._load_model = load_model
        self._lent: list[Any] = []  # what this end lets the other one call
        self._raised: BaseException | None = None
        self.opaque = False

    def send(self, message: dict[str, Any]) -> None:
        """Send one message; raise `Hangup` if nobody takes it."""
        try:
            data = json.dumps(message).encode()
            if len(data) > MOST_BYTES:
                data = json.dumps(
                    {"error": "OverflowError", "text": f"an answer of {len(data):,} bytes"}
                ).encode()
            self._file.write(struct.pack(">I", len(data)) + data)
            self._file.flush()
        except (OSError, ValueError) as exc:
            raise Hangup("the other end takes nothing") from exc

    def receive(self) -> dict[str, Any]:
        """Wait for one message; raise `Hangup` if none comes or it is none."""
        try:
            head = self._file.read(4)
            size = struct.unpack(">I", head)[0]
            message = json.loads(self._file.read(size)) if size <= MOST_BYTES else None
        except (OSError, ValueError, RecursionError, struct.error) as exc:
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
        return self.decode(answer.get("value"))

    def serve(self, message: dict[str, Any]) -> None:
        """Call what the other end asks for, and answer with its value or its error."""
        try:
            function = self._lent[message["call"]]
            args, named = self.decode(message["args"]), self.decode(message["named"])
            answer = {"value": self.encode(_finished(function(*args, **named)))}
        except Exception as exc:
            if isinstance(exc, Wrong) and self._load_model:
                self._raised = exc
            text = exc.what if isinstance(exc, errors.LabkitError) else str(exc)
            answer = {"error": type(exc).__name__, "text": text[:500]}
        self.send(answer)

    def encode(self, value: Any, depth: int = 0) -> Any:
        """Return a value as what JSON can hold."""
        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            return value
        if depth > DEEPEST:
            return self._opaque("something nested too deeply")
        if kind is list or (isinstance(value, tuple | set | frozenset) and not hasattr(value, "_fields")):
            items = [self.encode(item, depth + 1) for item in value]
            return (
                items if kind is list else {"$": "tuple" if isinstance(value, tuple) else "set", "of": items}
            )
        if isinstance(value, dict):
            pairs = [[self.encode(k, depth + 1), self.encode(v, depth + 1)] for k, v in value.items()]
            return {"$": "dict", "of": pairs}
        return self._encode_rest(value, depth)

    def _encode_rest(self, value: Any, depth: int) -> Any:
        if value is ...:
            return {"$": "unsolved"}
        if isinstance(value, bytes):
            return {"$": "bytes", "of": value.hex()}
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in NUMBERS:
            array = np.asarray(value)
            return {"$": "array", "dtype": array.dtype.str, "shape": array.shape, "of": array.tobytes().hex()}
        if isinstance(value, Model):
            return self._model(value)
        if record_class(type(value).__module__, type(value).__qualname__) is type(value):
            pairs = {
                name: self.encode(getattr(value, name, None), depth + 1) for name in _fields(type(value))
            }
            return {"$": "record", "class": [type(value).__module__, type(value).__qualname__], "of": pairs}
        if callable(value) and not isinstance(value, type):
            return self._function(value)
        return self._opaque(f"a {type(value).__qualname__}")

    def _model(self, model: Model) -> Any:
        if self._load_model is None:
            return {"$": "model", "of": [model.card.alias, model.engine.name, model.variant]}
        methods = {name: self._function(getattr(model, name)) for name in METHODS if hasattr(model, name)}
        return {"$": "object", "of": methods}

    def _function(self, function: Any) -> Any:
        theirs = getattr(function, "labkit_faraway", None)
        if isinstance(theirs, int):
            return {"$": "yours", "of": theirs}
        self._lent.append(function)
        return {"$": "function", "of": len(self._lent) - 1, **written(function)}

    def _opaque(self, kind: str) -> Any:
        self.opaque = True
        return {"$": "opaque", "of": kind}

    def decode(self, coded: Any) -> Any:
        """Rebuild a value; raise `Hangup` if it is none."""
        try:
            return self._decode(coded)
        except (
            KeyError,
            ValueError,
            TypeError,
            IndexError,
            AttributeError,
            RecursionError,
            SyntaxError,
        ) as exc:
            raise Hangup(f"the other end sent what is no value ({type(exc).__name__})") from exc

    def _decode(self, coded: Any) -> Any:
        if isinstance(coded, list):
            return [self._decode(item) for item in coded]
        if not isinstance(coded, dict):
            return coded
        kind, of = coded["$"], coded.get("of", ())
        if kind in ("tuple", "set"):
            return (tuple if kind == "tuple" else set)(self._decode(item) for item in of)
        if kind == "dict":
            return {self._decode(key): self._decode(value) for key, value in of}
        if kind == "array":
            array = np.frombuffer(bytes.fromhex(of), _dtype(coded["dtype"])).reshape(coded["shape"]).copy()
            return array if array.shape else array[()]
        return self._decode_rest(kind, of, coded)

    def _decode_rest(self, kind: str, of: Any, coded: dict[str, Any]) -> Any:
        if kind == "unsolved":
            return ...
        if kind == "bytes":
            return bytes.fromhex(of)
        if kind == "record":
            return self._record(record_class(*coded["class"]), of)
        if kind == "function":
            return self._proxy(coded)
        if kind == "yours":
            return self._lent[of]
        if kind == "model" and self._load_model and (model := self._load_model(*map(str, of))):
            return model
        if kind == "object":
            return type(
                "Model", (), {name: staticmethod(self._decode(value)) for name, value in of.items()}
            )()
        self.opaque = True
        return Opaque(str(of))

    def _record(self, kind: type | None, of: dict[str, Any]) -> Any:
        if kind is None:
            raise TypeError("no such class")
        if issubclass(kind, tuple):
            return tuple.__new__(kind, [self._decode(of[name]) for name in _fields(kind)])
        made = object.__new__(kind)
        for name in _fields(kind):
            object.__setattr__(made, name, self._decode(of[name]))
        return made

    def _proxy(self, coded: dict[str, Any]) -> Callable[..., Any]:
        number = int(coded["of"])

        def faraway(*args: Any, **named: Any) -> Any:
            return self.ask({"call": number, "args": self.encode(list(args)), "named": self.encode(named)})

        async def awaited(*args: Any, **named: Any) -> Any:
            return faraway(*args, **named)

        made: Any = awaited if coded.get("async") else faraway
        made.labkit_faraway = number
        made.__name__ = made.__qualname__ = str(coded["name"])
        made.__doc__ = None if coded["doc"] is None else str(coded["doc"])
        if (parameters := coded["parameters"]) is not None:
            made.__signature__ = inspect.Signature([parameter_of(p, self._decode) for p in parameters])
            hints = {p["name"]: annotation(p["hint"]) for p in parameters if p["hint"]}
            made.__annotations__ = hints | (
                {"return": annotation(coded["returns"])} if coded["returns"] else {}
            )
        return made  # type: ignore[no-any-return]


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


def _fields(kind: type) -> tuple[str, ...]:
    if issubclass(kind, tuple):
        return tuple(getattr(kind, "_fields", ()))
    return tuple(field.name for field in dataclasses.fields(kind))  # type: ignore[arg-type]


def _dtype(name: Any) -> np.dtype[Any]:
    dtype = np.dtype(str(name))
    if dtype.kind not in NUMBERS:
        raise ValueError(f"an array of {dtype}")
    return dtype


def _raise(name: str, text: str) -> NoReturn:
    """Raise the other end's exception: Python's or labkit's own of that name, if there is one."""
    kind = getattr(builtins, name, None) or getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and kind is not StopIteration:
        try:
            error = kind(text)
        except TypeError:  # UnicodeDecodeError, for one, wants more than a text
            error = Faraway(f"{name}: {text}")
        raise error
    raise Faraway(f"{name}: {text}")
