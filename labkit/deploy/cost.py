"""What a service costs a month: replicas, functions, or a machine of one's own and a cloud for the rest.

Requests, tokens and seconds are measured (`Demand.of` reads a load record); prices are assumed, and shown.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import fmean

from labkit.errors import OptionInvalid
from labkit.metrics.cost import Box, short
from labkit.metrics.records import Record
from labkit.metrics.table import Table

DAYS, HOURS = 365 / 12, 24  # of a month, of a day
# A share of the day's requests for each hour, assumed: offices and schools, quiet nights. The sum is 100.
OFFICE = (1, 1, 1, 1, 1, 1, 2, 4, 7, 9, 9, 8, 6, 8, 9, 8, 7, 5, 3, 3, 2, 2, 1, 1)
HEAD = ["", "fixed, $", "elastic, $", "a month, $", "saved, %", "too much at once, %"]


@dataclass(frozen=True, slots=True)
class Demand:
    """Say what is asked: requests a day, their tokens and seconds, and the requests/s that one replica bears.

    `hours` weighs the 24 hours of a day; within an hour requests are taken as even.
    """

    per_day: float
    prompt_tokens: float
    completion_tokens: float
    seconds: float
    per_replica: float
    hours: tuple[float, ...] = OFFICE

    def __post_init__(self) -> None:
        *numbers, hours = asdict(self).values()
        fine = all(0 <= n < math.inf for n in (*numbers, *hours)) and self.per_replica > 0
        if not (fine and len(hours) == HOURS and sum(hours) > 0):
            raise OptionInvalid(f"no such demand: {self!r:.200}", fix="24 hours, nothing below 0")

    @classmethod
    def of(cls, record: Record, per_day: float) -> Demand:
        """Read tokens, seconds and goodput from a load record; raise `OptionInvalid` if no request was good."""
        keys, good = ("input_tokens", "output_tokens", "e2el"), record.figures.get("goodput", 0.0)
        read, written, took = (fmean(record.samples.get(key) or [0.0]) for key in keys)
        if not (read and written and took and good):
            raise OptionInvalid("no good request with its tokens here", fix="measure(m, concurrency=2)")
        return cls(per_day, read, written, took, good)

    @property
    def rates(self) -> list[float]:
        """Return the requests/s of every hour of a day."""
        return [self.per_day * share / sum(self.hours) / 3600 for share in self.hours]

    def beyond(self, replicas: list[int]) -> float:
        """Return the share of requests that come faster than the replicas of their hour bear."""
        over = (max(0.0, r - n * self.per_replica) for r, n in zip(self.rates, replicas, strict=True))
        return sum(over) / (sum(self.rates) or 1)


@dataclass(frozen=True, slots=True)
class Prices:
    """Assume prices in US dollars: a replica's month, a function's GB-second and call, a cloud's million tokens.

    Token prices of 0 mean that the model runs in the replica or function itself.
    """

    replica_month: float = 100.0
    gb_second: float = 0.0000167
    call: float = 0.0000002
    gb: float = 2.0
    input_usd: float = 0.0
    output_usd: float = 0.0

    def tokens(self, demand: Demand) -> float:
        """Return what the tokens of a month cost at a cloud model."""
        one = demand.prompt_tokens * self.input_usd + demand.completion_tokens * self.output_usd
        return demand.per_day * DAYS * one / 1e6


@dataclass(frozen=True, slots=True)
class Bill:
    """Keep one way's dollars a month, and the share of requests that came too fast."""

    name: str
    fixed: float
    elastic: float
    beyond: float = 0.0


def fixed(demand: Demand, prices: Prices, replicas: int = 3) -> Bill:
    """Keep so many replicas, day and night."""
    beyond = demand.beyond([replicas] * HOURS)
    return Bill(f"{replicas} replicas", replicas * prices.replica_month, prices.tokens(demand), beyond)


def hpa(demand: Demand, prices: Prices, least: int = 2, most: int = 10) -> Bill:
    """Run the replicas that an hour needs, within bounds: what an autoscaler does that is never late."""
    need = [min(most, max(least, math.ceil(rate / demand.per_replica))) for rate in demand.rates]
    more = (fmean(need) - least) * prices.replica_month + prices.tokens(demand)
    return Bill(f"HPA, {least} to {most} replicas", least * prices.replica_month, more, demand.beyond(need))


def serverless(demand: Demand, prices: Prices) -> Bill:
    """Pay each call for its seconds and memory; a cold start's seconds are not in it."""
    one = demand.seconds * prices.gb * prices.gb_second + prices.call
    return Bill("serverless", 0.0, demand.per_day * DAYS * one + prices.tokens(demand))


def hybrid(demand: Demand, prices: Prices, box: Box, local: float = 0.8) -> Bill:
    """Let a box answer this share of the requests, as far as one replica's speed goes, and a cloud the rest."""
    here = sum(min(rate * local, demand.per_replica) for rate in demand.rates) / (sum(demand.rates) or 1)
    month = box.usd_per_second * box.busy * DAYS * HOURS * 3600
    name = "a box for all" if here > 0.995 else f"a box for {here:.0%}, else a cloud"
    return Bill(name, month, prices.tokens(demand) * (1 - here))


@dataclass(frozen=True, slots=True, repr=False)
class Bills(Table):
    """Set bills beside the first; `inputs` are what they were computed from."""

    bills: tuple[Bill, ...]
    inputs: tuple[Demand | Prices | Box, ...] = ()
    title: str = "Dollars a month"

    @property
    def cells(self) -> list[list[str]]:
        """Return the table as text, its headings first."""
        return [HEAD, *([b.name, *map(short, self._figures(b))] for b in self.bills)]

    def _figures(self, b: Bill) -> tuple[float, ...]:
        month, first = b.fixed + b.elastic, self.bills[0].fixed + self.bills[0].elastic
        return b.fixed, b.elastic, month, 100 * (1 - month / (first or math.nan)), 100 * b.beyond

    @property
    def footer(self) -> list[str]:
        """Return every input and the formulas."""
        pairs = [asdict(each).items() for each in self.inputs]
        inputs = [", ".join(f"{k} {_plain(v)}" for k, v in found if k != "hours") for found in pairs]
        saved = f"saved = 1 - a month / a month of {self.bills[0].name}; people's work is in none of them"
        return [*inputs, saved, "too much at once = requests/s that an hour's replicas do not bear, of all"]


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


# The table of the source guide's appendix C.7.3, quoted. One demand that makes its first row: at GPT-4o mini's quoted
# prices the tokens of these requests cost $500.
WAYS = ("3 replicas", "HPA, 2 to 10", "serverless", "hybrid")
GUIDE = tuple(map(Bill, WAYS, (300, 200, 0, 100), (500, 300, 400, 200)))
GUIDE_PRICES = Prices(input_usd=0.15, output_usd=0.60)
GUIDE_DEMAND = Demand(500 / 0.00033 / DAYS, 1000, 300, seconds=2.0, per_replica=0.5)
