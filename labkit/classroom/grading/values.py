"""Turn values into what JSON can hold and back, without running what a stranger wrote.

Plain data travels whole: numbers (and numpy's, and arrays of them), texts, lists, tuples, sets, dicts. A dataclass or
named tuple of labkit's is rebuilt field by field, and none of its code runs for that; one that labkit itself keeps in
a module travels by name. A function stays where it is: the other end gets one of the same name, signature and
docstring that calls it from afar. A model is replaced by the judge's own copy. All else arrives as `Opaque`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, KeysView, Mapping, ValuesView
from collections.abc import Set as AnySet
from numbers import Integral, Real
from typing import Any

import numpy as np

from labkit.classroom.grading import shapes
from labkit.engines.base import Model

DEEPEST = 40
NUMBERS = "biufc"  # numpy's kinds of number: bool, int, unsigned, float, complex
METHODS = ("chat", "stream", "score", "tokenize", "close")  # what a function under test may ask of a model


class Unreadable(Exception):
    """What came in is no value."""


class Opaque:
    """Stand for something that cannot travel."""

    def __init__(self, kind: str) -> None:
        self.kind = kind[:80]

    def __repr__(self) -> str:
        return f"<{self.kind}, which cannot leave its notebook>"


class Values:
    """Encode and decode at one end. `load_model`, which only the judge has, finds its own copy of a model."""

    def __init__(self, load_model: Callable[..., Any] | None = None) -> None:
        self.load_model = load_model
        self.lent: list[Any] = []  # what this end lets the other one call
        self.opaque = False  # whether something could not travel

    def call(self, number: int, args: list[Any], named: dict[str, Any]) -> Any:
        """Call a function of the other end."""
        raise NotImplementedError

    def encode(self, value: Any, depth: int = 0) -> Any:
        """Return a value as what JSON can hold."""
        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            return value
        if depth > DEEPEST:
            return self._opaque("something nested too deeply")
        plain = isinstance(value, tuple | AnySet | ValuesView | range) and not hasattr(value, "_fields")
        if kind is list or plain:
            items = [self.encode(item, depth + 1) for item in value]
            a_set = isinstance(value, AnySet | KeysView)
            name = "tuple" if isinstance(value, tuple) else "set" if a_set else ""
            return {"$": name, "of": items} if name else items
        if isinstance(value, Mapping):
            pairs = [[self.encode(k, depth + 1), self.encode(v, depth + 1)] for k, v in value.items()]
            return {"$": "dict", "of": pairs}
        return self._encode_rest(value, depth)

    def _encode_rest(self, value: Any, depth: int) -> Any:
        if value is ...:
            return {"$": "unsolved"}
        if isinstance(value, str):  # numpy's, say
            return str(value)
        if isinstance(value, bytes):
            return {"$": "bytes", "of": value.hex()}
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in NUMBERS:
            array = np.asarray(value)
            return {"$": "array", "dtype": array.dtype.str, "shape": array.shape, "of": array.tobytes().hex()}
        if isinstance(value, Real):
            return int(value) if isinstance(value, Integral) else float(value)
        if isinstance(value, Model):
            return self._model(value)
        if name := shapes.constant_name(value):
            return {"$": "constant", "of": name}
        if shapes.record_class(type(value).__module__, type(value).__qualname__) is type(value):
            fields = {
                name: self.encode(getattr(value, name, None), depth + 1) for name in _fields(type(value))
            }
            return {"$": "record", "class": [type(value).__module__, type(value).__qualname__], "of": fields}
        if callable(value) and not isinstance(value, type):
            return self._function(value)
        return self._opaque(f"a {type(value).__qualname__}")

    def _model(self, model: Model) -> Any:
        if self.load_model is None:
            return {"$": "model", "of": [model.card.alias, model.engine.name, model.variant]}
        methods = {name: self._function(getattr(model, name)) for name in METHODS if hasattr(model, name)}
        return {"$": "object", "of": methods}

    def _function(self, function: Any) -> Any:
        theirs = getattr(function, "labkit_faraway", None)
        if isinstance(theirs, int):
            return {"$": "yours", "of": theirs}
        self.lent.append(function)
        return {"$": "function", "of": len(self.lent) - 1, **shapes.written(function)}

    def _opaque(self, kind: str) -> Any:
        self.opaque = True
        return {"$": "opaque", "of": kind}

    def decode(self, coded: Any) -> Any:
        """Rebuild a value; raise `Unreadable` if it is none."""
        try:
            return self._decode(coded)
        except (LookupError, ValueError, TypeError, AttributeError, RecursionError, MemoryError) as exc:
            raise Unreadable(type(exc).__name__) from exc

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
        if kind == "unsolved":
            return ...
        return bytes.fromhex(of) if kind == "bytes" else self._decode_rest(kind, of, coded)

    def _decode_rest(self, kind: str, of: Any, coded: dict[str, Any]) -> Any:
        if kind == "record":
            return self._record(shapes.record_class(*coded["class"]), of)
        if kind == "constant":
            return shapes.constant(*of)
        if kind == "function":
            return self._proxy(coded)
        if kind == "yours":
            return self.lent[of]
        if kind == "object" and not self.load_model:  # a judge takes no other model for its own
            return type(
                "Model", (), {name: staticmethod(self._decode(value)) for name, value in of.items()}
            )()
        if kind == "model" and self.load_model and (model := self.load_model(*map(str, of))):
            return model
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
            return self.call(number, list(args), named)

        async def awaited(*args: Any, **named: Any) -> Any:
            return self.call(number, list(args), named)

        made: Any = awaited if coded.get("async") else faraway
        made.labkit_faraway = number
        made.__name__ = made.__qualname__ = str(coded["name"])
        made.__doc__ = None if coded["doc"] is None else str(coded["doc"])
        if (parameters := coded["parameters"]) is not None:
            made.__signature__ = inspect.Signature([shapes.parameter_of(each) for each in parameters])
            hints = {each["name"]: each["hint"] for each in parameters} | {"return": coded["returns"]}
            made.__annotations__ = {name: shapes.annotation(hint) for name, hint in hints.items() if hint}
        return made  # type: ignore[no-any-return]


def _fields(kind: type) -> tuple[str, ...]:
    if issubclass(kind, tuple):
        return tuple(getattr(kind, "_fields", ()))
    return tuple(field.name for field in dataclasses.fields(kind))  # type: ignore[arg-type]


def _dtype(name: Any) -> np.dtype[Any]:
    dtype = np.dtype(str(name))
    if dtype.kind not in NUMBERS:
        raise ValueError(f"an array of {dtype}")
    return dtype
