"""Checks of lab 12, function calling."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from labkit.agents.tools import Guarded
from labkit.checks.core import Exercises, Wrong, require_function
from labkit.engines.base import Model
from labkit.engines.registry import load
from labkit.engines.toolschema import tool_schema
from labkit.metrics.agent_eval import Scores
from labkit.types import Message, ToolCall

MAX_TURNS = 20
lab = Exercises("12")


def _table(function: Callable[..., Any]) -> str:
    require_function(function, "book_table")
    seen = tool_schema(function)["function"]
    kinds = {name: p.get("type") for name, p in seen["parameters"]["properties"].items()}
    if kinds != {"name": "string", "people": "integer", "area": "string"}:
        raise Wrong(f"the model sees {kinds}; it should see a string name, an integer people, a string area")
    if seen["parameters"]["properties"]["area"].get("enum") != ["inside", "outside"]:
        raise Wrong('area can be any text: Literal["inside", "outside"] shows the model what there is')
    if seen["parameters"]["required"] != ["name", "people"]:
        raise Wrong(
            f"required are {seen['parameters']['required']}: a parameter with a default is not required"
        )
    if not seen["description"]:
        raise Wrong("the docstring is what the model reads: write one sentence")
    return f"the model sees {seen['name']}: {seen['description']}"


q1 = lab.add(
    _table,
    hints=(
        'Literal["inside", "outside"] is a type: area: Literal["inside", "outside"] = "inside".',
        "Type hints for all three, and a docstring of one sentence.",
    ),
    code='def book_table(name: str, people: int, area: Literal["inside", "outside"] = "inside") -> str:\n'
    '    """Book a table in the restaurant."""\n    return f"booked for {name}"',
)


def scripted(*script: str) -> tuple[Model, list[list[Message]]]:
    """Return a model that writes the script, and a list that will hold what it was asked at each turn."""
    model, asked = load("nano", "echo", script=list(script)), list[list[Message]]()
    write = model.engine.stream

    def stream(messages: Any, tools: Any, options: Any) -> Any:
        asked.append([dict(message) for message in messages])
        return write(messages, tools, options)

    model.engine.stream = stream  # type: ignore[method-assign]
    return model, asked


def _call(key: str) -> str:
    return f"<tool_call>{json.dumps({'name': 'lookup', 'arguments': {'key': key}})}</tool_call>"


def _loop(run: Callable[..., str]) -> str:
    def lookup(key: str) -> str:
        """Look up a value."""
        return f"value of {key}"

    for case, script, values in (
        ("without a call", ["Hello there."], []),
        ("with one call", [_call("a"), "Found it."], ["a"]),
        ("with two calls in one turn", [_call("a") + _call("b"), "Found both."], ["a", "b"]),
        ("with a call after a call", [_call("a"), _call("b"), "Found the second."], ["a", "b"]),
    ):
        model, asked = scripted(*script)
        said = run(model, "Look it up!", {"lookup": lookup})
        if len(asked) != len(script):
            raise Wrong(f"{case} the model was asked {len(asked)} times; it should be {len(script)}")
        got = [message for message in asked[-1] if message["role"] == "tool"]
        if [message["content"] for message in got] != [lookup(key) for key in values]:
            raise Wrong(f"{case} the model was given the results {[m['content'] for m in got]}")
        if not all(message.get("tool_call_id") for message in got):
            raise Wrong(f'{case} a result does not say which call it belongs to: "tool_call_id": call.id')
        if values and not any(message.get("tool_calls") for message in asked[-1]):
            raise Wrong(f"{case} the model does not see its own call: append reply.message first")
        if said != script[-1]:
            raise Wrong(f"{case} it returned {said!r:.60}; the answer was {script[-1]!r}")
    model, asked = scripted(*[_call("a")] * 60)
    run(model, "Look it up!", {"lookup": lookup})
    if len(asked) > MAX_TURNS:
        raise Wrong(f"a model that calls for ever was asked {len(asked)} times: count the turns, and stop")
    return f"no call, one, two at once, one after another; and an endless caller stopped after {len(asked)} turns"


q2 = lab.add(
    _loop,
    hints=(
        "for _ in range(8): ask, append reply.message, and return reply.text if there are no tool_calls.",
        'For each call: tools[call.name](**call.arguments), then append {"role": "tool", "tool_call_id": …}.',
    ),
    code='def run(model, question, tools):\n    messages = [{"role": "user", "content": question}]\n'
    "    for _ in range(8):\n        reply = model.chat(messages, tools=list(tools.values()))\n"
    "        messages.append(reply.message)\n        if not reply.tool_calls:\n            return reply.text\n"
    "        for call in reply.tool_calls:\n            result = tools[call.name](**call.arguments)\n"
    '            messages.append({"role": "tool", "tool_call_id": call.id, "content": str(result)})',
)


def _answers(answer_of: Callable[..., str]) -> str:
    ran = []

    def lookup(key: str) -> str:
        """Look up a value."""
        ran.append(key)
        if key == "down":
            raise RuntimeError("the database is down")
        return f"value of {key}"

    tools = {"lookup": Guarded(lookup)}
    for case, name, arguments, part, runs in (
        ("for a right call", "lookup", {"key": "a"}, "value of a", 1),
        ("for a tool that is not there", "look_up", {"key": "a"}, "lookup", 0),
        ("for an argument of the wrong type", "lookup", {"key": 7}, "7", 0),
        ("for a missing argument", "lookup", {}, "key", 0),
        ("for a tool that raises", "lookup", {"key": "down"}, "the database is down", 1),
    ):
        ran.clear()
        try:
            said = answer_of(ToolCall(name, arguments), dict(tools))
        except Exception as error:
            raise Wrong(
                f"{case} it raised {type(error).__name__}: {error}. The model must be told"
            ) from error
        if not isinstance(said, str) or part not in said:
            raise Wrong(f"{case} it said {said!r:.80}; {part!r} should be in it")
        if len(ran) != runs:
            raise Wrong(f"{case} the tool was run {len(ran)} times; it should be {runs}")
    return "every mistake becomes a sentence that the model can read"


q3 = lab.add(
    _answers,
    hints=(
        "Three checks, each with its own return: the name, then the problems, then try and except.",
        "tools[call.name].problems(call.arguments) is a list of sentences; an empty list means that all is well.",
    ),
    code="def answer_of(call, tools):\n    if call.name not in tools:\n"
    "        return f\"error: there is no tool {call.name}; choose from {', '.join(tools)}\"\n"
    "    wrong = tools[call.name].problems(call.arguments)\n    if wrong:\n"
    "        return f\"error: {'; '.join(wrong)}\"\n    try:\n"
    "        return str(tools[call.name].function(**call.arguments))\n"
    '    except Exception as error:\n        return f"error: {error}"',
)


def _pairs(free: Scores, held: Scores, helped: int, hurt: int) -> str:
    pairs = [(not a.reason, not b.reason) for a, b in zip(free.results, held.results, strict=True)]
    right = pairs.count((False, True)), pairs.count((True, False))
    if (int(helped), int(hurt)) == right[::-1] != right:
        raise Wrong("the other way round: helped is wrong when free and right when constrained")
    if (int(helped), int(hurt)) != right:
        raise Wrong(
            f"{helped} and {hurt} are not it: look at free.results[n].reason and held.results[n].reason"
        )
    sure = "too few to say more" if sum(right) < 6 else "the more lopsided, the less it can be chance"
    return f"of {len(pairs)} cases {sum(right)} came out differently, {right[0]} for and {right[1]} against: {sure}"


q4 = lab.add(
    _pairs,
    hints=(
        "zip(free.results, held.results) gives both results of each case.",
        "helped counts the pairs (a, b) with a.reason and not b.reason.",
    ),
    code="pairs = list(zip(free.results, held.results))\n"
    "helped = sum(bool(a.reason) and not b.reason for a, b in pairs)\n"
    "hurt = sum(not a.reason and bool(b.reason) for a, b in pairs)",
)
