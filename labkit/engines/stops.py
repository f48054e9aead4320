"""Watch a stream of text for stop strings, keeping back only what may be the beginning of one."""

from __future__ import annotations

from collections.abc import Sequence

from labkit.engines.toolcalls import overlap


class StopReader:
    """Pass text through until one of `stops` appears."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = tuple(stops)
        self.held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """Return the text that may be shown, and whether a stop string was reached (and swallowed)."""
        if not self.stops:
            return text, False
        text = self.held + text
        found = [at for at in (text.find(stop) for stop in self.stops) if at >= 0]
        if found:
            self.held = ""
            return text[: min(found)], True
        keep = max(overlap(text, stop) for stop in self.stops)
        self.held = text[len(text) - keep :]
        return text[: len(text) - keep], False
