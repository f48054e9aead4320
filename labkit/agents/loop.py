"""The loop that makes an agent of a model: ask it, run the tools it calls, give it the results, ask again.

A small model errs. So every call is checked before it runs, what is wrong is told to the model, and all of it is
bounded: rounds, repairs, calls in a turn, and the same call again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from labkit.agents.tools import Guarded, Result, failed
from labkit.engines.base import Model
from labkit.engines.messages import check_messages
from labkit.engines.toolcalls import OPEN
from labkit.engines.toolgrammar import Constrained, grammar_for
from labkit.errors import LabkitError, OptionInvalid
from labkit.metrics.trace import Event
from labkit.types import Message, Reply, ToolCall, ToolChoice

MAX_CALLS = 8  # in one turn
UNREADABLE = "Your tool call could not be read. Write it again: JSON with name and arguments, nothing else."
Ended = Literal["answer", "rounds", "repairs", "loop", "error"]


@dataclass(slots=True)
class Run:
    """Keep one run: the last `text`, why it `ended`, all `messages`, each call with its result, and its `events`."""

    messages: list[Message]
    text: str = ""
    ended: Ended = "rounds"
    calls: list[tuple[ToolCall, Result]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter, repr=False)

    def __str__(self) -> str:
        return "\n".join([*(f"→ {call}\n  {r.text}" for call, r in self.calls), self.text, f"[{self.ended}]"])

    @property
    def seconds(self) -> float:
        """Return how long the run took."""
        return max((event.start + event.seconds for event in self.events), default=0.0)

    @property
    def trace(self) -> Event:
        """Return the run as one event that holds all others."""
        asked = next((m["content"] for m in self.messages if m["role"] == "user"), "")
        return Event("run", "agent", 0.0, self.seconds, text=asked, children=tuple(self.events))


class Agent:
    """Run a model with tools until it answers.

    `tools` are functions, or functions with limits (`Guarded`). `approve` is asked before a tool that `asks`; without
    it such a tool is refused. `constrained` admits only calls that fit the schemas, on engines that can; "copy" admits
    in them only strings and numbers that have been said. `tool_choice="required"` makes the first turn a call, and only
    that one, lest the agent call for ever (as in OpenAI's Agents SDK): for a place where every wish needs a tool.
    `max_repairs` is how often in a run a wrong call is sent back, `max_repeats` how often the same call may be made.
    Further keywords are fields of `GenerationOptions`.
    """

    def __init__(
        self,
        model: Model,
        tools: Sequence[Callable[..., Any] | Guarded] = (),
        *,
        instructions: str = "",
        max_rounds: int = 8,
        max_repairs: int = 2,
        max_repeats: int = 2,
        constrained: Constrained = False,
        tool_choice: ToolChoice = "auto",
        approve: Callable[[ToolCall], bool] | None = None,
        **options: Any,
    ) -> None:
        made = [tool if isinstance(tool, Guarded) else Guarded(tool) for tool in tools]
        self.model, self.tools, self.instructions = model, {tool.name: tool for tool in made}, instructions
        if len(self.tools) < len(made):
            raise OptionInvalid("two tools have the same name", fix="give each tool its own name")
        self.max_rounds, self.max_repairs, self.max_repeats = max_rounds, max_repairs, max_repeats
        self.approve, self.options = approve, options
        self.schemas = [tool.schema for tool in made]
        self.constrained, self.tool_choice = constrained, tool_choice

    def run(self, messages: str | Sequence[Message]) -> Run:
        """Answer a question, or the last of several messages. An error of the model's first turn is raised."""
        head: list[Message] = [{"role": "system", "content": self.instructions}] if self.instructions else []
        run, made, repairs = Run([*head, *check_messages(messages)]), Counter[str](), 0
        for _ in range(self.max_rounds):
            try:
                reply = self._turn(run)
            except LabkitError as error:
                if not run.events:
                    raise
                run.ended, run.text = "error", str(error)
                break
            if not reply.tool_calls and OPEN not in reply.text:
                run.ended = "answer"
                break
            made.update(map(str, reply.tool_calls))
            looping = any(made[str(call)] > self.max_repeats for call in reply.tool_calls)
            repairs += self._answer(run, reply.tool_calls, looping)
            if looping or repairs > self.max_repairs:
                run.ended = "loop" if looping else "repairs"
                break
        return run

    def _turn(self, run: Run) -> Reply:
        start = time.perf_counter() - run.began
        required = self.tool_choice == "required" and not run.calls
        grammar = grammar_for(self.schemas, run.messages, self.constrained, required=required)
        options = {"grammar": grammar, **self.options} if grammar else self.options
        choice = self.tool_choice if self.tool_choice != "required" or (required and not grammar) else "auto"
        reply = self.model.chat(run.messages, tools=self.schemas, tool_choice=choice, **options)
        run.messages.append(reply.message)
        run.text = reply.text
        run.events.append(Event("model", reply.model, start, reply.timing.total, reply.usage, str(reply)))
        return reply

    def _answer(self, run: Run, calls: Sequence[ToolCall], looping: bool) -> bool:
        """Run the calls at once and put results into the messages; return whether a call was wrong in itself."""
        if not calls:
            run.messages.append({"role": "user", "content": UNREADABLE})
            return True
        start, waiting = time.perf_counter(), list[Callable[[], Result]]()
        faults = [self._fault(call, place) for place, call in enumerate(calls)]
        for call, fault in zip(calls, faults, strict=True):
            why = fault or ("this call was made before" if looping else self._refusal(call))
            waiting.append(partial(failed, why) if why else self.tools[call.name].start(call.arguments))
        for call, wait in zip(calls, waiting, strict=True):
            result = wait()
            run.calls.append((call, result))
            run.messages.append({"role": "tool", "tool_call_id": call.id, "content": result.text})
            text = "\n".join([f"{call} → {result.text}", *(f"[denied: {what}]" for what in result.denied)])
            took = time.perf_counter() - start
            run.events.append(Event("tool", call.name, start - run.began, took, text=text))
        return any(faults)

    def _fault(self, call: ToolCall, place: int) -> str:
        tool = self.tools.get(call.name)
        if tool is None:
            return f"there is no tool {call.name}: choose from {', '.join(self.tools)}"
        if place >= MAX_CALLS:
            return f"at most {MAX_CALLS} calls in a turn"
        return "; ".join(tool.problems(call.arguments))

    def _refusal(self, call: ToolCall) -> str:
        free = not self.tools[call.name].asks or (self.approve and self.approve(call))
        return "" if free else "nobody approved this call"
