"""Show a run of an agent as a timeline and as a tree: turns, tool calls, handoffs, with tokens, time and cost.

Plain HTML with an inline SVG: it needs no front end, and the tree opens and closes by keyboard.
"""

from __future__ import annotations

from html import escape
from itertools import islice
from typing import Any

from labkit.errors import OptionInvalid
from labkit.metrics.trace import Event
from labkit.models.cloud import cloud_models
from labkit.widgets.language import tr, turned
from labkit.widgets.log import plain

WIDTH, LEFT, ROW, MAX_ROWS, MAX_TEXT = 640, 170, 20, 100, 200
# Okabe–Ito, and grey for what only holds others; every bar has its kind beside it in words.
COLOURS = {"run": "#7f7f7f", "model": "#0072B2", "tool": "#E69F00", "handoff": "#CC79A7"}


class AgentTrace:
    """Show an `Event` and all below it. Times are measured.

    `price` is the alias of a cloud model (`labkit.models.cloud`): what its price list asks for the same tokens.
    """

    def __init__(self, event: Event, price: str = "") -> None:
        if price and price not in cloud_models():
            raise OptionInvalid(
                f"there is no price of {price!r}", fix=f"choose from: {', '.join(cloud_models())}"
            )
        self.event, self.price = event, cloud_models()[price] if price else None
        self.rows = list(islice(event.walk(), MAX_ROWS))

    def figures(self, event: Event) -> str:
        """Return an event's time, tokens (with those of all below it) and cost in words."""
        used, parts = event.total(), [f"{event.seconds * 1e3:,.0f} ms"]
        if used.total_tokens:
            read = tr(
                "{n:,} tokens read ({cached:,} cached)", n=used.prompt_tokens, cached=used.cached_tokens
            )
            parts += [read, tr("{n:,} written", n=used.completion_tokens)]
        if used.total_tokens and self.price:
            cost = self.price.cost(used.prompt_tokens, used.completion_tokens)
            parts.append(tr("would cost {cost:.6f} USD", cost=cost))
        return ", ".join(parts)

    @property
    def caption(self) -> str:
        """Return what the figures are, and what is left out."""
        parts = [tr("times are measured; figures of an event include those below it")]
        if self.price:
            listed = f"{self.price.title}, {self.price.as_of} ({self.price.source})"
            parts.append(tr("cost = tokens × price list of {listed}, quoted", listed=listed))
        more = sum(1 for _ in self.event.walk()) - len(self.rows)
        return "; ".join([*parts, tr("{n} more events are not shown", n=more)] if more else parts)

    def __repr__(self) -> str:
        lines = [
            f"{'  ' * depth}{tr(e.kind)} {plain(e.name, 60)}: at {e.start * 1e3:,.0f} ms, {self.figures(e)}"
            for depth, e in self.rows
        ]
        return "\n".join([*lines, self.caption])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        page = f"{self._timeline()}{self._tree()}<small>{escape(self.caption)}</small>"
        return {"text/plain": repr(self), "text/html": turned(page)}

    def _timeline(self) -> str:
        end = max(e.start + e.seconds for _, e in self.rows) or 1.0
        scale, height = (WIDTH - LEFT) / end, ROW * len(self.rows) + 20
        parts = []
        for place, (depth, event) in enumerate(self.rows):
            x, y = LEFT + event.start * scale, ROW * place
            size = max(2.0, event.seconds * scale)
            label = plain(f"{tr(event.kind)} {event.name}")
            label = label if len(label) < 26 - depth else f"{label[: 24 - depth]}…"
            parts.append(f'<text x="{8 * depth}" y="{y + 14}">{escape(label)}</text>')
            parts.append(f'<rect x="{x:.1f}" y="{y + 3}" width="{size:.1f}" height="{ROW - 6}" ')
            parts.append(f'fill="{COLOURS[event.kind]}"/>')
        axis = f'<text x="{LEFT}" y="{height - 5}">0</text><text x="{WIDTH}" y="{height - 5}" '
        axis += f'text-anchor="end">{end * 1e3:,.0f} ms</text>'
        told = {"n": len(self.rows), "ms": end * 1e3}
        said = escape(tr("timeline of {n} events, {ms:,.0f} ms; the tree below has them all", **told))
        return (
            f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" style="max-width:100%" role="img" '
            f'aria-label="{said}" font-size="12" fill="currentColor">{"".join(parts)}{axis}</svg>'
        )

    def _tree(self) -> str:
        parts, level = [], 0
        for depth, event in self.rows:
            parts.append("</details>" * (level - depth))
            head = escape(f"{tr(event.kind)} {plain(event.name, 60)}: {self.figures(event)}")
            text = escape(plain(event.text, MAX_TEXT)).replace("\n", "<br>")
            parts.append(f'<details{" open" * bool(event.children)} style="margin-inline-start:1.2em">')
            parts.append(f'<summary>{head}</summary><div dir="auto">{text}</div>')
            level = depth + 1
        return "".join(parts) + "</details>" * level
