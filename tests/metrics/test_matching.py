"""What counts as the expected answer, on pairs that are easy to confuse."""

import itertools
import json
import random
from typing import Any

import pytest

from labkit.metrics.matching import matches, same, why
from labkit.types import Reply, Timing, ToolCall, Usage

NUMBER, INTEGER = {"type": "number"}, {"type": "integer"}


def says(text: str, *calls: tuple[str, dict[str, Any]]) -> Reply:
    made = tuple(ToolCall(name, arguments, f"call_{i}") for i, (name, arguments) in enumerate(calls))
    return Reply(text, made, "stop", Usage(1, 1), Timing((), 0, 0.0))


def wants(*calls: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": arguments} for name, arguments in calls]}


def tool(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TRICKY = [
    *(0, 1, 1.0, 1.5, "1", "1.0", True, False, None, "", " ", "true", "null", [], {}, [1], [1.0], ["1"], [True]),
    *([1, 2], [2, 1], [[1, 2]], {"a": 1}, {"a": "1"}, {"a": None}, {"b": 1}, {"a": {"a": 1}}, {"a": [1]}),
    *("é", "e\u0301", "É", "ﬁ", "fi", "K", "\u212a", "a b", "a\u00a0b", "東京", "a ", "-0", 10**20, "1e20"),
]  # fmt: skip


@pytest.mark.parametrize(
    "schema", [None, {}, INTEGER, {"type": "string"}, {"type": None}, {"items": 3}, "odd"]
)
def test_no_two_different_values_are_the_same(schema: object) -> None:
    for (i, a), (j, b) in itertools.product(enumerate(TRICKY), repeat=2):
        assert same(a, b, schema) == (i == j), (a, b)


def test_one_and_one_point_nothing_are_the_same_where_the_schema_says_number() -> None:
    assert same(1, 1.0, NUMBER) and same(1.0, 1, NUMBER) and same(2, 2.0, {"type": ["number", "null"]})
    assert not same(1, 1.5, NUMBER) and not same(2**53 + 1, float(2**53), NUMBER)
    for other in ("1", True, None, [1]):
        assert not same(1, other, NUMBER) and not same(other, 1.0, NUMBER)


def test_the_schema_is_followed_into_lists_and_objects() -> None:
    deep = {"type": "object", "properties": {"rows": {"type": "array", "items": NUMBER}, "n": INTEGER}}
    assert same({"rows": [1, 2.0], "n": 1}, {"n": 1, "rows": [1.0, 2]}, deep)
    assert not same({"rows": [1], "n": 1}, {"rows": [1], "n": 1.0}, deep)
    assert not same({"rows": [1, 2], "n": 1}, {"rows": [2, 1], "n": 1}, deep)


def made_up(rng: random.Random, depth: int = 3) -> Any:
    kind = rng.randrange(8 if depth else 6)
    if kind == 6:
        return [made_up(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind == 7:
        return {rng.choice("abcdé"): made_up(rng, depth - 1) for _ in range(rng.randrange(4))}
    return (rng.randrange(9), rng.random(), "x" * rng.randrange(3), rng.random() < 0.5, None, 'é\n"\\')[kind]


def shuffled(rng: random.Random, value: Any) -> Any:
    if isinstance(value, dict):
        keys = rng.sample(list(value), len(value))
        return {key: shuffled(rng, value[key]) for key in keys}
    return [shuffled(rng, item) for item in value] if isinstance(value, list) else value


def spoilt(rng: random.Random, value: Any) -> Any:
    """Change a value in one place."""
    if isinstance(value, dict) and value:
        key = rng.choice(list(value))
        rest = {k: v for k, v in value.items() if k != key}
        return rng.choice((rest, value | {"new": 1}, rest | {key: spoilt(rng, value[key])}))
    if isinstance(value, list) and value:
        at = rng.randrange(len(value))
        return rng.choice(
            (value[:-1], [*value, value[-1]], [*value[:at], spoilt(rng, value[at]), *value[at + 1 :]])
        )
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        return value + " "
    return "null" if value is None else {} if value == [] else [] if value == {} else str(value)


def test_any_order_of_keys_matches_and_any_change_does_not() -> None:
    rng = random.Random(7)
    for _ in range(2000):
        arguments = {"value": made_up(rng), "other": made_up(rng)}
        expected = wants(("act", arguments))
        assert matches(expected, says("", ("act", json.loads(json.dumps(shuffled(rng, arguments))))))
        assert not matches(expected, says("", ("act", spoilt(rng, arguments))))
        text = {"content": json.dumps(arguments)}
        assert matches(text, says(json.dumps(shuffled(rng, arguments), indent=1, ensure_ascii=False)))
        assert not matches(text, says(json.dumps(spoilt(rng, arguments))))


GO, STAY = ("go", {"to": "Oslo", "km": 3}), ("stay", {})


@pytest.mark.parametrize(
    ("expected", "reply", "reason"),
    [
        (wants(GO), says("", GO), ""),
        (wants(GO), says("I go.", GO), ""),
        (wants(GO), says("go Oslo"), "no call"),
        (wants(GO), says('<tool_call>\n{"name": "go"\n</tool_call>'), "unparsable"),
        (wants(GO), says("<tool_call>{", GO), "unparsable"),
        (wants(GO, STAY), says("", GO), "missing call"),
        (wants(GO), says("", GO, GO), "extra call"),
        (wants(GO, STAY), says("", STAY, GO), "wrong tool"),
        (wants(GO), says("", ("Go", GO[1])), "wrong tool"),
        (wants(GO), says("", ("go", {"to": "Oslo"})), "missing argument"),
        (wants(GO), says("", ("go", {"To": "Oslo", "km": 3})), "missing argument"),
        (wants(GO), says("", ("go", GO[1] | {"x": None})), "extra argument"),
        (wants(GO), says("", ("go", {"to": "Oslo", "km": "3"})), "wrong value"),
        (wants(GO), says("", ("go", {"to": "oslo", "km": 3})), "wrong value"),
        ({"content": "Yes."}, says(" Yes.\n"), ""),
        ({"content": "Yes."}, says("yes."), "wrong text"),
        ({"content": "Yes."}, says(""), "wrong text"),
        ({"content": "Yes."}, says("Yes.", GO), "extra call"),
        ({"content": "Yes."}, says("<tool_call>oh"), "extra call"),
        ({"content": "Write <tool_call>."}, says("Write <tool_call>."), ""),
        ({"content": "1"}, says("1.0"), "wrong text"),
        ({"content": '{"a": 1, "b": null}'}, says('{"b":null,\n"a":1}'), ""),
        ({"content": '{"a": 1, "b": null}'}, says('{"a": 1}'), "missing argument"),
        ({"content": '{"a": 1}'}, says('{"a": 1, "b": 2}'), "extra argument"),
        ({"content": '{"a": 1}'}, says('{"a": true}'), "wrong value"),
        ({"content": '{"a": 1}'}, says("[1]"), "wrong value"),
        ({"content": '{"a": 1}'}, says('{"a": 1'), "unparsable"),
        ({"content": '{"a": 1}'}, says("[" * 100_000), "unparsable"),
    ],
)  # fmt: skip
def test_a_miss_has_its_reason(expected: dict[str, Any], reply: Reply, reason: str) -> None:
    assert why(expected, reply) == reason
    assert matches(expected, reply) == (not reason)


def test_schemas_of_the_offered_tools_are_used() -> None:
    tools = [tool("stay"), tool("go", km=NUMBER), {"type": "function", "function": {"name": "bare"}}]
    assert matches(wants(GO), says("", ("go", {"to": "Oslo", "km": 3.0})), tools)
    assert not matches(wants(GO), says("", ("go", {"to": "Oslo", "km": 3.0})))
    assert matches(wants(("bare", {})), says("", ("bare", {})), tools)
