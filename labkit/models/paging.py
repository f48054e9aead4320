"""Where the KV caches of many requests lie: in one piece each, or in blocks (PagedAttention, Kwon et al. 2023).

A simulation that counts tokens; it knows no model, and nothing of how long a step takes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from labkit.errors import OptionInvalid


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Sum up a run: means over its steps, the last three as shares.

    `held` is room with tokens in it, `reserved` room set aside in vain. In `holes` of the steps the next request
    waited although enough was free: not in one piece, so there was no hole for it.
    """

    steps: int
    running: float
    held: float
    reserved: float
    holes: float

    def __str__(self) -> str:
        shares = f"{self.held:4.0%} held tokens, {self.reserved:4.0%} set aside in vain"
        return f"{self.running:4.1f} at a time; {shares}; no hole in {self.holes:4.0%} of the steps"


@dataclass(slots=True)
class _Request:
    prompt: int
    output: int
    written: int = 0
    start: int = 0

    def room(self, longest: int, block: int, more: int = 0) -> int:
        """Return the tokens of room it takes, `more` tokens from now."""
        blocks = -(-(self.prompt + self.written + more) // (block or 1))
        return blocks * block or self.prompt + longest


def simulate(trace: Iterable[tuple[int, int]], room: int, longest: int, block: int = 0) -> Occupancy:
    """Serve requests of (prompt, output) tokens in turn, one token each a step, in a cache of `room` tokens.

    With `block` 0 each gets one piece, first fit, for its prompt and an answer of `longest` tokens. Otherwise it gets
    blocks of so many tokens as it grows; when none is left, the last to come starts again later, as in vLLM.
    Raises `OptionInvalid` for a request that could never fit.
    """
    waiting, running, seen = deque(_Request(*lengths) for lengths in trace), list[_Request](), []
    most = max((r.room(longest, block, r.output) for r in waiting), default=0)
    if not waiting or most > room:
        raise OptionInvalid(f"{len(waiting)} requests of up to {most} tokens in {room}", fix="a larger room")
    while waiting or running:
        missing = _admit(waiting, running, room, longest, block)
        while sum(r.room(longest, block, 1) for r in running) > room:
            running[-1].written = 0
            waiting.appendleft(running.pop())
        for request in running:
            request.written += 1
        held = sum(r.prompt + r.written for r in running)
        taken = sum(r.room(longest, block) for r in running)
        seen.append((len(running), held / room, (taken - held) / room, missing))
        running = [r for r in running if r.written < r.output]
    return Occupancy(len(seen), *(sum(column) / len(seen) for column in zip(*seen, strict=True)))


def _admit(waiting: deque[_Request], running: list[_Request], room: int, longest: int, block: int) -> bool:
    """Let requests in while there is room; return whether the next one lacks only a hole."""
    while waiting:
        size = waiting[0].room(longest, block, 1)
        if size > room - sum(r.room(longest, block, 1) for r in running):
            return False
        edges = [(0, 0), *sorted((r.start, r.start + r.room(longest, block)) for r in running), (room, room)]
        holes = [end for (_, end), (start, _) in pairwise(edges) if start - end >= size]
        if not block and not holes:
            return True
        waiting[0].start = holes[0] if holes else 0
        running.append(waiting.popleft())
    return False
