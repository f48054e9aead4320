"""Draw where the time of one reply went: waiting for the first token, then one tick for each chunk of output.

Plain HTML with an inline SVG: it needs no front end, follows the theme's text colour, and weighs a few kB.
"""

from __future__ import annotations

import html
from typing import Any

from labkit.metrics.probes import loaded_machine
from labkit.types import Reply
from labkit.widgets.language import tr, turned

WIDTH, TEXT_WIDTH, MAX_TICKS, LABEL = 640, 60, 300, 54
READ = "read {n} tokens ({cached} from the cache) in {ttft:.1f} ms (TTFT: request sent to first output)"
PACE = ", one every {tpot:.2f} ms (TPOT: last output − first, / (tokens − 1))"
WAIT, WRITE = "#E69F00", "#0072B2"  # Okabe–Ito orange and blue, told apart by any eye


class Timeline:
    """Show a `Reply`'s timing as a bar: time to first token, then the tokens. Seconds on the axis."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.busy = loaded_machine()

    @property
    def caption(self) -> str:
        """Return the figures in words, with the formula they come from."""
        usage, timing = self.reply.usage, self.reply.timing
        parts = [
            tr(READ, n=usage.prompt_tokens, cached=usage.cached_tokens, ttft=timing.ttft * 1e3),
            tr("wrote {n} token" if timing.tokens == 1 else "wrote {n} tokens", n=timing.tokens),
        ]
        if timing.tokens > 1:
            parts[-1] += tr(PACE, tpot=timing.tpot * 1e3)
        if self.busy:
            parts.append(tr("measured on a loaded machine: {why}", why=self.busy))
        return "; ".join(parts)

    def __repr__(self) -> str:
        timing = self.reply.timing
        wait = round(TEXT_WIDTH * timing.ttft / timing.total) if timing.stamps else TEXT_WIDTH
        return f"[{'.' * wait}{'|' * (TEXT_WIDTH - wait)}] {timing.total * 1e3:.0f} ms\n{self.caption}"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": turned(self._html())}

    def _html(self) -> str:
        timing = self.reply.timing
        scale = WIDTH / timing.total if timing.total > 0 else 0.0
        wait = (timing.ttft if timing.stamps else timing.total) * scale
        step = max(1, -(-len(timing.stamps) // MAX_TICKS))
        ticks = "".join(f"M{at * scale:.1f} 14v26" for at in timing.stamps[::step])
        caption = html.escape(self.caption)
        return (
            f'<svg viewBox="0 0 {WIDTH} 64" width="{WIDTH}" style="max-width:100%" role="img" '
            f'aria-label="{caption}" font-size="12" fill="currentColor">'
            f'<rect x="0" y="14" width="{wait:.1f}" height="26" fill="{WAIT}"/>'
            f'<path d="{ticks}" stroke="{WRITE}" stroke-width="1.5"/>'
            f'<text x="0" y="10">{tr("reading")}</text>'
            f'<text x="{max(LABEL, min(wait + 2, WIDTH - LABEL)):.1f}" y="10">{tr("writing")}</text>'
            f'<text x="0" y="58">0</text><text x="{WIDTH}" y="58" text-anchor="end">'
            f"{timing.total * 1e3:.0f} ms</text></svg><div>{caption}</div>"
        )
