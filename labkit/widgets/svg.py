"""Draw a chart as an SVG of a few kB that follows the theme's text colour."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labkit.widgets.charts import Chart, Series

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 640, 60, 630, 46, 276
COLOURS = (
    "#0072B2",
    "#D55E00",
)  # Okabe–Ito blue and vermillion: any eye tells them apart, on white and black


def draw(chart: Chart) -> str:
    """Return the chart as an inline SVG element."""
    frame = _Frame(chart)
    parts = [_text(4, 14, chart.title), _text(4, 34, chart.y_title), *frame.grid()]
    parts.append(_text((LEFT + RIGHT) / 2, BOTTOM + 36, chart.x_title, "middle"))
    for series, colour, x in zip(chart.series, COLOURS, (RIGHT - 220, RIGHT - 80), strict=False):
        parts += frame.drawn(series, colour)
        if len(chart.series) > 1:  # the text keeps the theme's colour: in its own it would be hard to read
            parts += [f'<circle cx="{x}" cy="30" r="4.5" fill="{colour}"/>', _text(x + 9, 34, series.name)]
    return (
        f'<svg viewBox="0 0 {WIDTH} 320" width="{WIDTH}" style="max-width:100%" role="img" font-size="12" '
        f'aria-label="{html.escape(chart.title)}" fill="currentColor">{"".join(parts)}</svg>'
    )


class _Frame:
    """Turn values into places in the picture."""

    def __init__(self, chart: Chart) -> None:
        self.log, self.is_bars = chart.log, chart.series[0].kind == "bars"
        xs = [x for s in chart.series for x in s.x]
        ys = [self._up(y) for s in chart.series for y in s.y]
        pad = 0.6 if self.is_bars else (max(xs) - min(xs)) * 0.09 or 1.0
        self.x0, self.x1 = min(xs) - pad, max(xs) + pad
        room = (max(ys) - min(ys)) * 0.1 or 1.0
        # Points show differences, so their axis need not begin at 0; bars and counts do.
        self.y0 = min(ys) - room if chart.series[0].kind in ("front", "points") else min(0.0, *ys)
        self.y1 = max(ys) + room

    def _up(self, y: float) -> float:
        return math.log10(y) if self.log else y

    def across(self, x: float) -> float:
        return round(LEFT + (x - self.x0) / (self.x1 - self.x0) * (RIGHT - LEFT), 1)

    def down(self, y: float) -> float:
        return round(BOTTOM - (self._up(y) - self.y0) / (self.y1 - self.y0) * (BOTTOM - TOP), 1)

    def grid(self) -> list[str]:
        parts = []
        for y in _decades(self.y0, self.y1) if self.log else _steps(self.y0, self.y1):
            line = f"M{LEFT} {self.down(y)}H{RIGHT}"
            parts.append(f'<path d="{line}" stroke="currentColor" opacity=".25"/>')
            parts.append(_text(LEFT - 6, self.down(y) + 4, f"{y:g}", "end"))
        for x in [] if self.is_bars else _steps(self.x0, self.x1):
            parts.append(_text(self.across(x), BOTTOM + 16, f"{x:g}", "middle"))
        return parts

    def drawn(self, series: Series, colour: str) -> list[str]:
        places = [(self.across(x), self.down(y)) for x, y in zip(series.x, series.y, strict=True)]
        parts = []
        if series.kind in ("steps", "front"):
            line = f"M{places[0][0]} {places[0][1]}" + "".join(f"H{x}V{y}" for x, y in places[1:])
            parts.append(f'<path d="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        for n, ((x, y), value, label) in enumerate(zip(places, series.y, series.labels, strict=False)):
            if series.kind == "bars":
                line = f"M{x} {self.down(0)}V{y}"
                parts.append(f'<path d="{line}" stroke="{colour}" stroke-width="30"/>')
                parts.append(_text(x, y - 4, f"{value:.4g}", "middle"))
                parts.append(_text(x, BOTTOM + 16, label, "middle"))
            else:  # a front falls to the right: below it and above it is room for names, in turn
                under = series.kind == "front" and n % 2 == 0
                parts.append(f'<circle cx="{x}" cy="{y}" r="4.5" fill="{colour}"/>')
                parts.append(_text(x - 5, y + 15, label, "end") if under else _text(x + 4, y - 7, label))
        return parts


def _steps(low: float, high: float) -> list[float]:
    """Return four to nine round numbers from low to high."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(m for m in (5, 2, 1) if (high - low) / (m * step) >= 4)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _decades(low: float, high: float) -> list[float]:
    powers = range(math.floor(low), math.ceil(high) + 1)
    return [10.0**n * m for n in powers for m in (1, 3) if low <= math.log10(10.0**n * m) <= high]


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'
