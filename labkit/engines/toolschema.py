"""Turn a Python function into an OpenAI tool: type hints become a JSON schema, the docstring its words.

Ready-made tool dicts pass through after a check. This module never calls a tool.
"""

from __future__ import annotations

import enum
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from labkit.errors import OptionInvalid
from labkit.types import Tool

NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$")
SCALARS: dict[object, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
ARGUMENT_LINE = re.compile(r"^\s*(?::param\s+)?(\w+)\s*(?:\([^)]*\))?\s*:\s*(.+)$")


def tool_schemas(tools: Sequence[Tool | Callable[..., Any]]) -> list[Tool]:
    """Return OpenAI tool dicts for functions and dicts alike; raise `OptionInvalid` on anything else."""
    if callable(tools) or isinstance(tools, str | Mapping):
        raise OptionInvalid("tools must be a list", fix="tools=[get_weather], with brackets")
    schemas = [tool_schema(t) if callable(t) else _checked(t) for t in tools]
    names = [schema["function"]["name"] for schema in schemas]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise OptionInvalid(f"two tools are named {twice.pop()!r}", fix="give each tool its own name")
    return schemas


def tool_schema(function: Callable[..., Any]) -> Tool:
    """Describe one function. Its first docstring line is the description; parameters need type hints."""
    name = getattr(function, "__name__", "")
    if not NAME.match(name):
        raise OptionInvalid(f"a tool cannot be named {name!r}", fix="write it as a def with a plain name")
    text = inspect.getdoc(function) or ""
    words = argument_texts(text)
    hints = typing.get_type_hints(function, include_extras=True)
    properties: dict[str, Any] = {}
    required = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise OptionInvalid(f"{name} takes *{parameter.name}", fix="name every parameter of a tool")
        if parameter.name not in hints:
            raise OptionInvalid(
                f"parameter {parameter.name!r} of {name} has no type", fix=f"{parameter.name}: str"
            )
        schema = json_schema(hints[parameter.name])
        if parameter.name in words:
            schema.setdefault("description", words[parameter.name])
        properties[parameter.name] = schema
        if parameter.default is parameter.empty:
            required.append(parameter.name)
    parameters = {"type": "object", "properties": properties, "required": required}
    description = text.strip().split("\n\n")[0].replace("\n", " ")
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


def call_schema(tools: Sequence[Tool]) -> dict[str, Any]:
    """Return the JSON schema of a call of one of the tools: {"name": …, "arguments": {…}}."""
    calls = []
    for tool in tools:
        function = tool["function"]
        calls.append(
            {
                "type": "object",
                "properties": {
                    "name": {"const": function["name"]},
                    "arguments": function.get("parameters") or {"type": "object", "properties": {}},
                },
                "required": ["name", "arguments"],
            }
        )
    return {"oneOf": calls} if len(calls) > 1 else calls[0]


def argument_texts(docstring: str) -> dict[str, str]:
    """Read argument descriptions from a Google-style `Args:` block or from `:param x:` lines."""
    found: dict[str, str] = {}
    inside = False
    for line in docstring.splitlines():
        if line.strip() in ("Args:", "Arguments:", "Parameters:"):
            inside = True
        elif inside and line.strip() and not line.startswith((" ", "\t")):
            inside = False
        elif inside or line.lstrip().startswith(":param"):
            match = ARGUMENT_LINE.match(line)
            if match:
                found[match[1]] = match[2].strip()
    return found


def json_schema(hint: Any) -> dict[str, Any]:
    """Return the JSON schema of a type hint: scalars, Literal, Enum, list, dict, Optional, Annotated."""
    if hint in SCALARS:
        return {"type": SCALARS[hint]}
    origin, args = get_origin(hint), get_args(hint)
    if origin is typing.Annotated:
        schema = json_schema(args[0])
        texts = [a for a in args[1:] if isinstance(a, str)]
        return schema | ({"description": texts[0]} if texts else {})
    if origin is Literal:
        return {"type": SCALARS[type(args[0])], "enum": list(args)}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        values = [member.value for member in hint]
        return {"type": SCALARS[type(values[0])], "enum": values}
    if origin in (Union, types.UnionType):
        inner = [a for a in args if a is not type(None)]
        if len(inner) == 1:
            return json_schema(inner[0])
    if hint is list or origin is list:
        return {"type": "array", "items": json_schema(args[0])} if args else {"type": "array"}
    if hint is dict or origin is dict:
        return {"type": "object"}
    raise OptionInvalid(
        f"no JSON schema for the type {hint!r}", fix="use str, int, float, bool, Literal, list or dict"
    )


def _checked(tool: object) -> Tool:
    """Return a ready-made tool in the one form that every engine is given."""
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise OptionInvalid(
            f"not a tool: {repr(tool)[:80]}",
            fix='pass a function, or {"type": "function", "function": {"name": …, "parameters": …}}',
        )
    if not NAME.match(function["name"]):
        raise OptionInvalid(f"a tool cannot be named {function['name'][:80]!r}", fix="letters, digits, _ - .")
    parameters = function.get("parameters", {"type": "object", "properties": {}})
    if not isinstance(parameters, Mapping) or not isinstance(parameters.get("properties", {}), Mapping):
        raise OptionInvalid(
            f"tool {function['name']!r} has no object schema", fix='"parameters": {"type": "object", …}'
        )
    # Some servers leave out a missing description and some write an empty one: with one, a model reads the same
    # prompt on every engine.
    description = function.get("description") or ""
    written = {"name": function["name"], "description": description, "parameters": dict(parameters)}
    return {"type": "function", "function": {**written, **function, **written}}
