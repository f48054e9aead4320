"""Look at agents: their worlds as squares with a legend, drawn anew in place, and their decisions as a table.

Nothing here needs a front end: what is shown is text and an SVG of a few kB.
"""

from __future__ import annotations

import html
import time
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from labkit.agents.taxonomy.episode import Agent, Step, World, play
from labkit.agents.taxonomy.language import Row
from labkit.agents.taxonomy.taste import GENRES, Tastes
from labkit.agents.taxonomy.thermostat import TARGET, Room
from labkit.metrics.table import Table
from labkit.widgets.charts import Chart, Series, bars
from labkit.widgets.language import tr, turned

PAUSE_S = 0.1
HEADS = ("task", "agent", "right", "share (95 % interval)", "ms a decision", "tokens a decision")
# A sign's name, its shape in a square of 20 × 20, its colour (Okabe–Ito): no two differ by colour alone.
SIGNS = {
    "A": ("agent", "m10 2a8 8 0 1 0 .1 0z", "#0072B2"),
    "G": ("goal", "m5 19v-17l12 5l-12 5", "#009E73"),
    "*": ("dirt", "m10 5l5 5l-5 5l-5-5z", "#D55E00"),
    "x": ("closed, not on the map", "m3 5l2-2l12 12l-2 2zm14 0l-2-2l-12 12l2 2z", "#D55E00"),
    "#": ("wall", "h20v20h-20z", "#7f7f7f"),
    "?": ("not seen", "m8 8h4v4h-4z", "#7f7f7f"),
    ".": ("free", "m1 1h18v18h-18z", "#7f7f7f22"),
}


@dataclass(frozen=True, slots=True, repr=False)
class Squares:
    """Show rows of signs as squares, with a legend that counts them."""

    rows: str
    title: str

    @property
    def legend(self) -> str:
        """Return what the signs mean and how many there are."""
        found = ((sign, name, self.rows.count(sign)) for sign, (name, *_) in SIGNS.items())
        return ", ".join(f"{sign} {tr(name)}: {count}" for sign, name, count in found if count)

    def __repr__(self) -> str:
        return f"{self.title}\n{self.rows}\n{self.legend}"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        lines, paths = self.rows.splitlines(), dict.fromkeys(SIGNS, "")
        for y, line in enumerate(lines):
            for x, sign in ((x, sign) for x, sign in enumerate(line) if sign in SIGNS):
                paths[sign] += f"M{20 * x} {20 * y}{SIGNS[sign][1]}"
        drawn = "".join(f'<path d="{path}" fill="{SIGNS[sign][2]}"/>' for sign, path in paths.items() if path)
        width, height = 20 * max(map(len, lines)), 20 * len(lines)
        title, legend = html.escape(self.title), html.escape(self.legend)
        svg = f'<svg viewBox="0 0 {width} {height}" width="{width}" style="max-width:100%" role="img"'
        page = f'<b>{title}</b><br>{svg} aria-label="{title}. {legend}">{drawn}</svg><div>{legend}</div>'
        return {"text/plain": repr(self), "text/html": turned(page)}


def view(world: World, agent: Agent, steps: list[Step]) -> Squares | Chart:
    """Return a picture of the world after these steps, with the map in the agent's mind if it draws one."""
    if isinstance(world, Room):
        thin = range(0, len(steps), 1 + len(steps) // 200)
        off = [round(steps[n].info["temperature"] - TARGET, 3) for n in thin]
        title = tr("{n} minutes, {k} switches of the heating", n=len(steps), k=world.switches)
        return Chart(title, tr("minutes"), tr("K off target"), (Series(tr("room"), "steps", thin, off),))
    if isinstance(world, Tastes):
        beliefs = getattr(agent, "estimates", [0.0] * len(GENRES))
        title = tr("{n} recommendations: what the agent believes that one earns", n=len(steps))
        return bars(dict(zip(GENRES, beliefs, strict=True)), title, tr("a recommendation"))
    rows, mind = world.render().splitlines(), getattr(agent, "render", str)().splitlines()
    both = zip_longest(rows, mind, fillvalue=" " * len(rows[0]) if len(mind) > len(rows) else "")
    title = "{n} steps: the world, and the map in the agent's mind" if mind else "{n} steps: the world"
    return Squares("\n".join(f"{left}  {right}".rstrip() for left, right in both), tr(title, n=len(steps)))


def watch(world: World, agent: Agent, seed: int = 0, every: int = 1, frames: int = 30) -> list[Step]:
    """Play an episode and return its steps; show it in place, `frames` times after `every` steps, then its end."""
    from IPython.display import DisplayHandle

    place, steps, shown = DisplayHandle(), list[Step](), 0  # type: ignore[no-untyped-call]
    for step in play(world, agent, seed):
        steps.append(step)
        if len(steps) % every == 0 and shown < frames:
            _show(place, view(world, agent, steps), first=not shown)
            shown += 1
            time.sleep(PAUSE_S)
    _show(place, view(world, agent, steps), first=not shown)
    return steps


def _show(place: Any, picture: Squares | Chart, first: bool) -> None:
    # A bundle, since an object with plotly's type would be added below, not drawn in place.
    (place.display if first else place.update)(picture._repr_mimebundle_(), raw=True)


@dataclass(frozen=True, slots=True, repr=False)
class Comparison(Table):
    """Show how agents decided, each task by itself."""

    rows: tuple[Row, ...]

    @property
    def title(self) -> str:  # type: ignore[override]
        """Return what the table shows."""
        return tr("Decisions, measured on this machine")

    @property
    def cells(self) -> list[list[str]]:
        """Return a line for each row, the headings first."""
        lines = [[tr(head) for head in HEADS]]
        for row in self.rows:
            share = "{:.0%} ({:.0%}–{:.0%})".format(row.hits / row.n, *row.interval)
            cost = f"{1e3 * row.seconds:,.3g}", f"{row.tokens:,.0f}"
            lines.append([row.task, row.agent, f"{row.hits}/{row.n}", share, *cost])
        return lines

    @property
    def footer(self) -> list[str]:
        """Return what the columns mean."""
        return [tr("ms: the median; tokens: read and written, the mean; interval: Wilson")]
