"""Checks of lab 19, observability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labkit.checks.core import Exercises, Wrong, compare
from labkit.metrics.alerts import Rule, Sample, alerts
from labkit.serving.figures import Figures

BEGINS, SOON = 60, 20
lab = Exercises("19")


def _queue(values: Mapping[int, float], after: float = 0.0) -> list[Sample]:
    """Return a sample every 2 s for two minutes: the values at their seconds, then `after`."""
    last = max(values)
    return [
        {"at": float(at), "queue_share": values.get(at, after if at > last else 0.0)}
        for at in range(0, 121, 2)
    ]


BLIPS = _queue({30: 1.0, 32: 0.6, 80: 0.9, 82: 1.0})
RUSH = _queue({60: 0.25, 62: 0.6, 64: 0.9}, after=1.0)


def _rates(grown: Figures, seconds: float, written: float, mean_ttft: float) -> str:
    tokens = grown.by("kind", "labkit_tokens_total")
    waits, count = (grown.total(f"labkit_ttft_seconds_{part}") for part in ("sum", "count"))
    rate, mean = tokens["completion"] / seconds, waits / count
    reasons = {
        sum(tokens.values()) / seconds: "these are the tokens of all kinds: only `completion` was written",
        tokens["completion"]: "that is how many were written: divide by the seconds",
    }
    compare(written, rate, reasons, 'for written, divide grown.by("kind", …)["completion"] by seconds')
    turned = {1 / mean: "mean_ttft is turned over: divide the summed waits by their number"}
    compare(mean_ttft, mean, turned, "for mean_ttft, divide the summed waits by their number")
    return f"{rate:,.0f} tokens/s; {mean * 1e3:.1f} ms to the first token, on the mean"


q1 = lab.add(
    _rates,
    hints=(
        'grown.by("kind", "labkit_tokens_total")["completion"] is how many tokens were written in `seconds`.',
        "A histogram has a _sum (of all waits, in seconds) and a _count (of waits): mean = sum / count.",
    ),
    code='written = grown.by("kind", "labkit_tokens_total")["completion"] / seconds\n'
    'mean_ttft = grown.total("labkit_ttft_seconds_sum") / grown.total("labkit_ttft_seconds_count")',
)


def _p95(p95: float) -> str:
    reasons = {
        1.0: "that is the bucket's upper bound: 5 of its 8 waits lie before the 95th, so go 5/8 into it",
        0.5: "that is the bucket's lower bound: 90 waits are at most so long, and you need 95",
        0.75: "that is the bucket's middle: the 95th is not its middle wait",
        812.5: "give seconds, not milliseconds",
    }
    compare(p95, 0.8125, reasons, "the counts pass 95 between 0.5 s (90) and 1 s (98)")
    return "0.8125 s: five eighths of the way from 0.5 to 1 s"


q2 = lab.add(
    _p95,
    hints=(
        "In which bucket is the 95th wait? The counts go from 90 to 98 between 0.5 s and 1 s.",
        "It is the 5th of the 8 waits there: 0.5 + (1 - 0.5) × 5/8.",
    ),
    code="p95 = 0.5 + (1.0 - 0.5) * (95 - 90) / (98 - 90)",
)


def _series(before: int, after: int) -> str:
    if before in (4 * 13, 4 * 14):
        raise Wrong(
            "a histogram has more series than bounds: one bucket for what is beyond, the sum, the count"
        )
    if before != 64:
        raise Wrong(f"before: 4 routes × (13 + 3) series each, not {before!r:.40}")
    if after == 64 + 300:
        raise Wrong("labels multiply: each student has a series of each kind for each route")
    if after in (64 + 19_200, 300 * 16):
        raise Wrong("every combination counts once: routes × students × 16")
    if after != 19_200:
        raise Wrong(f"after: 300 times as many as before, not {after!r:.40}")
    return "64 series become 19,200, for one figure of one gateway"


q3 = lab.add(
    _series,
    hints=(
        "One combination of labels has 13 + 3 series. How many combinations are there with `route` alone?",
        "With `user` there are 4 × 300 combinations.",
    ),
    code="series_before = 4 * (13 + 3)\nseries_after = 4 * 300 * (13 + 3)",
)


def _fires(rule: Rule, samples: Sequence[Sample]) -> float | None:
    """Return the second at which a rule fires first."""
    return next((s["at"] for n, s in enumerate(samples) if alerts(samples[: n + 1], [rule])), None)


def _rule(rule: Rule) -> str:
    if not isinstance(rule, Rule):
        raise Wrong(f'give a Rule, as in Rule("queue_share", limit=…, window=…), not {rule!r:.60}')
    if rule.field != "queue_share":
        raise Wrong(f"the samples have no {rule.field!r:.40}: the field is queue_share")
    blip, rush = _fires(rule, BLIPS), _fires(rule, RUSH)
    if blip is not None:
        raise Wrong(
            f"it fires in the blips, at {blip:g} s: a longer window, or a larger share, needs more bad samples"
        )
    if rush is None:
        raise Wrong(
            "it never fires in the rush: a value must be over the limit, and 1.0 is the most there is"
        )
    if rush > BEGINS + SOON:
        raise Wrong(
            f"it fires {rush - BEGINS:g} s after the rush began: a shorter window, or a smaller share"
        )
    return f"quiet in the blips, and {rush - BEGINS:g} s after the rush began it rings (simulated)"


q4 = lab.add(
    _rule,
    hints=(
        "The longest blip is over the limit for two samples: 4 s. The rush stays.",
        "With a window of 10 s there are six samples; share=0.5 asks for three of them.",
    ),
    code='rule = Rule("queue_share", limit=0.8, window=10, share=0.5)',
)


def _split(spans: Sequence[Mapping[str, Any]], seen: float, own_ms: float, way_ms: float) -> str:
    gateway, engine = (float(each["seconds"]) for each in spans)
    own, way = (gateway - engine) * 1e3, (seen - gateway) * 1e3
    reasons = {
        own / 1e3: "own_ms is in seconds: multiply by 1,000",
        gateway * 1e3: "that is the gateway's whole span: the engine's lies within it, so subtract it",
    }
    compare(own_ms, own, reasons, "for own_ms, subtract the seconds of the inner span from the outer one's")
    outer = {
        (seen - engine) * 1e3: "way_ms: the gateway's own time is not on the way; subtract its whole span"
    }
    compare(way_ms, way, outer, "way_ms is what the caller saw, less the gateway's span")
    return f"engine {engine * 1e3:.1f} ms, gateway {own:.1f} ms, way there and back {way:.1f} ms"


q5 = lab.add(
    _split,
    hints=(
        "spans[0] is the gateway's span, spans[1] the engine's, which lies within it.",
        "own = outer - inner; way = seen - outer. Both in seconds: × 1,000.",
    ),
    code="gateway, chat = spans\nown_ms = (gateway['seconds'] - chat['seconds']) * 1e3\n"
    "way_ms = (seen - gateway['seconds']) * 1e3",
)
