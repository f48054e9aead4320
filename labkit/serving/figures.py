"""A gateway's page of figures with their labels, and what can be told from two of them: rates and percentiles."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import httpx
from prometheus_client.parser import text_string_to_metric_families

from labkit.engines.openai_request import checked_url
from labkit.errors import EngineUnavailable

TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Figures:
    """Hold samples as (name, labels, value). `Figures.read(page)` raises `EngineUnavailable` for no gateway's page."""

    samples: tuple[tuple[str, Mapping[str, str], float], ...]

    @classmethod
    def read(cls, page: str) -> Figures:
        """Read Prometheus' text format."""
        try:
            families = list(text_string_to_metric_families(page))
        except ValueError as exc:
            raise EngineUnavailable(
                f"no page of figures: {exc!s:.200}", fix="ask a gateway's /metrics"
            ) from exc
        found = cls(tuple((s.name, s.labels, s.value) for family in families for s in family.samples))
        if not any(name == "labkit_requests_running" for name, _, _ in found.samples):
            raise EngineUnavailable("these are no figures of a gateway", fix="ask a gateway's /metrics")
        return found

    def by(self, label: str, name: str) -> dict[str, float]:
        """Return the samples of that name, summed for each value of a label; without the label, all are under ""."""
        found: dict[str, float] = {}
        for known, labels, value in self.samples:
            if known == name:
                key = labels.get(label, "")
                found[key] = found.get(key, 0.0) + value
        return found

    def total(self, name: str) -> float:
        """Return the sum of all samples of that name."""
        return math.fsum(value for known, _, value in self.samples if known == name)

    def since(self, before: Figures) -> Figures:
        """Return what every counter has grown by; one that is less than before began anew, as after a restart."""
        was = {(name, *sorted(labels.items())): value for name, labels, value in before.samples}
        grown = []
        for name, labels, value in self.samples:
            old = was.get((name, *sorted(labels.items())), 0.0)
            grown.append((name, labels, value - old if value >= old else value))
        return Figures(tuple(grown))

    def quantile(self, share: float, name: str) -> float:
        """Return the value that a `share` of a histogram's observations does not exceed; NaN when it has none.

        Linear within a bucket; the last finite bound for what lies beyond it: Prometheus' histogram_quantile.
        """
        buckets = sorted((float(le), count) for le, count in self.by("le", f"{name}_bucket").items())
        rank, low, below = share * (buckets[-1][1] if buckets else 0), 0.0, 0.0
        for bound, count in buckets:
            if count >= rank and count > below:
                return low if math.isinf(bound) else low + (bound - low) * (rank - below) / (count - below)
            low, below = bound, count
        return math.nan


@dataclass(frozen=True, slots=True)
class Step:
    """Say what a gateway did between two looks, the later one at `at` seconds.

    `waiting` requests stand in line then; `wait` is the mean time to first token of those `answered`, in seconds.
    """

    at: float
    waiting: float
    answered: float
    wait: float
    refused: float
    actions: tuple[str, ...]

    def __str__(self) -> str:
        told = f"{self.answered:2.0f} answered after {self.wait:4.1f} s, {self.refused:2.0f} turned away"
        return (
            f"{self.at:3.0f} s: {self.waiting:.0f} wait; {told}; in force: {', '.join(self.actions) or '-'}"
        )


def steps(looks: Sequence[tuple[float, Figures]]) -> list[Step]:
    """Return what passed from each look to the next; a look is its time in seconds, and the page."""
    return [_step(at, new, new.since(old)) for (_, old), (at, new) in pairwise(looks)]


def _step(at: float, now: Figures, grown: Figures) -> Step:
    answered = grown.total("labkit_ttft_seconds_count")
    wait = grown.total("labkit_ttft_seconds_sum") / answered if answered else 0.0
    refused = grown.by("status", "labkit_requests_total").get("503", 0.0)
    on = tuple(name for name, value in now.by("action", "labkit_action_on").items() if value)
    return Step(at, now.total("labkit_queue_depth"), answered, wait, refused, on)


def fetch(url: str, key_env: str = "") -> Figures:
    """Ask a gateway for its figures, with the key in the variable `key_env`; raise `EngineUnavailable` without any."""
    key = os.environ.get(key_env, "").strip()
    address = checked_url(url, key_env if key else "").copy_with(path="/metrics")
    try:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        answer = httpx.get(address, headers=headers, timeout=TIMEOUT_S).raise_for_status()
    except (httpx.HTTPError, ValueError) as exc:  # ValueError: a key with characters that no header can have
        fix = "labkit serve starts a gateway; its figures are for a key of the role admin"
        raise EngineUnavailable(f"{address} gives no figures: {type(exc).__name__}", fix=fix) from exc
    return Figures.read(answer.text)
