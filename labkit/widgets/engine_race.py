"""Engines side by side on one prompt: text as it comes, time to first token, tokens per second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from threading import Event, Thread
from typing import Any

import ipywidgets

from labkit.engines.base import Model
from labkit.engines.registry import load
from labkit.errors import LabkitError
from labkit.metrics.race import HELLO, entrants, fullest
from labkit.models.hardware import usable_cores
from labkit.types import Chunk, GenerationOptions, Reply
from labkit.widgets.frame import Frame, buttons
from labkit.widgets.language import tr
from labkit.widgets.log import Log, plain

SHARED = "They share the cores: compare them to each other only. `labkit race` measures each alone."
UPDATES, SHOWN = 20, 300  # updates a second of all engines together; characters shown without a front end


class EngineRace(Frame):
    """Race engines by name (all that are installed), or models that are loaded, on one prompt.

    An engine given by name gets the weights unrounded, and is closed. Further keywords are `GenerationOptions`.
    """

    def __init__(
        self, engines: Sequence[str | Model] | None = None, model: str = "nano", **options: Any
    ) -> None:
        names = [engine for engine in engines or () if isinstance(engine, str)]
        found, missing = entrants(names) if names or not engines else ([], {})
        starts = {f"{m!r}": lambda m=m: m for m in engines or () if isinstance(m, Model)}
        cores = max(1, usable_cores() // (len(found) + len(starts)))
        starts |= {name: lambda name=name: _load(model, name, cores) for name in found}
        chosen = GenerationOptions.of(None, **{"max_tokens": 64} | options)
        self.lanes = [_Lane(name, start, chosen, len(starts)) for name, start in starts.items()]
        self.replies: list[Reply] = []
        self.prompt = ipywidgets.Text(HELLO, description=tr("Prompt"), layout={"width": "auto"})
        self.row = buttons({"Start": lambda: self.work(self._run), "Stop": self.stop})
        logs = ipywidgets.HBox([lane.log for lane in self.lanes], layout={"flex_flow": "row wrap"})
        super().__init__(tr("Race: {names}", names=", ".join(starts)), [self.prompt, self.row, logs])
        absent = (tr("{name} cannot run: {why}", name=name, why=why) for name, why in missing.items())
        self.say("\n".join([tr(SHARED), *absent]))

    def _run(self) -> None:
        self.say("loading …")
        try:
            _at_once([lane.start for lane in self.lanes])
            self.say("running: Stop ends it")
            _at_once([partial(lane.run, self.prompt.value, self.stopping) for lane in self.lanes])
        finally:
            for lane in self.lanes:
                lane.end()
        self.replies = [lane.reply for lane in self.lanes if lane.reply]
        self.say("stopped; every engine is idle" if self.stopping.is_set() else SHARED)

    def __repr__(self) -> str:
        shown = [f"{head}\n  {plain(text, SHOWN)}" for lane in self.lanes for head, text in lane.log.blocks]
        return "\n".join([self.title, *shown, self.said])


class _Lane:
    """Run one engine of a race and show its answer; `of` is how many there are, so that updates stay few."""

    def __init__(self, name: str, make: Callable[[], Model], options: GenerationOptions, of: int) -> None:
        self.name, self.make, self.options, self.pace = name, make, options, max(0.1, of / UPDATES)
        self.log = Log(
            label=tr("answer of {name}", name=name), blocks=[[name, ""]], layout={"flex": "1 1 16em"}
        )
        self.model: Model | None = None
        self.reply: Reply | None = None

    def start(self) -> None:
        self.reply = None
        try:
            self.model = self.make()
        except LabkitError as error:
            self._show(tr("{name} did not start", name=self.name), str(error))

    def run(self, prompt: str, stopping: Event) -> None:
        if not self.model:
            return
        chunks, shown = list[Chunk](), 0.0
        try:
            with closing(self.model.stream(prompt, options=self.options)) as stream:
                for chunk in stream:
                    chunks.append(chunk)
                    if stopping.is_set():
                        break
                    if chunk.at - shown > self.pace:
                        shown = chunk.at
                        reply = self.model.reply_of(chunks)
                        self._show(f"{self.name}: {reply.timing}", str(reply), busy=True)
            self.reply = self.model.reply_of(chunks)
            self._show(f"{self.name}: {self.reply.timing}", str(self.reply))
        except LabkitError as error:
            self._show(tr("{name} broke", name=self.name), str(error))

    def end(self) -> None:
        if self.model and self.name == self.model.engine.name:
            self.model.close()  # one that was given belongs to its giver
        self.model = None

    def _show(self, head: str, text: str, busy: bool = False) -> None:
        with self.log.hold_sync():
            self.log.busy, self.log.blocks = busy, [[head, plain(text)]]


def _load(model: str, engine: str, threads: int) -> Model:
    level, options = fullest(engine, threads)
    return load(model, engine, level, **options)


def _at_once(tasks: Sequence[Callable[[], None]]) -> None:
    threads = [Thread(target=task, daemon=True) for task in tasks]
    for step in (Thread.start, Thread.join):
        for thread in threads:
            step(thread)
