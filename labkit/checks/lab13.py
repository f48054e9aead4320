"""Checks of lab 13, Agent Framework. What a model makes of an answer is told, and is no fault of the student's."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from agent_framework import Agent, AgentSession, ContextProvider, SessionContext
from pydantic import BaseModel, ValidationError

from labkit.agents.framework import ChatClient
from labkit.checks.core import Exercises, Wrong, compare, require_function
from labkit.engines.base import Model
from labkit.metrics.trace import Event

lab = Exercises("13")


def wait(work: Awaitable[Any]) -> Any:
    """Return what a coroutine returns; a notebook's own loop is running, so it gets a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, asyncio.wait_for(work, None)).result()


def _share(event: Event, share: float) -> str:
    model, tools = (sum(e.seconds for _, e in event.walk() if e.kind == kind) for kind in ("model", "tool"))
    right = model / event.seconds
    reasons = {
        tools / event.seconds: "that is the tools' share: take the events whose kind is 'model'",
        model: "that is in seconds: divide by the seconds of the whole run",
        100 * right: "give a share from 0 to 1, not percent",
    }
    formula = "add up the seconds of 'model' events, and divide by the run's"
    compare(share, right, reasons, formula, within=0.005 / right)
    return f"{100 * right:.0f} % of this run was the model's; the framework and the tool had the rest"


q1 = lab.add(
    _share,
    hints=(
        "run.walk() yields (depth, event) for every event. An event has a kind, a name and seconds.",
        "sum(e.seconds for _, e in run.walk() if e.kind == 'model') are the model's seconds.",
    ),
    code='share = sum(e.seconds for _, e in run.walk() if e.kind == "model") / run.seconds',
)


def _profile(kind: type[ContextProvider]) -> str:
    if not (isinstance(kind, type) and issubclass(kind, ContextProvider)):
        raise Wrong("give the class itself: a subclass of ContextProvider")
    # A session that was saved and restored, as after a restart; then one of a guest.
    saved = AgentSession.from_dict({**AgentSession().to_dict(), "state": {"profile": {"name": "Mira"}}})
    (told, talk), guest = _added(kind, saved, saved.state["profile"]), _added(kind, saved, {})
    if "Mira" not in told and "Mira" in talk:
        raise Wrong("the name is one more message in the talk: an instruction is context.extend_instructions")
    if "Mira" not in told:
        raise Wrong("with state {'name': 'Mira'} no instruction holds Mira: call context.extend_instructions")
    if any(guest):
        raise Wrong(f"a guest has no name in state, and was told {' '.join(guest).strip()!r}")
    return f"each request of Mira's now begins with {told!r}, and a guest's does not"


def _added(kind: type[ContextProvider], session: AgentSession, state: dict[str, Any]) -> tuple[str, str]:
    context, nobody = SessionContext(input_messages=[]), cast(Agent, None)
    wait(kind("profile").before_run(agent=nobody, session=session, context=context, state=state))
    messages = [message.text for added in context.context_messages.values() for message in added]
    return " ".join(context.instructions), " ".join(messages)


q2 = lab.add(
    _profile,
    hints=(
        "state is this provider's own dict in the session: state.get('name') is the name, or None.",
        "context.extend_instructions(self.source_id, text) adds text to the system turn of this request.",
    ),
    code="class Profile(ContextProvider):\n    async def before_run(self, *, agent, session, context, state):\n"
    '        if name := state.get("name"):\n'
    '            context.extend_instructions(self.source_id, f"The user is {name}.")',
)

ALLOWED: list[tuple[str, dict[str, Any]]] = [
    *(("refund", {"order": "A1", "amount": amount}) for amount in (0.01, 20.0, 100)),
    *(("look_up", {"order": "A1"}), ("ship", {"order": "A1", "amount": 500})),
]
FORBIDDEN = (100.01, 500, 0, -5.0, math.nan, math.inf)


def _rule(rule: Callable[[str, dict[str, Any]], Any]) -> str:
    require_function(rule, "limit")
    for name, arguments in ALLOWED:
        if verdict := rule(name, dict(arguments)):
            raise Wrong(f"{name}({arguments}) should pass, and your rule says {verdict!r:.80}")
    for amount in FORBIDDEN:
        verdict = rule("refund", {"order": "A1", "amount": amount})
        if not (isinstance(verdict, str) and verdict):
            nan = " (nan is neither above nor below anything: write what is allowed)" * math.isnan(amount)
            raise Wrong(f"a refund of {amount} passes{nan}")
    return "what is not allowed is refused, and the model is told why: " + str(verdict)


q3 = lab.add(
    _rule,
    hints=(
        "A rule gets the tool's name and its arguments. It returns a reason, a string, to refuse; None to let pass.",
        'Write what is allowed: if name == "refund" and not 0 < arguments["amount"] <= 100: return …',
    ),
    code='def limit(name, arguments):\n    if name == "refund" and not 0 < arguments["amount"] <= 100:\n'
    '        return "only refunds of more than 0 and up to 100 are allowed"',
)
GOOD = {"topic": "billing", "urgent": True, "order": 4103}
BAD = [{**GOOD, key: bad} for key, bad in (("topic", "weather"), ("urgent", "perhaps"), ("order", -4))]
BAD.append({key: GOOD[key] for key in ("topic", "urgent")})


def _misfit(kind: type[BaseModel], data: dict[str, Any]) -> str:
    try:
        kind.model_validate(data)
    except ValidationError as error:
        return str(error.errors()[0]["msg"])
    return ""


def _ticket(model: Model, kind: type[BaseModel]) -> str:
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        raise Wrong("give the class itself: a subclass of BaseModel")
    for topic in ("billing", "technical", "scheduling"):
        if misfit := _misfit(kind, {**GOOD, "topic": topic}):
            raise Wrong(f"a ticket on {topic} does not fit: {misfit}")
    for data in BAD:
        if not _misfit(kind, data):
            raise Wrong(f"{data} fits your class, and should not")
    if not model.engine.constrained:
        return f"{model.engine.name} cannot be held to a schema: your program has to check, and now it can"
    asked = "My bill for order 4103 is wrong, please hurry!"
    answer = wait(Agent(ChatClient(model)).run(asked, options={"response_format": kind}))
    return f"asked {asked!r}, the model filled in {answer.value!r}: the form is sure, the content is not"


q4 = lab.add(
    _ticket,
    hints=(
        'Literal["billing", "technical", "scheduling"] admits three words, bool a yes or no.',
        "Field(ge=1) bounds a whole number from below: order: int = Field(ge=1).",
    ),
    code='class Ticket(BaseModel):\n    topic: Literal["billing", "technical", "scheduling"]\n    urgent: bool\n'
    "    order: int = Field(ge=1)",
)
