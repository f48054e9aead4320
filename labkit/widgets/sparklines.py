"""Draw a window of figures as one small SVG: a line for each, its last value, and its range in words.

The browser shows what Python drew, so a picture on the page, in a file and on GitHub is the same.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

import anywidget
import traitlets

from labkit.metrics.records import METRICS
from labkit.models.fit import size
from labkit.widgets.language import tr
from labkit.widgets.svg import COLOURS, WIDTH

HIGH, ROW, LEFT, END, BINS = 24, 34, 240, 452, 40
NAMES = {
    "token_rate": "speed", "ttft": "TTFT", "server_ttft": "TTFT, at server", "server_itl": "ITL, at server",
    "itl": "ITL", "running": "requests running", "waiting": "requests waiting", "kv_tokens": "KV cache",
    "kv_cache_usage": "KV cache", "cpu": "processor", "rss": "this process", "memory_used": "memory",
    "package_power": "power", "gpu_busy": "GPU", "gpu_memory": "GPU memory", "gpu_power": "GPU power",
}  # fmt: skip
SCRIPT = """export default { render({ model, el }) {
  const pause = matchMedia("(prefers-reduced-motion: reduce)").matches ? 2000 : 0;
  let due = 0;
  const show = () => { due = 0; el.innerHTML = model.get("picture"); };
  model.on("change:picture", () => { due = due || setTimeout(show, pause); });
  model.on("msg:custom", async () => {  // asked for a PNG: the picture as it is seen, in its theme's colours
    const svg = el.querySelector("svg").cloneNode(true), style = getComputedStyle(el);
    svg.style.color = style.color;
    const image = new Image(), canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
    image.src = "data:image/svg+xml," + encodeURIComponent(svg.outerHTML);
    await image.decode();
    [canvas.width, canvas.height] = [2 * image.width, 2 * image.height];
    pen.fillStyle = style.getPropertyValue("--jp-layout-color0").trim() || "white";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob(async (blob) => model.send({}, undefined, [await blob.arrayBuffer()]));
  });
  show();
} };"""
Window = Mapping[str, Sequence[float]]


def shown(name: str, value: float) -> str:
    """Write a figure with its unit."""
    unit = METRICS[name].unit
    if unit == "bytes":
        return size(int(value))
    if unit in ("s", "share"):
        return f"{value * 1e3:,.2f} ms" if unit == "s" else f"{value:.0%}"
    return f"{value:,.0f}" if unit == "requests" else f"{value:,.0f} {unit}"


def lines(window: Window) -> list[tuple[str, str, str]]:
    """Return (name, value now, range) of each figure that has values; of gaps between tokens, the median now."""
    found = []
    for name in NAMES:
        if values := window.get(name):
            now, most = shown(name, values[-1]), tr("0 to {most}", most=shown(name, max(values)))
            if name == "itl":
                now = tr("median {now}", now=shown(name, sorted(values)[len(values) // 2]))
                most = tr("{most}, {n:,} gaps", most=most, n=len(values))
            found.append((tr(NAMES[name]), now, most))
    return found


def draw(window: Window) -> str:
    """Return the SVG. Each line goes from 0 to its greatest value; gaps between tokens are a histogram."""
    rows, parts = lines(window), list[str]()
    drawn = [(name, window[name]) for name in NAMES if window.get(name)]
    for place, ((label, now, most), (name, values)) in enumerate(zip(rows, drawn, strict=True)):
        base = ROW * place + HIGH + 4
        path = _bars(values) if name == "itl" else _line(values)
        wide = 4 if name == "itl" else 1.5
        parts.append(
            f'<text y="{base - 8}">{label}</text><text x="{LEFT - 12}" y="{base - 8}" text-anchor="end">{now}</text>'
            f'<path transform="translate({LEFT} {base})" d="{path}" fill="none" stroke="{COLOURS[0]}" '
            f'stroke-width="{wide}"/><text x="{END}" y="{base - 8}">{most}</text>'
        )
    said = html.escape("; ".join(f"{label} {now}" for label, now, _ in rows) or tr("nothing measured yet"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {ROW * len(rows) + 6}" width="{WIDTH}" '
        f'height="{ROW * len(rows) + 6}" style="max-width:100%" role="img" font-size="13" font-family="sans-serif" '
        f'fill="currentColor" aria-label="{said}">{"".join(parts)}</svg>'
    )


def _line(values: Sequence[float]) -> str:
    top = max(values) or 1.0
    heights = [round(HIGH * max(0.0, value) / top) for value in values]
    runs = [(step, len(list(same))) for step, same in groupby(a - b for a, b in pairwise(heights))]
    steps = " ".join(f"{count} {count * step}" for step, count in runs)  # a straight run is one step: small
    return f"M0 {-heights[0]}l{steps or '1 0'}"


def _bars(values: Sequence[float]) -> str:
    """Count values in equal bins from 0 to the greatest."""
    top, counts = max(values) or 1.0, [0] * BINS
    for value in values:
        counts[min(BINS - 1, int(BINS * value / top))] += 1
    most = max(counts)
    return "".join(f"M{5 * i + 2} 0v{-max(1, round(HIGH * n / most))}" for i, n in enumerate(counts) if n)


class Picture(anywidget.AnyWidget):
    """Show an SVG that Python drew; `messages` counts what was sent to the front end."""

    _esm = SCRIPT
    picture = traitlets.Unicode(draw({})).tag(sync=True)
    messages = 0

    def _send(self, msg: dict[str, Any], buffers: Sequence[bytes] | None = None) -> None:
        self.messages += 1
        super()._send(msg, buffers)
