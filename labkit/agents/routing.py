"""Small first: ask a small model, and a bigger one only where a rule finds fault with the answer.

A rule gets an `Attempt` and returns a reason to hand over, or "". It sees the question, the tools and the answer, as
a program at work does; whether the answer is right it cannot see.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from labkit.engines.base import AnyTool, Model
from labkit.engines.messages import check_messages
from labkit.engines.toolcalls import OPEN
from labkit.engines.toolschema import tool_schemas
from labkit.errors import LabkitError, OptionInvalid
from labkit.metrics.quality import log_softmax
from labkit.types import Message, Reply, Tool


@dataclass(frozen=True)
class Attempt:
    """Hold what one model was asked and what it answered; with an `error`, the reply is empty."""

    model: Model
    messages: list[Message]
    tools: list[Tool]
    reply: Reply
    error: LabkitError | None = None

    @cached_property
    def probability(self) -> float:
        """Return p(answer | prompt): how often sampling at temperature 1 would write exactly this answer.

        It is the product over the answer's tokens, its end included; the model reads all once more for it.
        Raises `OptionInvalid` on an engine without scores.
        """
        model, template = self.model, getattr(self.model.engine, "template", None)
        if not model.engine.logits or template is None:
            raise OptionInvalid(f"{model.engine.name} shows no scores", fix="load(…, engine='llamacpp')")
        tools, turns = self.tools or None, [*self.messages, self.reply.message]
        asked = len(model.tokenize(template.render(self.messages, tools)))
        ids = model.tokenize(template.render(turns, tools, add_generation_prompt=False).rstrip())
        logp = log_softmax(model.window_logits(ids[:-1], asked - 1))
        return math.exp(logp[np.arange(len(logp)), ids[asked:]].sum())


Rule = Callable[[Attempt], str]
Turns = str | Sequence[Message]
Tried = list[tuple[Attempt, str]]


def no_call(attempt: Attempt) -> str:
    """Fault an answer without a call where tools are offered and the user spoke last: there, most need one."""
    asked = attempt.tools and attempt.messages[-1]["role"] == "user"
    return "no tool call" if asked and not attempt.reply.tool_calls else ""


def invalid_call(attempt: Attempt) -> str:
    """Fault a call that cannot be read, of a tool that is not offered, or with arguments its schema forbids."""
    from jsonschema import Draft202012Validator

    if OPEN in attempt.reply.text:
        return "a call that cannot be read"
    offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in attempt.tools}
    for call in attempt.reply.tool_calls:
        if call.name not in offered:
            return f"there is no tool {call.name}"
        schema = {"additionalProperties": False, **offered[call.name]}
        if wrong := next(Draft202012Validator(schema).iter_errors(call.arguments), None):
            return f"{call.name}: {wrong.message:.200}"
    return ""


def unlikely(least: float) -> Rule:
    """Return the rule that faults an answer to which its own model gives a probability below `least`."""
    return lambda attempt: f"p = {attempt.probability:.2f}" if attempt.probability < least else ""


def ask(model: Model, messages: Turns, tools: Sequence[AnyTool] = (), **options: Any) -> Attempt:
    """Ask one model, which may fail: the attempt keeps its error. A question that is no question is raised."""
    turns, schemas = check_messages(messages), tool_schemas(tools)
    try:
        return Attempt(model, turns, schemas, model.chat(turns, tools=schemas, **options))
    except LabkitError as error:
        return Attempt(model, turns, schemas, model.reply_of([]), error)


class Router:
    """Ask models in turn, the smallest first, until no rule finds fault. The last one's answer counts as it is."""

    def __init__(self, models: Sequence[Model], rules: Sequence[Rule] = (no_call, invalid_call)) -> None:
        self.models, self.rules = tuple(models), tuple(rules)

    def fault(self, attempt: Attempt) -> str:
        """Return the first reason to hand over: an error, or what a rule finds; "" for none."""
        if attempt.error:
            return f"{type(attempt.error).__name__}: {attempt.error.what}"
        return next(filter(None, (rule(attempt) for rule in self.rules)), "")

    def ask(self, messages: Turns, tools: Sequence[AnyTool] = (), **options: Any) -> Tried:
        """Return each attempt with the reason why it was handed over; the last one, without a reason, counts.

        Raises the last model's error: there is nobody left to ask.
        """
        tried: Tried = []
        for model in self.models:
            attempt = ask(model, messages, tools, **options)
            last = len(tried) == len(self.models) - 1
            if last and attempt.error:
                raise attempt.error
            tried.append((attempt, "" if last else self.fault(attempt)))
            if not tried[-1][1]:
                break
        return tried
