"""Alerts: rules over a window of measurements. One bad value may be chance; a share of a window is a state."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from labkit.errors import OptionInvalid

# "at": seconds of any clock; then figures by name, as in {"at": 12.0, "ttft": 0.3}.
Sample = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Rule:
    """Fire when at least `share` of the samples in the last `window` seconds have `field` over `limit`.

    Fewer than `least` samples with that field never fire.
    """

    field: str
    limit: float
    window: float
    share: float = 0.5
    least: int = 3

    def __post_init__(self) -> None:
        if not (self.window > 0 and 0 < self.share <= 1 and self.least >= 1 and math.isfinite(self.limit)):
            raise OptionInvalid(f"{self} can never fire", fix="window > 0, 0 < share <= 1, least >= 1")


@dataclass(frozen=True, slots=True)
class Alert:
    """Tell which rule fired, how many of the window's samples were over its limit, and the worst of them."""

    rule: Rule
    bad: int
    samples: int
    worst: float

    def __str__(self) -> str:
        over = f"{self.bad} of {self.samples} samples in {self.rule.window:g} s over {self.rule.limit:g}"
        return f"{self.rule.field}: {over}, the worst {self.worst:.3g}"


def alerts(samples: Sequence[Sample], rules: Iterable[Rule], now: float | None = None) -> list[Alert]:
    """Return the alerts that hold at `now` seconds (the time of the last sample, unless told)."""
    now = max((sample["at"] for sample in samples), default=0.0) if now is None else now
    found = []
    for rule in rules:
        recent = (s.get(rule.field, math.nan) for s in samples if 0 <= now - s["at"] <= rule.window)
        values = [value for value in recent if not math.isnan(value)]
        bad = [value for value in values if value > rule.limit]
        if len(values) >= rule.least and bad and len(bad) >= rule.share * len(values):
            found.append(Alert(rule, len(bad), len(values), max(bad)))
    return found
