"""Is an answer the expected one? By structure, as BFCL's AST match does, never by how the JSON is written.

Calls: as many, in the same order, each with the same name, argument names, values and types. Prose beside a
call is not looked at. Text: the same after strip; where a JSON object or list is expected, the same JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from labkit.engines.toolcalls import OPEN
from labkit.types import Reply, Tool


def matches(expected: Mapping[str, Any], reply: Reply, tools: Sequence[Tool] = ()) -> bool:
    """Return whether the reply is the expected one; the tools' schemas say where 1 and 1.0 are the same."""
    return not why(expected, reply, tools)


def why(expected: Mapping[str, Any], reply: Reply, tools: Sequence[Tool] = ()) -> str:
    """Return the first thing that is wrong in a word or two, or "" for a hit.

    no call, missing call, extra call, wrong tool, missing argument, extra argument, wrong value, wrong text,
    unparsable. A key of a JSON answer counts as an argument.
    """
    wanted, got = expected.get("tool_calls"), reply.tool_calls
    if not wanted:
        tried = got or (OPEN in reply.text and OPEN not in expected["content"])
        return "extra call" if tried else _text(expected["content"].strip(), reply.text.strip())
    if OPEN in reply.text:
        return "unparsable"
    if len(got) != len(wanted):
        return "no call" if not got else "missing call" if len(got) < len(wanted) else "extra call"
    schemas = {tool["function"]["name"]: tool["function"].get("parameters") for tool in tools}
    for want, call in zip(wanted, got, strict=True):
        if want["name"] != call.name:
            return "wrong tool"
        if problem := _values(want["arguments"], call.arguments, schemas.get(call.name)):
            return problem
    return ""


def same(want: object, got: object, schema: object = None) -> bool:
    """Compare two JSON values: types count (true is not 1, "1" is not 1), lists in order, keys in any order.

    1 and 1.0 are the same only where the schema says number. Text is compared as it is, not normalised.
    """
    schema = schema if isinstance(schema, Mapping) else {}
    if isinstance(want, dict) and isinstance(got, dict):
        return not _values(want, got, schema)
    if isinstance(want, list) and isinstance(got, list):
        items = schema.get("items")
        return len(want) == len(got) and all(same(a, b, items) for a, b in zip(want, got, strict=True))
    kinds = {type(want), type(got)}
    number = kinds == {int, float} and "number" in (schema.get("type") or ())  # a name, or a list of names
    return (number or len(kinds) == 1) and want == got


def _values(want: Mapping[str, Any], got: Mapping[str, Any], schema: object) -> str:
    known = schema.get("properties") if isinstance(schema, Mapping) else None
    inner = known if isinstance(known, Mapping) else {}
    if want.keys() - got.keys():
        return "missing argument"
    if got.keys() - want.keys():
        return "extra argument"
    return "" if all(same(want[key], got[key], inner.get(key)) for key in want) else "wrong value"


def _text(want: str, got: str) -> str:
    data = _json(want)
    if not isinstance(data, dict | list):
        return "" if want == got else "wrong text"
    answer = _json(got)
    if answer is None:
        return "unparsable"
    if isinstance(data, dict) and isinstance(answer, dict):
        return _values(data, answer, None)
    return "" if same(data, answer) else "wrong value"


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
