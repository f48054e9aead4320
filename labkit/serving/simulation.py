"""Replay a trace of requests on 1 to 1,000 replicas in simulated time (a discrete-event simulation).

A replica is known by its measured `Speed` alone: its requests get equal parts of it (processor sharing), and what
finds no free place waits in one queue, as in the gateway. Nothing is known of models, networks or failures.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from labkit.errors import OptionInvalid
from labkit.serving.speed import Speed

MAX_REPLICAS = 1_000
LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """Say when a request comes, in seconds, and its work: 1 is a request like those that were measured."""

    at: float
    work: float = 1.0


@dataclass(frozen=True, slots=True)
class Autoscale:
    """Settle how many replicas there are: one for every `ongoing` requests that run or wait, as in Ray Serve.

    The number changes once another was wanted for `up_after` or `down_after` seconds (it is looked at every second).
    A new replica serves after `start` seconds.
    """

    least: int = 1
    most: int = 10
    ongoing: float = 4.0
    up_after: float = 5.0
    down_after: float = 60.0
    start: float = 10.0

    def __post_init__(self) -> None:
        if not (1 <= self.least <= self.most <= MAX_REPLICAS and 0 < self.ongoing < math.inf):
            raise OptionInvalid(f"{self} cannot be", fix=f"1 ≤ least ≤ most ≤ {MAX_REPLICAS:,}, ongoing > 0")

    def wanted(self, requests: int) -> int:
        """Return how many replicas so many running and waiting requests ask for."""
        return min(self.most, max(self.least, math.ceil(requests / self.ongoing)))


@dataclass(slots=True)
class Replay:
    """Keep what came of a replay: seconds to the first token and in all, in the order in which they were reached.

    `sizes` are (second, replicas) at the start and at each change.
    """

    ttft: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    sizes: list[tuple[float, int]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def p95(self) -> float:
        """Return the 95th percentile of the time to first token, in seconds."""
        return float(np.percentile(self.ttft, 95)) if self.ttft else math.nan

    @property
    def replica_seconds(self) -> float:
        """Return the seconds of all replicas together, starting and closing ones among them: what they cost."""
        ends = [at for at, _ in self.sizes[1:]] + [self.seconds]
        return sum(n * (end - at) for (at, n), end in zip(self.sizes, ends, strict=True))

    def __str__(self) -> str:
        most = max(n for _, n in self.sizes)
        return (
            f"{len(self.total):,} answered; TTFT p95 {self.p95:.2f} s; at most {most:,} replicas (simulated)"
        )


def replay(
    trace: Iterable[Arrival], speed: Speed, replicas: int = 1, scale: Autoscale | None = None
) -> Replay:
    """Serve a trace; with `scale`, `replicas` are those at its start.

    Raises `OptionInvalid` for less than 1 or more than 1,000 replicas.
    """
    if not 1 <= replicas <= MAX_REPLICAS:
        raise OptionInvalid.of("replicas", replicas, f"a whole number from 1 to {MAX_REPLICAS}")
    return _Service(speed, replicas, scale).run(sorted(trace, key=lambda arrival: arrival.at))


class _Replica:
    """Serve requests at once. Each has two marks on the scale of work done: its first token and its end."""

    def __init__(self, each: tuple[float, ...]) -> None:
        self.each, self.running, self.work, self.at = each, 0, 0.0, 0.0
        self.marks: list[tuple[float, int, float, bool]] = []  # work, order, when it came, whether the first
        self.version, self.closing = 0, False

    def advance(self, now: float) -> None:
        if self.running:
            self.work += (now - self.at) * self.each[self.running]
        self.at = now

    def due(self) -> float:
        return self.at + max(0.0, self.marks[0][0] - self.work) / self.each[self.running]


class _Service:
    """Hold the events to come: (second, order, what to do, and with what)."""

    def __init__(self, speed: Speed, replicas: int, scale: Autoscale | None) -> None:
        self.speed, self.scale, self.found = speed, scale, Replay()
        self.events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.free: list[tuple[int, int, _Replica]] = []  # by how many run; entries may be out of date
        self.open, self.waiting, self.order = list[_Replica](), deque[Arrival](), count()
        self.left = self.running = self.starting = self.side = 0
        self.since = 0.0
        for _ in range(replicas):
            self.ready(0.0)
        self.found.sizes = [(0.0, replicas)]

    def run(self, trace: Sequence[Arrival]) -> Replay:
        self.left = len(trace)
        for arrival in trace:
            self.plan(arrival.at, self.arrive, arrival)
        if self.scale:
            self.plan(0.0, self.look, self.scale)
        while self.left:
            self.found.seconds, _, do, what = heapq.heappop(self.events)
            do(self.found.seconds, *what)
        return self.found

    def plan(self, at: float, do: Callable[..., None], *what: Any) -> None:
        heapq.heappush(self.events, (at, next(self.order), do, what))

    def ready(self, now: float, started: int = 0) -> None:
        self.starting -= started
        self.open.append(_Replica(self.speed.each))
        self.open[-1].at = now
        self.settle(now, self.open[-1])

    def arrive(self, now: float, arrival: Arrival) -> None:
        if replica := self.freest():
            replica.advance(now)
            self.admit(replica, arrival)
            self.settle(now, replica)
        else:
            self.waiting.append(arrival)

    def freest(self) -> _Replica | None:
        """Return the replica with the fewest requests, if it has a free place."""
        while self.free:
            running, _, replica = self.free[0]
            if replica.running == running < self.speed.slots and not replica.closing:
                return replica
            heapq.heappop(self.free)
        return None

    def admit(self, replica: _Replica, arrival: Arrival) -> None:
        for share, first in ((self.speed.first, True), (1.0, False)):
            mark = (replica.work + arrival.work * share, next(self.order), arrival.at, first)
            heapq.heappush(replica.marks, mark)
        replica.running += 1
        self.running += 1

    def mark(self, now: float, replica: _Replica, version: int) -> None:
        """Reach a first token or an end, unless the replica's requests have changed since this was planned."""
        if replica.version != version:
            return
        replica.advance(now)
        _, _, came, first = heapq.heappop(replica.marks)
        (self.found.ttft if first else self.found.total).append(now - came)
        if not first:
            replica.running -= 1
            self.running -= 1
            self.left -= 1
        self.settle(now, replica)

    def settle(self, now: float, replica: _Replica) -> None:
        """Let a replica take what waits, and plan anew when it is due."""
        while self.waiting and replica.running < self.speed.slots and not replica.closing:
            self.admit(replica, self.waiting.popleft())
        replica.version += 1
        if replica.running:
            self.plan(replica.due(), self.mark, replica, replica.version)
        elif replica.closing:
            self.resized(now, -1)
        if not replica.closing:
            heapq.heappush(self.free, (replica.running, next(self.order), replica))

    def look(self, now: float, scale: Autoscale) -> None:
        """Start or close replicas when another number has been wanted for long enough."""
        self.plan(now + LOOK_EVERY_S, self.look, scale)
        more = scale.wanted(self.running + len(self.waiting)) - len(self.open) - self.starting
        side = (more > 0) - (more < 0)
        if side != self.side:
            self.side, self.since = side, now
        if now - self.since < (scale.up_after if side > 0 else scale.down_after):
            return
        for _ in range(more):
            self.starting += 1
            self.plan(now + scale.start, self.ready, 1)
        self.resized(now, max(0, more))
        for replica in sorted(self.open, key=lambda r: r.running)[: max(0, -more)]:
            replica.closing = True
            self.open.remove(replica)
            self.settle(now, replica)

    def resized(self, now: float, more: int) -> None:
        if more:
            self.found.sizes.append((now, self.found.sizes[-1][1] + more))
