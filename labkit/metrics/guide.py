"""Which engine for which site? Decided from a race's rows and from nothing else, with the reasons in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from labkit.metrics.race import COLUMNS, Row
from labkit.models.fit import size

First = Literal["start", "memory", "ttft", "prefill", "decode"]
MORE_IS_BETTER = ("prefill", "decode")
TIE = 1.1
# Where there are packages of an engine; the others run everywhere. From their wheels, and vLLM's installation guide.
SYSTEMS = {"mlx": ("Darwin", "Linux"), "vllm": ("Linux",)}
# Engines that answer only while another machine does.
REMOTE = ("openai",)


@dataclass(frozen=True, slots=True)
class Needs:
    """Describe a site: what it cannot do without, and the figure that counts `first` among what is left.

    `memory` is bytes and `start` seconds, None for no limit; `system` is "Linux", "Darwin" (macOS) or "Windows".
    `callers` counts who asks at the same time. `strict_tools`: every tool call must fit its schema.
    """

    callers: int = 1
    strict_tools: bool = False
    offline: bool = False
    memory: float | None = None
    start: float | None = None
    system: str = "Linux"
    first: First = "decode"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Say whether an engine meets the needs (`fits`), and why it stands where it stands."""

    engine: str
    fits: bool
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.engine:<12} {'fits' if self.fits else 'no'}: {'; '.join(self.reasons)}"


def recommend(rows: Sequence[Row], needs: Needs) -> list[Verdict]:
    """Rank engines: those that meet every need, the best in `needs.first` before the others; then the rest."""
    barred = {row.engine: tuple(_obstacles(row, needs)) for row in rows}
    left = sorted((row for row in rows if not barred[row.engine]), key=lambda row: _cost(row, needs.first))
    good = []
    for place, row in enumerate(left, 1):
        reason = f"{_figure(row, needs.first)}, number {place} of {len(left)} that fit"
        if near := [o.engine for o in left if o is not row and _tied(row, o, needs.first)]:
            reason += f"; a tie with {', '.join(near)} (within 10 %): race again before you choose"
        good.append(Verdict(row.engine, True, (reason,)))
    return [*good, *(Verdict(engine, False, why) for engine, why in barred.items() if why)]


def best(rows: Sequence[Row], needs: Needs) -> list[str]:
    """Return the engine that stands first and those tied with it; none where no engine fits."""
    fits = [next(r for r in rows if r.engine == v.engine) for v in recommend(rows, needs) if v.fits]
    return [row.engine for row in fits if _tied(row, fits[0], needs.first)]


def _obstacles(row: Row, needs: Needs) -> Iterator[str]:
    if needs.system not in SYSTEMS.get(row.engine, (needs.system,)):
        yield f"there is none for {needs.system}"
    if needs.offline and row.engine in REMOTE:
        yield "it asks another machine"
    if needs.callers > 1 and not row.concurrent:
        yield "it answers one caller at a time"
    if needs.strict_tools and not row.constrained:
        yield "it cannot hold a tool call to its schema"
    if needs.memory is not None and not row.memory <= needs.memory:
        yield f"{_figure(row, 'memory')}, and {size(int(needs.memory))} are allowed"
    if needs.start is not None and not row.start <= needs.start:
        yield f"{_figure(row, 'start')}, and {needs.start:g} s are allowed"
    if _cost(row, needs.first) == math.inf:
        yield f"its {needs.first} was not measured"


def _cost(row: Row, name: str) -> float:
    value = float(getattr(row, name))
    return math.inf if math.isnan(value) else 1 / value if name in MORE_IS_BETTER else value


def _tied(one: Row, other: Row, name: str) -> bool:
    low, high = sorted((_cost(one, name), _cost(other, name)))
    return high <= TIE * low


def _figure(row: Row, name: str) -> str:
    column = COLUMNS[name]
    return f"{column.heading} {column.shown(getattr(row, name))} {column.unit}"
