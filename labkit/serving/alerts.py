"""What the gateway does when an alert fires: unload idle models, switch to a smaller one, shed load.

Two watchers may ask for an action: the gateway itself, by `RULES` over its own figures, and a Prometheus server,
which sends the alerts of `alerts.yml` as it would to its Alertmanager. An action lasts while one of them wants it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

from labkit.engines.prometheus import read_page
from labkit.errors import OptionInvalid
from labkit.metrics.alerts import Rule, Sample, alerts
from labkit.serving.telemetry import Telemetry

# An action is told True when it shall begin and False when it shall end; `name` may be told the same twice.
Action = Callable[[bool], Awaitable[object]]

RULES = {
    "shed_load": Rule("queue_share", limit=0.8, window=10),
    "smaller_model": Rule("ttft", limit=1.0, window=60, least=5),
    "unload_idle": Rule("memory_share", limit=0.9, window=30),
}
EVERY_S = 2.0
HOLD_S = 30.0  # after the last look at which a rule fired: an action's own success does not end it at once
SENT_S = 300.0  # for how long a sent alert holds that has no end, as in Alertmanager
MOST = 1_000  # alerts that are remembered
log = logging.getLogger(__name__)


class Alerts:
    """Watch the figures of `telemetry`, take alerts from outside, and begin and end `actions` by name.

    `rules` are judged by `run()`; `on` holds the actions that are in force.
    """

    def __init__(
        self, telemetry: Telemetry, actions: Mapping[str, Action], rules: Mapping[str, Rule] = RULES
    ) -> None:
        self.telemetry, self.actions, self.rules = telemetry, actions, rules
        self.samples: deque[Sample] = deque(maxlen=MOST)
        self.held: dict[str, tuple[str, float]] = {}  # what asks → the action, and until when (UNIX seconds)
        self.on: set[str] = set()
        self._before, self._acting = dict[str, float](), asyncio.Lock()
        for name in actions:
            telemetry.action_on.labels(name).set(0)

    async def run(self, every: float = EVERY_S) -> None:
        """Look every so many seconds until the task is cancelled, and act on what is seen."""
        while True:
            self.look(time.time())
            await self.act(time.time())
            await asyncio.sleep(every)

    def look(self, now: float) -> None:
        """Add a sample of the figures, and hold what the rules ask for."""
        page = read_page(self.telemetry.page().decode())
        sample, self._before = _sample(page, self._before), page
        self.samples.append({"at": now, **sample})
        for action, rule in self.rules.items():
            if alerts(self.samples, [rule], now):
                self.held[action] = (action, now + HOLD_S)

    async def act(self, now: float) -> None:
        """Begin and end actions; one that fails is logged, and tried again at the next look."""
        async with self._acting:
            self.held = {asks: (action, end) for asks, (action, end) in self.held.items() if end > now}
            wanted = {action for action, _ in self.held.values()} & self.actions.keys()
            for name in sorted(wanted ^ self.on):
                try:
                    await self.actions[name](name in wanted)
                except Exception:  # whatever an action meets, the others and the gateway go on
                    log.exception("the action %s failed", name)
                    continue
                self.on ^= {name}
                self.telemetry.action_on.labels(name).set(name in wanted)

    async def receive(self, sent: object) -> None:
        """Take a list of alerts as Prometheus sends them; raise `OptionInvalid` for anything else."""
        if not isinstance(sent, list) or len(sent) > MOST:
            raise OptionInvalid("alerts come as a list, 1,000 at most", fix="send Prometheus' alerts")
        now = time.time()
        for told in sent:
            labels, end = _read(told, now)
            if labels.get("action") in self.actions and len(self.held) < MOST:
                self.held[str(sorted(labels.items()))] = (labels["action"], end)
        await self.act(now)


def _sample(page: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    """Return shares of what is there, and the mean TTFT of the requests since the page before."""

    def share(part: str, whole: str) -> float:
        return page[part] / page[whole] if page.get(part) and page[whole] else 0.0

    ttft, count = (
        page[name] - before.get(name, 0.0)
        for name in ("labkit_ttft_seconds_sum", "labkit_ttft_seconds_count")
    )
    return {
        "queue_share": share("labkit_queue_depth", "labkit_queue_limit"),
        "memory_share": share("labkit_backend_memory_bytes", "labkit_memory_budget_bytes"),
        "ttft": ttft / count if count else math.nan,
    }


def _read(told: Any, now: float) -> tuple[dict[str, str], float]:
    """Return an alert's labels, and when it ends: one that is over has ended already."""
    try:
        labels = {str(key): str(value) for key, value in told["labels"].items()}
        ends = datetime.fromisoformat(told["endsAt"]).timestamp() if "endsAt" in told else now + SENT_S
        return labels, ends
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise OptionInvalid(f"not an alert: {told!r:.200}", fix="send Prometheus' alerts") from exc
