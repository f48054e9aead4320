"""Say how a function looks from outside, and which classes may be rebuilt, without running what a stranger wrote."""

from __future__ import annotations

import ast
import dataclasses
import enum
import functools
import importlib
import inspect
import pkgutil
import sys
import typing
from collections.abc import Callable
from typing import Any

import labkit

HINTS: dict[str, Any] = {
    kind.__name__: kind for kind in (str, int, float, bool, list, dict, tuple, set, bytes)
}
HINTS |= {name: getattr(typing, name) for name in ("Any", "Literal", "Optional", "Union", "Annotated")}
NODES = (ast.Expression, ast.Name, ast.Subscript, ast.Tuple, ast.Constant, ast.BinOp, ast.BitOr, ast.Load)
LONGEST = 500  # characters of a hint


def written(function: Callable[..., Any]) -> dict[str, Any]:
    """Describe a function: name, docstring, parameters with their hints as text, and whether it is awaited."""
    about: dict[str, Any] = {
        "name": str(getattr(function, "__name__", "function")),
        "doc": inspect.getdoc(function),
        "async": inspect.iscoroutinefunction(function),
        "parameters": None,
        "returns": "",
    }
    try:
        signature = inspect.signature(function, eval_str=True)
    except (ValueError, TypeError, NameError, SyntaxError):
        return about
    about["parameters"] = [_parameter(p) for p in signature.parameters.values()]
    about["returns"] = _hint(signature.return_annotation)
    return about


def _parameter(parameter: inspect.Parameter) -> dict[str, Any]:
    default = parameter.default
    plain = default is None or type(default) in (bool, int, float, str)
    return {
        "name": parameter.name,
        "kind": int(parameter.kind),
        "hint": _hint(parameter.annotation),
        "optional": default is not parameter.empty,
        "default": default if plain else None,
    }


def _hint(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return ""
    if isinstance(value, enum.EnumMeta):  # a class of the student's own: what it admits is what counts
        values: list[enum.Enum] = list(value)
        return f"Literal[{', '.join(repr(each.value) for each in values)}]"
    return inspect.formatannotation(value).replace("typing.", "")


def parameter_of(coded: dict[str, Any]) -> inspect.Parameter:
    """Rebuild one parameter; a default that is no plain value is told as None."""
    empty, default = inspect.Parameter.empty, coded["default"]
    if not (default is None or isinstance(default, bool | int | float | str)):
        raise TypeError("a default that is no plain value")
    return inspect.Parameter(
        str(coded["name"]),
        inspect._ParameterKind(coded["kind"]),
        default=default if coded["optional"] else empty,
        annotation=annotation(coded["hint"]) if coded["hint"] else empty,
    )


def annotation(text: str) -> Any:
    """Return the type that a hint names; `Any` for one that is not made of Python's plain types."""
    try:
        tree = ast.parse(text[:LONGEST], mode="eval")
        nodes = list(ast.walk(tree))
        if all(isinstance(node, NODES) for node in nodes):
            return eval(compile(tree, "hint", "eval"), {"__builtins__": {}}, HINTS)
    except (SyntaxError, NameError, TypeError, ValueError, RecursionError, MemoryError):
        pass
    return Any


@functools.cache
def _modules() -> frozenset[str]:
    found = pkgutil.walk_packages(labkit.__path__, "labkit.", onerror=lambda name: None)
    barred = ("cli", "widgets", "classroom")
    names = (module.name for module in found)
    return frozenset(
        n for n in names if n.split(".")[1] not in barred and not n.endswith(("__main__", "_worker"))
    )


def record_class(module: str, name: str) -> type | None:
    """Return a dataclass or named tuple of labkit's by name, or None: no other class is ever rebuilt."""
    if module not in _modules():
        return None
    kind: Any = sys.modules.get(module) or importlib.import_module(module)
    for part in str(name).split("."):
        kind = vars(kind).get(part) if hasattr(kind, "__dict__") else None
    if not isinstance(kind, type) or kind.__module__ != module:
        return None
    named = issubclass(kind, tuple) and hasattr(kind, "_fields")
    return kind if named or dataclasses.is_dataclass(kind) else None


def constant_name(value: Any) -> list[str]:
    """Return the module and name under which labkit itself keeps this very object, or nothing."""
    module = type(value).__module__
    if module not in _modules() or not dataclasses.is_dataclass(value):
        return []
    for name in sorted(_modules() & sys.modules.keys()):
        for key, kept in vars(sys.modules[name]).items():
            if kept is value:
                return [name, key]
    return []


def constant(module: str, name: str) -> Any:
    """Return a dataclass that labkit keeps under this name."""
    if module not in _modules():
        raise TypeError(f"{module!r:.60} keeps no constants")
    value = vars(importlib.import_module(module))[name]
    if isinstance(value, type) or record_class(type(value).__module__, type(value).__qualname__) is None:
        raise TypeError(f"{name!r:.60} is no dataclass")
    return value
