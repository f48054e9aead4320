"""What happened in one run of an agent: a tree of events, filled by whoever runs it, shown by `widgets.AgentTrace`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from labkit.types import Usage

Kind = Literal["run", "model", "tool", "handoff"]


@dataclass(frozen=True, slots=True)
class Event:
    """Tell of a model's turn, a tool call, a handoff to another agent, or a run that holds such events.

    `start` is seconds since the outermost run began, `seconds` how long the event took. `tokens` are the event's own,
    not its children's. `text` is what was asked, written or answered. `children` came about within it, in order.
    """

    kind: Kind
    name: str
    start: float
    seconds: float
    tokens: Usage = Usage(0, 0)
    text: str = ""
    children: tuple[Event, ...] = ()

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Event]]:
        """Yield (depth, event) for this event and all below it, in order of time."""
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)

    def total(self) -> Usage:
        """Return the tokens of this event and all below it."""
        every = [event.tokens for _, event in self.walk()]
        read, wrote = sum(u.prompt_tokens for u in every), sum(u.completion_tokens for u in every)
        return Usage(read, wrote, sum(u.cached_tokens for u in every))
