"""A frame for controls: it works in a thread, says in words how it goes, and shows text where there is no front end.

It never disables a button (the keyboard's focus would be lost with it): it says what the button waits for.
"""

from __future__ import annotations

import html
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets

from labkit.errors import LabkitError
from labkit.widgets.language import right_to_left, tr, turned
from labkit.widgets.log import Log, plain


class Frame(ipywidgets.VBox):
    """Stack controls under a title, do one thing at a time in a thread, and show a line of status beneath."""

    def __init__(self, title: str, children: Sequence[ipywidgets.Widget]) -> None:
        self.title, self.said, self.stopping = tr(title), "", threading.Event()
        self.status = Log(role="status", label=tr("status"))
        self._thread: threading.Thread | None = None
        super().__init__(
            [ipywidgets.HTML(f"<b>{html.escape(plain(self.title))}</b>"), *children, self.status]
        )
        for name in ("labkit", *(["labkit-rtl"] if right_to_left() else [])):
            self.add_class(name)

    def say(self, text: str, **values: object) -> None:
        """Show a line of status in the reader's language, read aloud by a screen reader; `said` keeps it."""
        self.said = plain(tr(text, **values))
        self.status.blocks = [["", self.said]]

    @property
    def busy(self) -> bool:
        """Return whether the thread is at work."""
        return self._thread is not None and self._thread.is_alive()

    def work(self, task: Callable[[], object]) -> None:
        """Do `task` in a thread, so that buttons answer meanwhile; a `LabkitError` is said, not raised."""
        if self.busy:
            return self.say("still at work: press Stop, or wait")
        self.stopping.clear()
        self._thread = threading.Thread(target=self._guard, args=(task,), name=self.title, daemon=True)
        self._thread.start()

    def _guard(self, task: Callable[[], object]) -> None:
        try:
            task()
        except LabkitError as error:
            self.say(str(error))
        except Exception as error:
            self.say(f"{type(error).__name__}: {error}")
            raise  # what nobody foresaw is for `labkit.testing.finish()` to find

    def stop(self) -> None:
        """Ask the thread to end; `task` looks at `stopping`."""
        self.say("stopping …" if self.busy else "nothing to stop")
        self.stopping.set()

    def wait(self, timeout: float = 60) -> None:
        """Wait until the thread has ended, for at most so many seconds."""
        if self._thread:
            self._thread.join(timeout)

    def __repr__(self) -> str:
        return f"{self.title}\n{self.said}".rstrip()

    def _repr_mimebundle_(self, **keywords: Any) -> dict[str, Any]:
        live, text = super()._repr_mimebundle_(**keywords), repr(self)
        return {**live, "text/plain": text, "text/html": turned(f"<pre>{html.escape(text)}</pre>")}


def buttons(actions: Mapping[str, Callable[[], object]]) -> ipywidgets.HBox:
    """Return a row of buttons named in words: an icon alone has no name for a screen reader."""
    looks = {"layout": ipywidgets.Layout(width="auto"), "style": ipywidgets.ButtonStyle()}
    row = [ipywidgets.Button(description=tr(name), **looks) for name in actions]
    for button, action in zip(row, actions.values(), strict=True):
        button.on_click(lambda _, action=action: action())
    return ipywidgets.HBox(row, layout={"flex_flow": "row wrap"})
