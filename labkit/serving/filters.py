"""Filters on what goes in and what comes out: patterns that refuse a prompt, patterns that are blotted out."""

from __future__ import annotations

import re
from collections.abc import Sequence

from labkit.serving.refused import Refused
from labkit.types import Message

BLOT = "[…]"
HOLD = 64  # characters kept back while more may come: the longest match that is surely found
# What looks like a key, a password in a URL, an e-mail address or a card's number never stands in a log.
PRIVATE = re.compile(
    r"\b(?:sk|lk|pk|ghp|hf)[-_][\w-]{16,}|Bearer\s+\S+|://[^\s:/@]+:[^\s/@]+@"
    r"|[\w.+-]+@[\w-]+\.[\w.]+|\b(?:\d[ -]?){13,19}\b"
)


def redact(text: str, also: str = "") -> str:
    """Blot out what looks private, and what the pattern `also` finds."""
    text = PRIVATE.sub(BLOT, text)
    return re.sub(also, BLOT, text) if also else text


def check_prompt(messages: Sequence[Message], deny: str) -> None:
    """Raise `Refused` if the pattern `deny` is found in what users and tools say. The pattern is not told."""
    if deny and any(re.search(deny, m["content"], re.IGNORECASE) for m in messages if m["role"] != "system"):
        raise Refused(400, "content_filter", "this prompt is not for this service", "ask something else")


class Mask:
    """Blot out a pattern from a stream of pieces, also where a match is cut between two of them."""

    def __init__(self, pattern: str) -> None:
        self._pattern, self._rest = re.compile(pattern) if pattern else None, ""

    def feed(self, text: str, last: bool = False) -> str:
        """Return what can be passed on now; at the end, all."""
        if self._pattern is None:
            return text
        self._rest += text
        cut = len(self._rest) if last else max(0, len(self._rest) - HOLD)
        for match in self._pattern.finditer(self._rest):
            if match.start() < cut < match.end():
                cut = match.start()
        ready, self._rest = self._rest[:cut], self._rest[cut:]
        return self._pattern.sub(BLOT, ready)
