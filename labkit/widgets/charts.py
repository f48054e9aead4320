"""Charts of measurements: a Pareto front, bars, and weights before and after rounding.

A chart is a plotly figure (the extension that comes with plotly draws it in JupyterLab) and, for every other reader,
an SVG. Saved with a notebook it takes a few kB: plotly's own renderers would write 5 MB of JavaScript.
"""

from __future__ import annotations

import html
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.errors import OptionInvalid
from labkit.metrics.levels import COLUMNS, LevelTable
from labkit.widgets.language import tr, turned
from labkit.widgets.svg import COLOURS, draw

if TYPE_CHECKING:
    import numpy as np
    import plotly.graph_objects as go
    from numpy.typing import NDArray

GREY = "#7f7f7f"  # plotly knows no theme: grey can be read on white and on black
BINS = 81
NOT_DRAWN = "not drawn, since {what} is 0 or was not measured: {names}"
Point = tuple[float, float]
STYLES: dict[str, dict[str, Any]] = {
    "points": {"mode": "markers+text", "textposition": "top right", "marker": {"size": 9}},
    "front": {"mode": "lines+markers+text", "marker": {"size": 9}},
    "steps": {"mode": "lines"},
}


@dataclass(frozen=True, slots=True)
class Series:
    """Hold what is drawn alike: labelled "points", a "front" that joins them, "steps", or "bars" at 0, 1, 2, …"""

    name: str
    kind: str
    x: Sequence[float]
    y: Sequence[float]
    labels: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """Show one or two series in one frame; with `log` the y axis is logarithmic. `note` stands beneath."""

    title: str
    x_title: str
    y_title: str
    series: tuple[Series, ...]
    log: bool = False
    note: str = ""

    @property
    def spec(self) -> dict[str, Any]:
        """Return the figure as plotly's JSON."""
        axis = {"gridcolor": "rgba(127,127,127,.3)", "zeroline": False}
        # Names that are numbers are names all the same.
        names = {"type": "category"} if any(series.kind == "bars" for series in self.series) else {}
        layout = {
            "title": {"text": self.title, "font": {"size": 14}}, "font": {"color": GREY}, "height": 360,
            "xaxis": {**axis, **names, "title": {"text": self.x_title}},
            "yaxis": {**axis, "title": {"text": self.y_title}, "type": "log" if self.log else "linear"},
            "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "colorway": COLOURS,
            "showlegend": len(self.series) > 1, "margin": {"l": 70, "r": 20, "t": 50, "b": 50},
        }  # fmt: skip
        return {"data": [_trace(series) for series in self.series], "layout": layout}

    def figure(self) -> go.Figure:
        """Return plotly's figure, to change or to export."""
        import plotly.graph_objects as go

        return go.Figure(self.spec)

    def __repr__(self) -> str:
        lines = [self.title, " → ".join(filter(None, (self.x_title, self.y_title)))]
        for s in self.series:
            for label, x, y in zip(s.labels, s.x, s.y, strict=False):
                lines.append(f"  {label:<8} {'' if s.kind == 'bars' else f'{x:.4g} → '}{y:.4g}")
            if not s.labels:
                span = {"n": len(s.x), "low": min(s.x), "high": max(s.x)}
                lines.append(f"  {s.name}: {tr('{n} steps from {low:.3g} to {high:.3g}', **span)}")
        return "\n".join([*lines, self.note]).rstrip()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        picture = turned(f"{draw(self)}<div>{html.escape(self.note)}</div>")
        return {"text/plain": repr(self), "text/html": picture, "application/vnd.plotly.v1+json": self.spec}


def _trace(series: Series) -> dict[str, Any]:
    if series.kind == "bars":
        return {"type": "bar", "name": series.name, "x": list(series.labels), "y": list(series.y)}
    data = {"name": series.name, "x": list(series.x), "y": list(series.y), "text": list(series.labels)}
    if series.kind == "front":  # neighbours on it may be close: their names stand below and above, in turn
        data["textposition"] = [("bottom left", "top right")[n % 2] for n in range(len(series.x))]
    return {"type": "scatter", **STYLES[series.kind], "line": {"shape": "hv"}, **data}


def pareto(
    table: LevelTable, x: str = "file_bytes", y: str = "kl", log: bool = True, mark: Collection[str] = ()
) -> Chart:
    """Draw levels by two fields where less is better, and the front: those that no other beats in both.

    A logarithmic axis has no place for 0, so the base of a divergence is left out and named. The levels in `mark`
    get an arrow.
    """
    across, up = COLUMNS[x], COLUMNS[y]
    points = {r.level: (getattr(r, x) * across.scale, getattr(r, y) * up.scale) for r in table.rows}
    drawn = {name: at for name, at in points.items() if math.isfinite(sum(at)) and (at[1] > 0 or not log)}
    if not drawn:
        raise OptionInvalid(f"no level has {x} and {y} to draw", fix="measure more levels, or log=False")
    beaten = {name: at for name, at in drawn.items() if any(_beats(other, at) for other in drawn.values())}
    front = {name: at for name, at in drawn.items() if name not in beaten}
    groups = ((tr("on the Pareto front"), "front", front), (tr("beaten"), "points", beaten))
    left_out = ", ".join(name for name in points if name not in drawn)
    x_title, y_title = (f"{c.heading} [{c.unit}]" if c.unit else c.heading for c in (across, up))
    return Chart(
        table.title,
        x_title,
        y_title,
        tuple(_named(name, kind, group, mark) for name, kind, group in groups if group),
        log,
        tr(NOT_DRAWN, what=up.heading, names=left_out) if left_out else "",
    )


def _beats(one: Point, other: Point) -> bool:
    return one != other and one[0] <= other[0] and one[1] <= other[1]


def _named(name: str, kind: str, points: Mapping[str, Point], mark: Collection[str]) -> Series:
    levels = sorted(points, key=lambda level: points[level])
    labels = [f"{level} ◀" if level in mark else level for level in levels]
    return Series(name, kind, [points[n][0] for n in levels], [points[n][1] for n in levels], labels)


def bars(values: Mapping[str, float], title: str, unit: str) -> Chart:
    """Draw one bar for each name, from 0."""
    heights = tuple(float(value) for value in values.values())
    return Chart(title, "", unit, (Series(unit, "bars", range(len(heights)), heights, tuple(values)),))


def histogram(before: NDArray[np.float32], after: NDArray[np.float32], title: str) -> Chart:
    """Count weights in equal bins, before and after rounding."""
    import numpy as np

    low, high = min(before.min(), after.min()), max(before.max(), after.max())
    edges = np.linspace(low, high, BINS + 1)
    starts = [round(float(edge), 5) for edge in edges[:-1]]
    named = ((tr("before"), before), (tr("after"), after))
    series = (Series(name, "steps", starts, np.histogram(w, edges)[0].tolist()) for name, w in named)
    return Chart(title, tr("weight"), tr("how many"), tuple(series))
