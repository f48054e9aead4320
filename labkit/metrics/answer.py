"""One streamed answer: when its outputs came, what its server-sent events say, and what became of the request."""

from __future__ import annotations

import asyncio
import json
import math
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from labkit.engines.openai_stream import DONE, REASONING, EventReader
from labkit.types import Timing

Fate = Literal["ok", "lost", "failed", "cut"]

OUTPUTS = ("content", "tool_calls", *REASONING)
SPIN_S = 0.002


@dataclass(slots=True)
class Outcome:
    """Keep one request: `due`, `sent` and `stamps` (one for each non-empty output) are time.perf_counter seconds.

    One without a time at which it is due is due when it is sent. Its fate is exactly one of: ok; lost (no connection,
    or no output in time); failed (an HTTP error, an error event, or one that cannot be read); cut (the answer ended
    without finish reason and [DONE]). `reported`: `tokens` is the server's count, not the number of outputs.
    """

    due: float | None = None
    sent: float = math.nan
    stamps: list[float] = field(default_factory=list)
    fate: Fate = "lost"
    why: str = ""
    prompt_tokens: int = 0
    tokens: int = 0
    reported: bool = False

    @property
    def timing(self) -> Timing:
        """Return the stamps in seconds since the request was due, so that waiting to be sent counts."""
        start = self.sent if self.due is None else self.due
        stamps = tuple(at - start for at in self.stamps)
        return Timing(stamps, self.tokens, stamps[-1] if stamps else math.nan)

    async def wait(self) -> None:
        """Return when the request is due, and call it sent. A sleep alone may come back 1 ms late (epoll)."""
        while self.due is not None and (left := self.due - time.perf_counter()) > 0:
            await asyncio.sleep(max(0.0, left - SPIN_S))
        self.sent = time.perf_counter()

    def count(self, prompt_tokens: int, tokens: int) -> None:
        """Take over the counts that the server gives."""
        self.prompt_tokens, self.tokens, self.reported = prompt_tokens, tokens, True

    def end(self, fate: Fate, why: str = "") -> None:
        """Settle the fate; where nobody counted the tokens, the outputs are counted."""
        self.fate, self.why = fate, why
        if not self.reported:
            self.tokens = len(self.stamps)


class AnswerReader:
    """Note in an outcome what an answer's events say; bytes may be split anywhere.

    `began` is set when an answer begins, `done` by a finish reason or [DONE], `error` by anything that is one.
    """

    def __init__(self, outcome: Outcome) -> None:
        self.outcome, self.began, self.done, self.error = outcome, False, False, ""
        self._events = EventReader()

    def feed(self, data: bytes, at: float) -> None:
        """Read what came at this moment."""
        for event in self._events.feed(data):
            self._event(event, at)

    def _event(self, data: bytes, at: float) -> None:
        if data == DONE:
            self.done = True
            return
        said = f"{data.decode('utf-8', 'replace'):.120}"
        try:
            event = json.loads(data)
            if event.get("error"):
                self.error = f"error event: {said}"
            else:
                self._read(event, at)
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            self.error = f"unreadable event: {said}"

    def _read(self, event: dict[str, Any], at: float) -> None:
        if usage := event.get("usage"):
            self.outcome.count(int(usage["prompt_tokens"]), int(usage["completion_tokens"]))
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            if any(delta.get(name) for name in OUTPUTS):
                self.outcome.stamps.append(at)
            self.done = self.done or bool(choice.get("finish_reason"))
