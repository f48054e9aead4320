"""Watch a model, a server and this machine at work: a line for each figure, drawn a few times a second.

A picture is one message of a few kB, so a view costs at most ten messages a second, whatever it watches.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Self

from labkit.engines.base import Model
from labkit.errors import LabkitError, OptionInvalid
from labkit.metrics import records
from labkit.metrics.live import Live
from labkit.models.store import storage_errors
from labkit.widgets.frame import Frame, buttons
from labkit.widgets.language import tr, turned
from labkit.widgets.sparklines import Picture, draw, lines


class LiveMetrics(Frame):
    """Watch `source`, a loaded model or the address of a server's metrics; without one, this machine alone.

    It draws `hertz` (≤ 10) pictures a second. `with LiveMetrics(m): …` watches for a block, else Pause ends it.
    `messages` counts what was sent, `live.window()` returns the figures; files are written into `folder`.
    """

    def __init__(
        self, source: Model | str = "", hertz: float = 4, points: int = 200, folder: Path | str = "."
    ) -> None:
        if not 0 < hertz <= 10 or not 2 <= points <= 200:
            raise OptionInvalid(f"hertz {hertz}, points {points}", fix="hertz up to 10, points from 2 to 200")
        self.hertz, self.folder, self.picture = hertz, Path(folder), Picture()
        self.live = Live("" if isinstance(source, Model) else source, points)
        self.picture.on_msg(lambda _, __, sent: self.save("png", bytes(sent[0])))
        files = {"Save figures": lambda: self.save("jsonl"), "Save SVG": lambda: self.save("svg")}
        actions = {"Pause": self.stop, "Go on": self.go_on, **files, "Save PNG": self.ask_png}
        title = tr("Live: {source}", source=source or tr("this machine"))
        super().__init__(title, [self.picture, buttons(actions)])
        if isinstance(source, Model):
            self.live.attach(source)
        elif source:
            self.live.scrape()  # an address without metrics is an error now, and later a remark
        self.go_on()

    @property
    def messages(self) -> int:
        """Return how many messages the picture has cost."""
        return int(self.picture.messages)

    def go_on(self) -> None:
        """Watch, or watch again."""
        if self.stopping.is_set():
            self.wait()
        self.say("watching")
        self.work(self._run)

    def _run(self) -> None:
        said = "watching"
        while self.comm and self.live.attached and not self.stopping.wait(1 / self.hertz):  # no comm: closed
            self.live.look()
            self.picture.picture = draw(self.live.window())
            if said != (said := self.live.trouble or "watching"):
                self.say(said)
        self.say("paused" if self.live.attached else "another view watches this model now")

    def ask_png(self) -> None:
        """Let the browser draw a PNG of what it shows, and send it here."""
        self.say("the browser draws the PNG …")
        self.picture.send({})

    def save(self, kind: str, png: bytes = b"") -> None:
        """Write "jsonl" (the window as a record), "svg", or the "png" that the browser sent into `folder`."""
        path = (self.folder / f"live-{time.strftime('%Y%m%d-%H%M%S')}.{kind}").absolute()
        try:
            if kind == "jsonl":
                records.write(path, [self.live.record(hertz=self.hertz)])
            else:
                with storage_errors(path):
                    path.write_bytes(png or str(self.picture.picture).encode())
        except LabkitError as error:
            return self.say(str(error))
        self.say("saved {path}", path=path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.wait()
        self.live.look()
        self.picture.picture = draw(self.live.window())
        self.live.detach()

    def __repr__(self) -> str:
        rows = (f"  {name:<16}{now:>20}   {reach}" for name, now, reach in lines(self.live.window()))
        return "\n".join([super().__repr__(), *rows])

    def _repr_mimebundle_(self, **keywords: Any) -> dict[str, Any]:
        return {**super()._repr_mimebundle_(**keywords), "text/html": turned(draw(self.live.window()))}
