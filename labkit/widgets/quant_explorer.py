"""Look through the levels of one model: what each costs, what it loses, and how its answers change."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ipywidgets

from labkit.engines.registry import load
from labkit.errors import LabkitError
from labkit.metrics.levels import LEVELS, LevelTable, measure_levels
from labkit.widgets.charts import pareto
from labkit.widgets.frame import Frame, buttons
from labkit.widgets.language import tr, turned
from labkit.widgets.progress import Progress
from labkit.widgets.side_by_side import figures_of, parting, side_by_side, weights_moved
from labkit.widgets.svg import draw

MAX_TOKENS, NOT_YET = 64, "Not measured yet: press Measure. For nano that takes about half a minute."
NAMED = {"style": {"description_width": "initial"}}


class QuantExplorer(Frame):
    """Compare two levels of a model: `QuantExplorer("nano", table)`, with what `measure_levels` returned.

    Without a table, Measure makes one. Compare lets both levels answer `prompt`, greedily, and counts their weights;
    what it found is in `text`. `options` are the engine's, as in `threads=1`.
    """

    def __init__(
        self,
        name: str = "nano",
        table: LevelTable | None = None,
        levels: Sequence[str] = LEVELS,
        prompt: str = "Extract name, age and city as JSON: Ada Oyelaran, 47, moved to Kaohsiung in 2011.",
        engine: str = "llamacpp",
        **options: Any,
    ) -> None:
        self.name, self.table, self.engine, self.options, self.text = name, table, engine, options, ""
        self.levels = [row.level for row in table.rows] if table else list(levels)
        first, last = self.levels[0], self.levels[-1]
        self.first, self.second = (
            ipywidgets.Dropdown(description=name, options=self.levels, value=level, **NAMED)
            for name, level in ((tr("First level"), first), (tr("Second level"), last))
        )
        self.prompt = ipywidgets.Text(description=tr("Prompt"), value=prompt, layout={"width": "auto"})
        self.figures, self.answers = ipywidgets.HTML(), ipywidgets.HTML()
        self.bar = Progress(lambda: self.stopping.is_set(), resume="Measure begins again")
        row = buttons({"Measure": self.measure, "Compare": self.compare, "Stop": self.stop})
        pair = ipywidgets.HBox([self.first, self.second], layout={"flex_flow": "row wrap"})
        children = [pair, self.figures, self.prompt, row, self.bar, self.answers]
        super().__init__(tr("Levels of {name}", name=name), children)
        for control in (self.first, self.second):
            control.observe(lambda _: self.show(), "value")
        self.show()

    @property
    def chosen(self) -> tuple[str, str]:
        """Return the two levels."""
        return str(self.first.value), str(self.second.value)

    def show(self) -> None:
        """Show the figures of both levels, and where they stand among all."""
        if not self.table:
            self.figures.value = tr(NOT_YET)
            return
        page = figures_of(self._pair())
        if len(self.table.rows) > 1:  # the base alone has no KL to draw
            page += draw(pareto(self.table, mark=self.chosen))
        self.figures.value = page

    def _pair(self) -> LevelTable:
        assert self.table
        return replace(self.table, rows=tuple(r for r in self.table.rows if r.level in self.chosen))

    def measure(self, **work: Any) -> None:
        """Measure all levels, in a thread; `work` is how much, as `measure_levels` takes it."""
        self.work(lambda: self._measure(work))

    def _measure(self, work: dict[str, Any]) -> None:
        self.say("measuring …")
        options = {**self.options, **work}
        self.table = measure_levels(self.name, self.levels, progress=self.bar.step, **options)
        self.show()
        self.say("measured")

    def compare(self) -> None:
        """Let both levels answer the prompt and count their weights, in a thread."""
        self.work(self._ask_both)

    def _ask_both(self) -> None:
        self.say("both levels answer …")
        pair = self.chosen
        (one, first), (other, second) = (self._answer(level) for level in pair)
        page, self.text = side_by_side(pair, one, other)
        if first and second:
            said, picture = weights_moved(pair, first, second)
            page, self.text = f"{page}<p>{said}</p>{picture}", f"{self.text}\n{said}"
        self.answers.value = page
        self.say("compared: {said}", said=parting(one, other))

    def _answer(self, level: str) -> tuple[list[str], Path | None]:
        tokens = []
        with load(self.name, self.engine, level, **self.options) as model:
            for chunk in model.stream(str(self.prompt.value), max_tokens=MAX_TOKENS):
                if self.stopping.is_set():
                    raise LabkitError("stopped", fix="Compare begins again")
                tokens += [chunk.text] if chunk.text else []
            return tokens, model.engine.file

    def __repr__(self) -> str:
        figures = repr(self._pair()) if self.table else tr("not measured")
        return "\n\n".join(filter(None, (super().__repr__(), figures, self.text)))

    def _repr_mimebundle_(self, **keywords: Any) -> dict[str, Any]:
        page = f"<b>{html.escape(self.title)}</b>{self.figures.value}{self.answers.value}"
        return {**super()._repr_mimebundle_(**keywords), "text/html": turned(page)}
