"""How many replicas a service needs, and of what kind: students per box, and advice with its reason."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from labkit.errors import LabkitError
from labkit.serving.simulation import MAX_REPLICAS, Arrival, replay
from labkit.serving.speed import Speed

CARE = 2.0  # places held free, in square roots of the places in use
SLACK = 1.25  # a replica is given up when all others could bear a quarter more than now


@dataclass(frozen=True, slots=True)
class Window:
    """Hold what a service recorded in some seconds: requests it answered, the queue at both ends, its replicas."""

    seconds: float
    answered: float
    waited: float = 0.0
    waiting: float = 0.0
    replicas: int = 1

    @classmethod
    def between(
        cls, before: Mapping[str, float], after: Mapping[str, float], seconds: float, replicas: int = 1
    ) -> Window:
        """Read two pages of the gateway's metrics (`engines.prometheus.read_page`), so many seconds apart."""
        answered, queue = "labkit_ttft_seconds_count", "labkit_queue_depth"
        grown = after.get(answered, 0.0) - before.get(answered, 0.0)
        return cls(seconds, grown, before.get(queue, 0.0), after.get(queue, 0.0), replicas)

    @property
    def rate(self) -> float:
        """Return the requests/s that came: those answered, and those by which the queue grew."""
        return max(0.0, self.answered + self.waiting - self.waited) / self.seconds


@dataclass(frozen=True, slots=True)
class Advice:
    """Say what to do: "up" (a faster replica), "out" (more of them), "down" (fewer) or "stay", and why."""

    action: Literal["up", "out", "down", "stay"]
    replicas: int
    reason: str

    def __str__(self) -> str:
        return f"{self.action}, {self.replicas:,} replicas: {self.reason}"


def recommend(window: Window, speed: Speed, target: float) -> Advice:
    """Advise on the number of replicas from what was recorded, for a TTFT of `target` seconds.

    Places in use on the mean are rate × seconds in work (Little's law). That and twice its square root are held ready,
    so that few of independent requests wait: S. Halfin, W. Whitt, "Heavy-traffic limits for queues with many
    exponential servers", Operations Research 29 (1981), 567–588. A class that asks at one moment needs more.
    """
    now, alone = window.replicas, speed.ttft(1)
    if alone > target:
        what = f"even alone a request takes {alone:.2g} s to its first token, and {target:g} s are wanted"
        return Advice(
            "up", now, f"{what}: more replicas change nothing, a faster one or a smaller model does"
        )
    places = max(n for n in range(1, speed.slots + 1) if speed.ttft(n) <= target)
    need = _replicas(window.rate, speed, places)
    came = f"{window.rate:,.1f} requests/s came; with {places} at a time a replica is in time"
    if need > now:
        if need > MAX_REPLICAS:
            return Advice("up", now, f"{came}, and {need:,} replicas are too many: a faster one is needed")
        return Advice("out", need, f"{came}, so {need:,} are needed")
    less = _replicas(window.rate * SLACK, speed, places)
    if less < now:
        return Advice("down", less, f"{came}, and {less:,} could bear {SLACK - 1:.0%} more")
    return Advice("stay", now, f"{came}, and {now:,} are enough")


def _replicas(rate: float, speed: Speed, places: int) -> int:
    used = rate / speed.each[places]
    return max(1, math.ceil((used + CARE * math.sqrt(used)) / places))


def read_trace(path: Path | str, tokens: float) -> list[Arrival]:
    """Read from a gateway's audit log who came when, from the first one on; `tokens` written are a work of 1.

    Raises `LabkitError` for a file that is no such log.
    """
    try:
        rows = [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]
        asked = [(row["at"], row["completion_tokens"]) for row in rows if row.get("completion_tokens")]
        start = min((at for at, _ in asked), default=0.0)
        return [Arrival(at - start, written / tokens) for at, written in asked]
    except (OSError, ValueError, TypeError, AttributeError, LookupError) as exc:
        raise LabkitError(f"{path} is no audit log: {exc}", fix="give a gateway's audit.jsonl") from exc


def class_trace(
    students: int, every: float = 30.0, seconds: float = 300.0, work: float = 1.0, seed: int = 0
) -> list[Arrival]:
    """Let each student ask once in every so many seconds, at a moment drawn by chance; all ask for like work."""
    random = np.random.default_rng(seed)
    asks = math.ceil(seconds / every)
    starts = (np.arange(asks) + random.random((students, asks))) * every
    return [Arrival(float(at), work) for at in np.sort(starts, axis=None) if at < seconds]


def most_students(speed: Speed, target: float = 1.0, every: float = 30.0, replicas: int = 1) -> int:
    """Return how many students' TTFT has a p95 of at most `target` seconds, by replaying their class (simulated).

    0 where even one waits longer, and never more than the replicas can end in time.
    """
    low, high = 0, math.floor(max(speed.rates) * every * replicas) + 1
    while high - low > 1:
        middle = (low + high) // 2
        in_time = replay(class_trace(middle, every), speed, replicas).p95 <= target
        low, high = (middle, high) if in_time else (low, middle)
    return low
