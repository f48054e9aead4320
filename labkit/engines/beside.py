"""A stream that runs beside an event loop: engines block, and asyncio must not."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import TypeVar

from labkit.engines.base import close_source

T = TypeVar("T")


async def iterate(work: Callable[[], Iterator[T]]) -> AsyncGenerator[T, None]:
    """Run a generator from start to end in a thread of its own; closing this one stops it at its next item."""
    queue: asyncio.Queue[T | Exception | None] = asyncio.Queue()
    put, gone = asyncio.get_running_loop().call_soon_threadsafe, threading.Event()

    def run() -> None:
        last: Exception | None = None
        items: Iterator[T] = iter(())
        try:
            items = work()
            for item in items:
                if gone.is_set():
                    break
                put(queue.put_nowait, item)
        except Exception as error:
            last = error
        finally:
            close_source(items)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            put(queue.put_nowait, last)

    threading.Thread(target=run, daemon=True).start()
    try:
        while (item := await queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        gone.set()
