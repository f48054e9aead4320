"""Load on a model or a server: send many requests, open loop or closed loop, and measure what came of them.

Open loop: the times of sending are drawn in advance (Poisson arrivals) and wait for no answer. A request's clock
starts when it was due, so a slow server cannot hide its queue (no coordinated omission). Closed loop: a number of
callers, each of whom asks again as soon as it was answered. Figures are defined in `records.METRICS`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from labkit.engines.base import Model
from labkit.errors import OptionInvalid
from labkit.metrics.answer import Outcome
from labkit.metrics.records import Record, about
from labkit.metrics.request import ModelClient, Server, UrlClient
from labkit.types import GenerationOptions, Message, Timing

PROMPTS = (
    "What can you do?",
    "Turn on the light in the kitchen.",
    "What is the weather in Paris?",
    "Tell me about the sea.",
)
Client = UrlClient | ModelClient
FATES = ("ok", "lost", "failed", "cut")
BEAT_S = 0.1
LEAD_S = 0.02  # a request is prepared and its connection opened this long before it is due
STEPS = 10
RISE = 1.05


@dataclass(frozen=True, slots=True)
class Plan:
    """Say how to load: one of `rate` (requests/s, open loop) and `concurrency` (callers, closed loop).

    Targets are seconds: a request is good when it meets all that are set. `timeout` (s) bounds every request;
    the `warmup` requests before the run are not counted. Raises `OptionInvalid` on a value out of range.
    """

    rate: float | None = None
    concurrency: int | None = None
    requests: int = 100
    max_tokens: int = 64
    ignore_eos: bool = False
    target_ttft: float | None = None
    target_tpot: float | None = None
    target_e2el: float | None = None
    seed: int = 0
    warmup: int = 1
    timeout: float = 120.0

    def __post_init__(self) -> None:
        if (self.rate is None) == (self.concurrency is None):
            raise OptionInvalid("the load is not set, or set twice", fix="give one of rate and concurrency")
        whole = ("concurrency", "requests", "warmup", "seed")
        for name in (*whole, "rate", "timeout", "target_ttft", "target_tpot", "target_e2el"):
            value, kind = getattr(self, name), int if name in whole else int | float
            low = 0 if name in ("warmup", "seed") else 1 if name in whole else 1e-6
            high = 2**32 - 1 if name == "seed" else 10**6
            if value is not None and (not isinstance(value, kind) or not low <= value <= high):
                raise OptionInvalid.of(name, value, f"from {low:g} to {high:,}")

    def due(self) -> list[float]:
        """Return when each request is to be sent, in seconds after the first one."""
        gaps = np.random.default_rng(self.seed).exponential(1 / (self.rate or math.inf), self.requests)
        return [float(at) for at in np.cumsum(gaps) - gaps[0]]

    def met_by(self, timing: Timing) -> bool:
        """Return whether a request met all targets; one of a single token has no TPOT that could miss its own."""
        pairs = (
            (timing.ttft, self.target_ttft),
            (timing.tpot, self.target_tpot),
            (timing.total, self.target_e2el),
        )
        return not any(target is not None and value > target for value, target in pairs)

    def doubled(self) -> Plan:
        """Return twice the load with twice the requests, which takes as long while the target keeps up."""
        rate, callers = self.rate and self.rate * 2, self.concurrency and self.concurrency * 2
        return replace(self, rate=rate, concurrency=callers, requests=self.requests * 2)


class _Run:
    """Send a plan's requests; `done` and `wall` (s) are there at any moment, so that Ctrl-C keeps them."""

    def __init__(self, target: Model | Server, plan: Plan, prompts: Sequence[list[Message]]) -> None:
        self.target, self.plan, self.prompts = target, plan, prompts
        self.done: list[Outcome] = []
        self.wall, self.interrupted = 0.0, False
        self.cancel: Callable[[], object] = lambda: None

    def run(self, progress: Callable[[], object]) -> None:
        """Work in a thread: a notebook's event loop is taken, and drawing a bar must not delay a stamp."""
        shown = 0
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(asyncio.run, self._send_all())
            while shown < len(self.done) or not future.done():
                try:
                    wait([future], BEAT_S)
                    for _ in self.done[shown:]:
                        shown += 1
                        progress()
                except KeyboardInterrupt:
                    self.interrupted = True
                    with suppress(RuntimeError):  # the loop has just ended
                        self.cancel()
            with suppress(asyncio.CancelledError):
                future.result()

    async def _send_all(self) -> None:
        plan, task, loop = self.plan, asyncio.current_task(), asyncio.get_running_loop()
        self.cancel = lambda: task and loop.call_soon_threadsafe(task.cancel)
        async with aclosing(self._client()) as client:
            for at in range(plan.warmup):
                await client.ask(self.prompts[-1 - at % len(self.prompts)], Outcome())
            start = time.perf_counter() + (LEAD_S if plan.rate else 0)
            try:
                async with asyncio.TaskGroup() as group:
                    if plan.rate:
                        await self._open_loop(client, start, group)
                    numbers = iter(range(plan.requests))
                    for _ in range(min(plan.concurrency or 0, plan.requests)):
                        group.create_task(self._caller(client, numbers))
            finally:
                self.wall = max(0.0, time.perf_counter() - start)

    def _client(self) -> Client:
        options = GenerationOptions(max_tokens=self.plan.max_tokens, ignore_eos=self.plan.ignore_eos)
        if isinstance(self.target, Server):
            return UrlClient(self.target, options, self.plan.timeout)
        return ModelClient(self.target, options)

    async def _open_loop(self, client: Client, start: float, group: asyncio.TaskGroup) -> None:
        for at, due in enumerate(self.plan.due()):
            await asyncio.sleep(max(0.0, start + due - LEAD_S - time.perf_counter()))
            group.create_task(self._send(client, at, start + due))

    async def _caller(self, client: Client, numbers: Iterator[int]) -> None:
        for at in numbers:
            await self._send(client, at, None)

    async def _send(self, client: Client, at: int, due: float | None) -> None:
        outcome = Outcome(due)
        await client.ask(self.prompts[at % len(self.prompts)], outcome)
        self.done.append(outcome)


