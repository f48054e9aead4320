"""Lab 13's checks accept every right answer and explain the wrong ones."""

import math
from typing import Any, Literal

import pytest

pytest.importorskip("agent_framework")

from agent_framework import ContextProvider, Message
from judging import explains, verdict
from pydantic import BaseModel, Field, PositiveInt

from labkit import load
from labkit.checks.lab13 import q1, q2, q3, q4
from labkit.engines.registry import engine_class
from labkit.metrics.trace import Event

PARTS = (Event("model", "nano", 0, 0.3), Event("tool", "look", 0.3, 0.1), Event("model", "nano", 0.4, 0.3))
RUN = Event("run", "guide", 0.0, 0.8, children=PARTS)


def test_q1(capsys: pytest.CaptureFixture[str]) -> None:
    for right in (0.75, 0.6 / 0.8, 0.752):
        assert verdict(q1, capsys, RUN, right)[0] == "right"
    assert verdict(q1, capsys, RUN, ...)[0] == "not attempted"
    for wrong, said in (
        (0.125, "that is the tools' share"),
        (0.6, "that is in seconds"),
        (75, "not percent"),
        (math.nan, "add up"),
        (1.0, "add up"),
        ("much", "give a number"),
    ):
        explains(q1, capsys, said, RUN, wrong)


class Right(ContextProvider):
    async def before_run(self, *, agent: Any, session: Any, context: Any, state: Any) -> None:
        if name := state.get("name"):
            context.extend_instructions(self.source_id, f"The user is {name}.")


class Reads(ContextProvider):
    async def before_run(self, *, agent: Any, session: Any, context: Any, state: Any) -> None:
        if "name" in state:
            context.extend_instructions(self.source_id, ["Be kind.", f"You talk to {state['name']}."])


class Nothing(ContextProvider):
    async def before_run(self, *, agent: Any, session: Any, context: Any, state: Any) -> None: ...


class Always(ContextProvider):
    async def before_run(self, *, agent: Any, session: Any, context: Any, state: Any) -> None:
        context.extend_instructions(self.source_id, "The user is Mira.")


class NoneToo(ContextProvider):
    async def before_run(self, *, agent: Any, session: Any, context: Any, state: Any) -> None:
        context.extend_instructions(self.source_id, f"The user is {state.get('name')}.")


class Talks(ContextProvider):
    async def before_run(self, *, agent: Any, session: Any, context: Any, state: Any) -> None:
        context.extend_messages(self, [Message("user", [f"I am {state.get('name')}"])])


class Breaks(ContextProvider):
    async def before_run(self, *, agent: Any, session: Any, context: Any, state: Any) -> None:
        context.extend_instructions(self.source_id, f"The user is {state['name']}.")


def test_q2(capsys: pytest.CaptureFixture[str]) -> None:
    for right in (Right, Reads):
        assert verdict(q2, capsys, right)[0] == "right"
    assert verdict(q2, capsys, ...)[0] == "not attempted"
    for wrong, said in (
        (Nothing, "no instruction holds Mira"),
        (Always, "a guest has no name"),
        (NoneToo, "a guest has no name"),
        (Talks, "one more message in the talk"),
        (Breaks, "checking it raised KeyError"),
        (Right("profile"), "the class itself"),
        (str, "the class itself"),
    ):
        explains(q2, capsys, said, wrong)


def limit(name: str, arguments: dict[str, Any]) -> str | None:
    return "too much" if name == "refund" and not 0 < arguments["amount"] <= 100 else None


def other_limit(name: str, arguments: dict[str, Any]) -> str:
    if name != "refund" or (math.isfinite(arguments["amount"]) and 0 < arguments["amount"] <= 100):
        return ""
    return "no"


def test_q3(capsys: pytest.CaptureFixture[str]) -> None:
    for right in (limit, other_limit):
        assert verdict(q3, capsys, right)[0] == "right"
    assert verdict(q3, capsys, ...)[0] == "not attempted"

    def rule(test: Any) -> Any:
        return lambda name, given: "no" if name == "refund" and test(given["amount"]) else None

    for wrong, said in (
        (rule(lambda amount: amount > 100), "a refund of 0 passes"),
        (rule(lambda amount: amount > 100 or amount <= 0), "nan passes (nan is neither"),
        (rule(lambda amount: not 0 < amount < 100), "should pass"),
        (lambda name, given: "no" if given.get("amount", 0) > 100 else None, "ship("),
        (lambda name, given: None, "a refund of 100.01 passes"),
        (
            lambda name, given: {"amount": 100} if name == "refund" and given["amount"] > 100 else None,
            "a refund of 100.01 passes",
        ),
        (lambda name, given: "no" if given["amount"] > 100 else None, "checking it raised KeyError"),
        ("limit", "the function itself"),
    ):
        explains(q3, capsys, said, wrong)


Topic = Literal["billing", "technical", "scheduling"]


class Ticket(BaseModel):
    topic: Topic
    urgent: bool
    order: int = Field(ge=1)


class OtherTicket(BaseModel):
    order: PositiveInt
    urgent: bool
    topic: Topic


class AnyTopic(BaseModel):
    topic: str
    urgent: bool
    order: int = Field(ge=1)


class AnyUrgency(BaseModel):
    topic: Topic
    urgent: str | bool
    order: int = Field(ge=1)


class AnyOrder(BaseModel):
    topic: Topic
    urgent: bool
    order: int


class NoOrder(BaseModel):
    topic: Topic
    urgent: bool
    order: int = Field(default=1, ge=1)


class TwoTopics(BaseModel):
    topic: Literal["billing", "technical"]
    urgent: bool
    order: int = Field(ge=1)


def test_q4(capsys: pytest.CaptureFixture[str]) -> None:
    with load("nano", engine="echo") as model:
        for right in (Ticket, OtherTicket):
            state, text = verdict(q4, capsys, model, right)
            assert state == "right" and "cannot be held" in text
        assert verdict(q4, capsys, model, ...)[0] == "not attempted"
        for wrong, said in (
            (AnyTopic, "weather"),
            (AnyUrgency, "perhaps"),
            (AnyOrder, "-4"),
            (NoOrder, "fits your class, and should not"),
            (TwoTopics, "a ticket on scheduling does not fit"),
            (dict, "the class itself"),
        ):
            explains(q4, capsys, said, model, wrong)


def test_q4_tells_what_a_model_made_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    if not engine_class("llamacpp").available().installed:
        pytest.skip("needs an engine that can be held to a schema")
    with load("nano", engine="llamacpp", threads=1) as model:
        state, text = verdict(q4, capsys, model, Ticket)
    assert state == "right" and "the form is sure" in text
