"""Lab 12's checks accept every right answer and explain the wrong ones."""

import math
from collections.abc import Callable
from enum import Enum
from typing import Any, Literal

import pytest
from judging import verdict

from labkit.checks.lab12 import q1, q2, q3, q4
from labkit.metrics.agent_eval import Case, Result, Scores


class Area(Enum):
    INSIDE = "inside"
    OUTSIDE = "outside"


def test_q1(capsys: pytest.CaptureFixture[str]) -> None:
    def book_table(name: str, people: int, area: Literal["inside", "outside"] = "inside") -> str:
        """Book a table."""
        return name

    def with_enum(name: str, people: int, area: Area = Area.INSIDE) -> None:
        """Book a table."""

    def no_values(name: str, people: int, area: str = "inside") -> None:
        """Book a table."""

    def all_required(name: str, people: int, area: Literal["inside", "outside"]) -> None:
        """Book a table."""

    def number(name: str, people: float, area: Literal["inside", "outside"] = "inside") -> None:
        """Book a table."""

    def silent(name: str, people: int, area: Literal["inside", "outside"] = "inside") -> None: ...

    def untyped(name, people, area="inside"):  # type: ignore[no-untyped-def]
        """Book a table."""

    for right in (book_table, with_enum):
        assert verdict(q1, capsys, right)[0] == "right"
    assert verdict(q1, capsys, ...)[0] == "not attempted"
    for wrong, said in (
        (no_values, "any text"),
        (all_required, "not required"),
        (number, "'people': 'number'"),
        (silent, "docstring"),
        (untyped, "has no type"),
        ("book_table", "without brackets"),
    ):
        state, text = verdict(q1, capsys, wrong)
        assert (state, said in text) == ("wrong", True), text


def make_loop(
    turns: int = 8, first: bool = False, own: bool = True, id: bool = True, say: Callable[[Any], str] = str
) -> Callable[..., Any]:
    """Return a student's loop with one thing wrong, or none."""

    def run(model: Any, question: str, tools: dict[str, Any]) -> Any:
        messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
        for _ in range(turns):
            reply = model.chat(messages, tools=list(tools.values()))
            if own:
                messages.append(reply.message)
            if not reply.tool_calls:
                return reply.text
            for call in reply.tool_calls[: 1 if first else None]:
                result = say(tools[call.name](**call.arguments))
                linked = {"tool_call_id": call.id} if id else {}
                messages.append({"role": "tool", "content": result, **linked})
        return None

    return run


def test_q2(capsys: pytest.CaptureFixture[str]) -> None:
    def recursive(model: Any, question: str, tools: dict[str, Any], so_far: Any = (), left: int = 10) -> Any:
        messages = [{"role": "user", "content": question}, *so_far]
        reply = model.chat(messages, tools=[*tools.values()])
        if not reply.tool_calls or not left:
            return reply.text
        results = [
            {"role": "tool", "tool_call_id": call.id, "content": tools[call.name](**call.arguments)}
            for call in reply.tool_calls
        ]
        return recursive(model, question, tools, [*so_far, reply.message, *results], left - 1)

    for right in (make_loop(), make_loop(turns=20), recursive):
        state, text = verdict(q2, capsys, right)
        assert state == "right", text
    for wrong, said in (
        (make_loop(turns=1000), "calls for ever"),
        (make_loop(turns=1), "was asked 1 times; it should be 2"),
        (make_loop(first=True), "two calls in one turn the model was given the results ['value of a']"),
        (make_loop(own=False), "append reply.message"),
        (make_loop(id=False), "which call it belongs to"),
        (make_loop(say=lambda result: "done"), "was given the results ['done']"),
        (lambda model, question, tools: model.chat(question), "it returned"),
        (lambda model, question, tools: "Hello there.", "was asked 0 times"),
        (7, "not callable"),
    ):
        state, text = verdict(q2, capsys, wrong)
        assert (state, said in text) == ("wrong", True), text


def answer_of(call: Any, tools: dict[str, Any]) -> str:
    if not (tool := tools.get(call.name)):
        return f"no {call.name}, only {list(tools)}"
    if wrong := tool.problems(call.arguments):
        return "\n".join(wrong)
    try:
        return f"{tool.function(**call.arguments)}"
    except RuntimeError as error:
        return repr(error)


def test_q3(capsys: pytest.CaptureFixture[str]) -> None:
    def unchecked(call: Any, tools: dict[str, Any]) -> str:
        try:
            return str(tools[call.name].function(**call.arguments))
        except Exception as error:
            return f"error: {error!r} for {call}, there is lookup"

    def raising(call: Any, tools: dict[str, Any]) -> str:
        if call.name not in tools or tools[call.name].problems(call.arguments):
            return answer_of(call, tools)
        return str(tools[call.name].function(**call.arguments))

    def vague(call: Any, tools: dict[str, Any]) -> str:
        return answer_of(call, tools) if call.name in tools else "error: unknown tool"

    def silent(call: Any, tools: dict[str, Any]) -> Any:
        return answer_of(call, tools) if not call.name.startswith("look_") else None

    def hidden(call: Any, tools: dict[str, Any]) -> str:
        return (
            "error"
            if tools.get(call.name) and tools[call.name].problems(call.arguments)
            else answer_of(call, tools)
        )

    assert verdict(q3, capsys, answer_of)[0] == "right"
    for wrong, said in (
        (lambda call, tools: str(tools[call.name].function(**call.arguments)), "it raised KeyError"),
        (unchecked, "the tool was run 1 times; it should be 0"),
        (raising, "it raised RuntimeError: the database is down"),
        (vague, "'lookup' should be in it"),
        (silent, "it said None"),
        (hidden, "'7' should be in it"),
        ("error", "TypeError"),
    ):
        state, text = verdict(q3, capsys, wrong)
        assert (state, said in text) == ("wrong", True), text


def scores(*reasons: str) -> Scores:
    case = Case("x", "names", "call", "full", [], [], {})
    return Scores(tuple(Result(case, reason) for reason in reasons), {})


def test_q4(capsys: pytest.CaptureFixture[str]) -> None:
    free = scores("wrong tool", "wrong tool", "", "", "no call")
    held = scores("", "", "wrong value", "", "no call")
    for right in ((2, 1), (2.0, 1.0), (True + 1, 1)):
        assert verdict(q4, capsys, free, held, *right)[0] == "right"
    for wrong, said in (
        ((1, 2), "other way round"),
        ((3, 2), "are not it"),
        ((2, 2), "are not it"),
        ((math.nan, 1), "checking it raised"),
        (("two", "one"), "checking it raised"),
    ):
        state, text = verdict(q4, capsys, free, held, *wrong)
        assert (state, said in text) == ("wrong", True), text
    same = scores("", "no call")
    assert "0 came out differently" in verdict(q4, capsys, same, same, 0, 0)[1]
