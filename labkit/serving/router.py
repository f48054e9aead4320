"""Which backend answers: by model, task class and load; one retry loop; breakers that probe by generating.

A breaker never takes the last backend of a model. A server's own Retry-After is obeyed by all: nothing is sent before.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeVar

from labkit.errors import ContextOverflow, EngineTimeout, LabkitError, ModelNotFound, OptionInvalid
from labkit.serving.backends import Node
from labkit.serving.openai_api import Ask
from labkit.serving.pool import Pool
from labkit.serving.queueing import Deadlines
from labkit.serving.refused import Refused
from labkit.serving.remote import Busy
from labkit.serving.telemetry import Attempt, Request
from labkit.types import Chunk, Usage

T = TypeVar("T")
TRIES = 3
PAUSE_S = 0.1
FAILURES = 3  # in a row open a breaker
COOLDOWN_S, LONGEST_COOLDOWN_S = 1.0, 30.0
PROBE_S = 10.0
LOOK_EVERY_S = 0.2


@dataclass(slots=True)
class Breaker:
    """Count failures in a row, and say why; `open` keeps requests away until a probe succeeds.

    `probe_at` and `rest_until` are seconds of the monotonic clock.
    """

    failures: int = 0
    why: str = ""
    open: bool = False
    cooldown: float = COOLDOWN_S
    probe_at: float = 0.0
    rest_until: float = 0.0
    probing: bool = False

    @property
    def failing(self) -> bool:
        """Return whether it would be open, but for being the last of its model."""
        return self.failures >= FAILURES

    def success(self) -> None:
        """Close it."""
        self.failures, self.why, self.open, self.cooldown = 0, "", False, COOLDOWN_S

    def wait(self) -> None:
        """Put off the next probe for a while that doubles from time to time."""
        self.probe_at = time.monotonic() + self.cooldown
        self.cooldown = min(self.cooldown * 2, LONGEST_COOLDOWN_S)


@dataclass(slots=True)
class Tried:
    """Say what became of one try, for the audit log."""

    backend: str
    outcome: str = "ok"


@dataclass(slots=True)
class Answer:
    """Hold an answer that has begun: its first chunks, and where the rest comes from."""

    node: Node
    attempt: Attempt
    source: AsyncGenerator[Chunk, None]
    chunks: list[Chunk] = field(default_factory=list)


@dataclass(slots=True)
class Router:
    """Route requests to the nodes of a pool."""

    pool: Pool
    deadlines: Deadlines
    stall: float
    random: random.Random = field(default_factory=random.Random)
    breakers: dict[str, Breaker] = field(default_factory=dict)

    def breaker(self, node: Node) -> Breaker:
        """Return a node's breaker."""
        return self.breakers.setdefault(node.spec.name, Breaker())

    def able(self, model: str, task: str) -> list[Node]:
        """Return the nodes of a model that take the task: those made for it, else those that take any."""
        nodes = [node for node in self.pool.nodes.values() if node.spec.model == model and node.wanted]
        if not nodes:
            known = ", ".join(sorted(self.pool.models())) or "none"
            raise ModelNotFound(f"there is no model {model!r:.80} here", fix=f"model: one of {known}")
        special = [node for node in nodes if task in node.spec.task_classes]
        found = special or [node for node in nodes if not node.spec.task_classes and task != "embed"]
        if not found:
            raise ModelNotFound(f"{model!r:.80} is not set up for the task {task}", fix="tasks= of a backend")
        return found

    def pick(self, nodes: list[Node], tried: set[str]) -> Node:
        """Draw a node: weight over the square of its load, so that a canary keeps its share and no node drowns."""
        now = time.monotonic()
        rested = [node for node in nodes if self.breaker(node).rest_until <= now]
        if not rested:
            after = min(self.breaker(node).rest_until for node in nodes) - now
            raise Refused(503, "overloaded", "every backend asked to be left alone", "wait", after)
        usable = [n for n in rested if n.up and not n.failed and not self.breaker(n).open] or rested
        fresh = [node for node in usable if node.spec.name not in tried] or usable
        weights = [node.spec.weight / (1 + node.active) ** 2 for node in fresh]
        return self.random.choices(fresh, weights)[0]

    def failed(self, node: Node, error: LabkitError) -> None:
        """Note a failure; open the breaker unless this is the last node of its model that is not out."""
        breaker = self.breaker(node)
        if isinstance(error, Busy):
            breaker.rest_until = time.monotonic() + error.after
            return
        breaker.failures, breaker.why = breaker.failures + 1, error.what
        others = [n for n in self.pool.nodes.values() if n.spec.model == node.spec.model and n is not node]
        alive = [n for n in others if n.wanted and n.up and not n.failed and not self.breaker(n).open]
        if alive and not breaker.open and (breaker.failing or node.dead):
            breaker.open = True
            breaker.wait()
        elif breaker.failures == FAILURES:
            breaker.wait()

    async def attempts(
        self, nodes: list[Node], until: float, trail: list[Tried], work: Callable[[Node, Tried], Awaitable[T]]
    ) -> T:
        """Run `work` on one node after the other until one succeeds: the one retry loop of the gateway."""
        error: LabkitError = EngineTimeout("no backend answered in time", fix="ask again")
        for turn in range(TRIES):
            if turn and time.monotonic() + PAUSE_S >= until:
                break
            try:
                node = self.pick(nodes, {tried.backend for tried in trail})
            except Refused as no:  # nobody may be asked now: the last failure is not the better answer
                raise no from error
            trail.append(tried := Tried(node.spec.name))
            try:
                return await work(node, tried)
            except (OptionInvalid, ContextOverflow) as exc:
                tried.outcome = "refused"
                raise exc
            except (LabkitError, TimeoutError) as exc:
                error = (
                    exc
                    if isinstance(exc, LabkitError)
                    else EngineTimeout(f"{node.spec.name} was silent for too long", fix="ask again")
                )
                tried.outcome = type(error).__name__
                self.failed(node, error)
                if len(nodes) == 1 or len(trail) >= len(nodes):
                    await asyncio.sleep(PAUSE_S)
        raise error

    async def stream(
        self, ask: Ask, until: float, seen: Request, trail: list[Tried]
    ) -> AsyncGenerator[Chunk, None]:
        """Yield one answer. What was yielded is never taken back: a failure after it ends the answer.

        An answer that is not streamed is collected first, so that another backend can still take it over.
        """
        nodes = self.able(ask.model, ask.task)
        share = min(2, len(nodes))  # a silent node leaves the next one time

        def begin(node: Node, tried: Tried) -> Awaitable[Answer]:
            return self._begin(node, ask, seen, (until - time.monotonic()) / share)

        answer = await self.attempts(nodes, until, trail, begin)
        delivered, chunk = 0, Chunk()
        with answer.attempt as attempt:
            try:
                async with aclosing(answer.source):
                    for chunk in answer.chunks:
                        delivered += chunk.tokens
                        yield chunk
                    while not chunk.finish_reason:
                        chunk = await self._go_on(answer, trail[-1])
                        delivered += chunk.tokens
                        yield chunk
                self.breaker(answer.node).success()
            finally:
                used = chunk.usage or Usage(0, delivered)
                attempt.usage(used.prompt_tokens, used.completion_tokens, used.cached_tokens)

    async def _begin(self, node: Node, ask: Ask, seen: Request, within: float) -> Answer:
        """Ask a node, and wait for its first chunk; for all of them where the answer is not streamed."""
        attempt = seen.engine(node.spec.name, ask.model)
        answer = Answer(node, attempt, node.stream(ask.messages, ask.tools, ask.options, attempt.headers))
        try:
            while not answer.chunks or (not ask.stream and not answer.chunks[-1].finish_reason):
                limit = self.stall if answer.chunks else max(0.01, within)
                answer.chunks.append(await self.deadlines.next(answer.source, limit))
        except BaseException as error:
            with attempt:
                await answer.source.aclose()
                if isinstance(error, StopAsyncIteration):
                    raise EngineTimeout(f"{node.spec.name} said nothing", fix="ask again") from None
                raise
        return answer

    async def _go_on(self, answer: Answer, tried: Tried) -> Chunk:
        """Return the next chunk of an answer that was begun; nobody can take it over any more."""
        try:
            return await self.deadlines.next(answer.source, self.stall)
        except (LabkitError, TimeoutError, StopAsyncIteration) as exc:
            tried.outcome = f"broke off: {type(exc).__name__}"
            error = exc if isinstance(exc, LabkitError) else self._cut(tried.backend)
            if not self.deadlines.over:
                self.failed(answer.node, error)
            raise error from exc

    def _cut(self, name: str) -> LabkitError:
        if self.deadlines.over:
            return Refused(503, "stopping", "the gateway is being stopped", "ask again", 1.0)
        return EngineTimeout(f"{name} fell silent in the middle of its answer", fix="ask again")

    async def watch(self) -> None:
        """Probe what is out, in the background, until this is cancelled."""
        while True:
            now = time.monotonic()
            for node in list(self.pool.nodes.values()):
                breaker = self.breaker(node)
                due = (breaker.open or breaker.failing) and max(breaker.probe_at, breaker.rest_until) <= now
                if due and not breaker.probing and node.up and not node.failed:
                    breaker.probing = True
                    self.pool.background(self._probe(node, breaker))
            await asyncio.sleep(LOOK_EVERY_S)

    async def _probe(self, node: Node, breaker: Breaker) -> None:
        try:
            async with asyncio.timeout(PROBE_S):
                await node.probe()
            breaker.success()
        except (LabkitError, TimeoutError) as error:
            if isinstance(error, Busy):
                breaker.rest_until = time.monotonic() + error.after
            breaker.wait()
        finally:
            breaker.probing = False