def measure(
    target: Model | Server | str,
    prompts: Sequence[list[Message]] = (),
    *,
    progress: Callable[[], object] = lambda: None,
    **plan: Any,
) -> Record:
    """Load a model or an OpenAI-compatible server (a URL), and return every sample and figure as one record.

    `prompts` are lists of chat messages, used in turn; `plan` has the fields of `Plan`, as in `rate=5`.
    `progress` is called after each request. Ctrl-C ends the run and keeps what was measured, marked as
    interrupted. Raises `OptionInvalid`, and `EngineUnavailable` for a server that names no model.
    """
    chosen = Plan(**plan)
    target = Server.find(target) if isinstance(target, str) else target
    run = _Run(target, chosen, prompts or [[{"role": "user", "content": text}] for text in PROMPTS])
    run.run(progress)
    return _record(target, chosen, run)


def _record(target: Model | Server, plan: Plan, run: _Run) -> Record:
    good = [outcome for outcome in run.done if outcome.fate == "ok"]
    timings = [outcome.timing for outcome in good if outcome.stamps]
    samples = {
        "ttft": [t.ttft for t in timings],
        "tpot": [t.tpot for t in timings],
        "itl": [gap for t in timings for gap in t.itl],
        "e2el": [t.total for t in timings],
        "lag": [o.sent - o.due for o in run.done if o.due is not None],
        "input_tokens": [float(outcome.prompt_tokens) for outcome in good if outcome.reported],
        "output_tokens": [float(outcome.tokens) for outcome in good],
    }
    written = sum(samples["output_tokens"])
    read = sum(samples["input_tokens"]) if all(outcome.reported for outcome in good) else math.nan
    wall, met = run.wall or math.nan, sum(plan.met_by(t) for t in timings)
    figures = {fate: float(sum(outcome.fate == fate for outcome in run.done)) for fate in FATES}
    figures |= {"wall_time": wall, "throughput": written / wall, "total_throughput": (read + written) / wall}
    figures |= {"requests_per_s": len(good) / wall, "goodput": met / wall}
    counted = " and ".join(sorted({"usage" if outcome.reported else "chunks" for outcome in good}))
    settings = {**asdict(plan), "tokens_from": counted, "interrupted": run.interrupted}
    reasons = dict(Counter(outcome.why for outcome in run.done if outcome.why).most_common(10))
    return Record("load", {**_about(target, settings), "reasons": reasons}, samples, figures)


def _about(target: Model | Server, settings: dict[str, Any]) -> dict[str, Any]:
    if isinstance(target, Model):
        return about(target, **settings)
    return {**about(target.url, **settings), "model": target.model}


def saturate(
    target: Model | Server | str,
    prompts: Sequence[list[Message]] = (),
    *,
    steps: int = STEPS,
    progress: Callable[[], object] = lambda: None,
    **plan: Any,
) -> Iterator[Record]:
    """Double the load step by step, yielding a record each, until goodput rises by less than 5 % or `steps` are done.

    Arguments are those of `measure`, for the first step. `knee` finds the load that was the last worth adding.
    """
    target, chosen, before = Server.find(target) if isinstance(target, str) else target, Plan(**plan), 0.0
    for _ in range(steps):
        record = measure(target, prompts, progress=progress, **asdict(chosen))
        yield record
        if record.about["settings"]["interrupted"] or record.figures.get("goodput", 0.0) <= before * RISE:
            return
        before, chosen = record.figures["goodput"], chosen.doubled()


def knee(steps: Sequence[Record]) -> Record | None:
    """Return the first step whose double gave no 5 % more goodput; None if goodput was rising to the end."""
    goodput = [step.figures.get("goodput", 0.0) for step in steps]
    return next((s for s, (a, b) in zip(steps, pairwise(goodput), strict=False) if a and b <= a * RISE), None)
