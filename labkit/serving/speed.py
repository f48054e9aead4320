"""How fast one replica of a service is: what was measured of it, and all that sizing knows of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from labkit.errors import OptionInvalid
from labkit.metrics.records import Record


@dataclass(frozen=True)
class Speed:
    """Tell how fast one replica is: `rates[i]` requests/s with `callers[i]` at a time, and no more than the last.

    Rates between are interpolated. `first` is the share of a request's work that is done at its first token.
    """

    callers: tuple[int, ...]
    rates: tuple[float, ...]
    first: float

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in pairwise((0, *self.callers))) and len(self.callers) == len(self.rates)
        if not (self.callers and rising and 0 < min(self.rates) <= max(self.rates) < math.inf):
            raise OptionInvalid(
                f"{self} is no speed", fix="rising callers from 1 on, and a rate > 0 for each"
            )
        if not 0 < self.first <= 1:
            raise OptionInvalid.of("first", self.first, "a share over 0, up to 1")

    @classmethod
    def of(cls, records: Iterable[Record]) -> Speed:
        """Take the speed from closed-loop records of load; `first` is median TTFT / E2EL of the fewest callers."""
        runs = sorted(records, key=lambda record: record.about["settings"]["concurrency"])
        ttft, whole = (float(np.median(runs[0].samples[name])) for name in ("ttft", "e2el"))
        callers = tuple(run.about["settings"]["concurrency"] for run in runs)
        return cls(callers, tuple(run.figures["requests_per_s"] for run in runs), ttft / whole)

    @property
    def slots(self) -> int:
        """Return how many requests run at a time; more wait."""
        return self.callers[-1]

    @cached_property
    def each(self) -> tuple[float, ...]:
        """Return the speed of one request, in requests/s, where 0, 1, 2, … run."""
        known = np.interp(range(self.slots + 1), self.callers, self.rates)
        return (math.inf, *(float(rate) / n for n, rate in enumerate(known[1:], 1)))

    def ttft(self, running: int) -> float:
        """Return the seconds to the first token where so many run all the while and none waits."""
        return self.first / self.each[running]
