"""Who is served when: a bounded line by priority, and deadlines that a shutdown can bring forward."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from labkit.serving.refused import Refused

T = TypeVar("T")
SHED = 4  # while load is shed, a quarter of the line


class Line:
    """Let `slots` work at once and `places` wait; the lowest priority number goes first, then who came first."""

    def __init__(self, slots: int, places: int) -> None:
        self.slots, self.places, self.working = max(1, slots), places, 0
        self.shedding = False
        self._mean = 1.0  # seconds of work, smoothed
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._number = itertools.count()

    @property
    def waiting(self) -> int:
        """Return how many wait."""
        return sum(not ticket.done() for _, _, ticket in self._waiting)

    @property
    def retry_after(self) -> float:
        """Estimate in seconds when a place will be free: what is ahead, at the mean time of late."""
        return min(60.0, max(1.0, self._mean * math.ceil((self.waiting + 1) / self.slots)))

    @asynccontextmanager
    async def place(self, priority: int, within: float) -> AsyncIterator[None]:
        """Wait for a turn, at most `within` seconds, and hold it; raise `Refused` where the line is full."""
        loop = asyncio.get_running_loop()
        if self.working >= self.slots:
            await self._wait(priority, within)
        else:
            self.working += 1
        began = loop.time()
        try:
            yield
        finally:
            self._mean += 0.1 * (loop.time() - began - self._mean)
            self._next()

    async def _wait(self, priority: int, within: float) -> None:
        if self.waiting >= (self.places // SHED if self.shedding else self.places):
            raise Refused(503, "queue_full", "the line is full", "wait, then ask again", self.retry_after)
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._number), ticket))
        try:
            async with asyncio.timeout(within):
                await ticket
        except BaseException as error:
            if ticket.done() and not ticket.cancelled():  # the turn came just as this one gave up: pass it on
                self._next()
            ticket.cancel()
            if isinstance(error, TimeoutError):
                what = f"no turn came within {within:g} s"
                raise Refused(503, "deadline", what, "wait, then ask again", self.retry_after) from None
            raise

    def _next(self) -> None:
        while self._waiting:
            _, _, ticket = heapq.heappop(self._waiting)
            if not ticket.done():
                return ticket.set_result(None)  # the slot changes hands
        self.working -= 1


class Deadlines:
    """Wait for items no longer than allowed, and end all waiting at one moment when the gateway stops."""

    def __init__(self) -> None:
        self.ends = math.inf
        self._live: set[asyncio.Timeout] = set()

    async def next(self, source: AsyncGenerator[T, None], within: float) -> T:
        """Return the next item; raise `TimeoutError` after `within` seconds or at the end of the grace."""
        deadline = asyncio.timeout_at(min(asyncio.get_running_loop().time() + within, self.ends))
        self._live.add(deadline)
        try:
            async with deadline:
                return await anext(source)
        finally:
            self._live.discard(deadline)

    @property
    def over(self) -> bool:
        """Return whether the gateway's grace has run out."""
        return asyncio.get_running_loop().time() >= self.ends

    def stop(self, grace: float) -> None:
        """Give all that is under way so many seconds more."""
        self.ends = asyncio.get_running_loop().time() + grace
        for deadline in self._live:
            if (deadline.when() or math.inf) > self.ends and not deadline.expired():
                deadline.reschedule(self.ends)
