"""Read Hermes tool calls out of streamed text: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`.

The reader lets prose through at once and keeps back only what may still turn out to be a tag. A call that does
not parse is not guessed at: its text is handed on as text, so that the student sees what the model wrote.
"""

from __future__ import annotations

import json
from typing import Any

from labkit.types import ToolCall

OPEN, CLOSE = "<tool_call>", "</tool_call>"


class ToolCallReader:
    """Split a stream of text into prose and `ToolCall`s."""

    def __init__(self) -> None:
        self.calls = 0
        self._held = ""
        self._inside = False

    def feed(self, text: str) -> tuple[str, tuple[ToolCall, ...]]:
        """Take the next piece; return the prose that is certain and the calls that were completed."""
        if not self._inside and not self._held and "<" not in text:
            return text, ()  # the common case, once for every token: nothing to look at
        self._held += text
        prose: list[str] = []
        calls: list[ToolCall] = []
        while True:
            if self._inside:
                body, tag, rest = self._held.partition(CLOSE)
                if not tag:
                    break
                call = parse_call(body, f"call_{self.calls}")
                if call:
                    self.calls += 1
                    calls.append(call)
                else:
                    prose.append(OPEN + body + CLOSE)
                self._inside, self._held = False, rest
            else:
                before, tag, rest = self._held.partition(OPEN)
                if not tag:
                    keep = overlap(self._held, OPEN)
                    cut = len(self._held) - keep
                    prose.append(self._held[:cut])
                    self._held = self._held[cut:]
                    break
                prose.append(before)
                self._inside, self._held = True, rest
        return "".join(prose), tuple(calls)

    def finish(self) -> tuple[str, tuple[ToolCall, ...]]:
        """Return what was kept back; a last call without its closing tag still counts if it parses."""
        held, inside = self._held, self._inside
        self._held, self._inside = "", False
        if inside:
            call = parse_call(held, f"call_{self.calls}")
            if call:
                self.calls += 1
                return "", (call,)
            return OPEN + held, ()
        return held, ()


def parse_call(body: str, id: str) -> ToolCall | None:
    """Parse one call's JSON, or return None."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", {})
    return ToolCall(value["name"], arguments, id) if isinstance(arguments, dict) else None


def overlap(text: str, tag: str) -> int:
    """Return how many characters at the end of `text` could be the start of `tag`."""
    for size in range(min(len(text), len(tag) - 1), 0, -1):
        if tag.startswith(text[-size:]):
            return size
    return 0
