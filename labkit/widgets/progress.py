"""Say how far a long task is: a bar that has a name, with the same in words beside it."""

from __future__ import annotations

import time
from collections.abc import Callable

import ipywidgets

from labkit.errors import LabkitError
from labkit.widgets.language import tr

BEAT_S = 0.2


class Progress(ipywidgets.HTML):
    """Show steps of a task; once `stopped` says so, the next step raises `LabkitError`, which ends the task.

    `shown` writes a number of steps for people, `resume` says how to go on after a stop.
    """

    def __init__(
        self, stopped: Callable[[], bool], shown: Callable[[int], str] = str, resume: str = ""
    ) -> None:
        super().__init__()
        self.stopped, self.shown, self.resume, self._told = stopped, shown, resume, 0.0

    def step(self, done: int, total: int) -> None:
        """Show that `done` of `total` is done, a few times a second."""
        text = tr("{done} of {total}", done=self.shown(done), total=self.shown(total))
        if self.stopped():
            self.value = ""
            raise LabkitError(f"stopped at {text}", fix=self.resume)
        if done == total or time.monotonic() - self._told > BEAT_S:
            self._told = time.monotonic()
            bar = f'<progress max="{total}" value="{done}" aria-label="{tr("progress")}"></progress> {text}'
            self.value = "" if done == total else bar
