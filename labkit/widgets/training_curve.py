"""Draw a training run while it goes on: reward, held-out success and KL, or loss."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import ipywidgets

from labkit.widgets.charts import Chart, Series
from labkit.widgets.language import tr

BEAT_S = 0.5
TITLES = {
    "reward": "mean reward of the replies drawn in a step",
    "success": "held-out tasks that succeed, greedy",
    "kl": "KL divergence from the start, per token",
    "loss": "loss",
    "held_out_loss": "held-out loss",
}


class TrainingCurve(ipywidgets.HTML):
    """Take a run's log entries as they come (`on_step=curve.add`) and draw each figure over the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[Mapping[str, Any]] = []
        self._drawn = 0.0

    def add(self, entry: Mapping[str, Any]) -> None:
        """Take one step's entry, and draw at most twice a second."""
        self.entries.append(entry)
        if time.monotonic() - self._drawn > BEAT_S:
            self.draw()

    def draw(self) -> None:
        """Draw all that came so far."""
        self._drawn = time.monotonic()
        pictures = [chart._repr_mimebundle_()["text/html"] for chart in self.charts()]
        self.value = "".join(pictures) or tr("no step yet")

    def charts(self) -> list[Chart]:
        """Return a chart for each figure that is in the log."""
        found = []
        for name, title in TITLES.items():
            points = [(entry["step"], entry[name]) for entry in self.entries if name in entry]
            if len(points) > 1:
                steps, values = zip(*points, strict=True)
                found.append(Chart(tr(title), tr("step"), name, (Series(name, "steps", steps, values),)))
        return found

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.charts())) or tr("no step yet")
