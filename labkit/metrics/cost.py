"""What a request costs, on a machine of one's own and elsewhere.

Prices are not measured: a `Box` holds assumptions, to be changed; cloud prices are quoted (`labkit.models.cloud`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from labkit.errors import OptionInvalid
from labkit.metrics.agent_eval import Share
from labkit.metrics.table import Table

HEAD = ["", "$ for 1,000", "times cheaper", "right, %", "$ for 1,000 right", "the $ are"]


@dataclass(frozen=True, slots=True)
class Box:
    """Assume what a machine costs: `watts` on the mean, and `busy`, the share of time in which it works."""

    price_usd: float = 500.0
    years: float = 4.0
    watts: float = 15.0
    usd_per_kwh: float = 0.30
    busy: float = 0.05

    def __post_init__(self) -> None:
        if not (self.years > 0 and 0 < self.busy <= 1 and all(v >= 0 for v in asdict(self).values())):
            raise OptionInvalid(f"no such machine: {self!r}", fix="years > 0, 0 < busy ≤ 1, nothing below 0")

    @property
    def usd_per_second(self) -> float:
        """Return (price + electricity of all years) / seconds of work: idle time is paid for, too."""
        hours = self.years * 365 * 24
        return (self.price_usd + hours * self.watts / 1000 * self.usd_per_kwh) / (hours * 3600 * self.busy)


@dataclass(frozen=True, slots=True)
class Way:
    """Name a way to answer: US dollars a request, where that figure is from, and the share it gets right."""

    name: str
    usd: float
    basis: str
    right: Share | None = None


@dataclass(frozen=True, slots=True, repr=False)
class CostTable(Table):
    """Set ways to answer beside the first of them; `box` gave those here their price."""

    ways: tuple[Way, ...]
    box: Box
    title: str = "What 1,000 requests cost"

    @property
    def cells(self) -> list[list[str]]:
        """Return the table as text, its headings first."""
        return [HEAD, *(self._row(way) for way in self.ways)]

    def _row(self, way: Way) -> list[str]:
        right, first = way.right, self.ways[0].usd
        shown = f"{100 * right.share:.0f} ({100 * right.low:.0f}–{100 * right.high:.0f})" if right else "-"
        each = short(1000 * way.usd / right.share) if right and right.hits else "-"
        times = short(first / way.usd) if way.usd else "-"
        return [way.name, short(1000 * way.usd), times, shown, each, way.basis]

    @property
    def footer(self) -> list[str]:
        """Return the assumptions and the formulas."""
        box = ", ".join(f"{name} {value:g}" for name, value in asdict(self.box).items())
        return [
            f"assumed: {box}; (price + electricity) / (years × busy) = ${self.box.usd_per_second:.2g} a second of work",
            f"times cheaper = $ of {self.ways[0].name} / $; right: in brackets the 95 % interval (Wilson)",
            "$ for 1,000 right = $ for 1,000 / share right; what a wrong answer costs its user is not in it",
        ]


def short(value: float) -> str:
    """Write a figure with two digits, or as a whole number."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}"
