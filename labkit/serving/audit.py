"""The audit log: one JSON line a request, appended in batches by one task, never torn, never a key in it.

When the disk is full, lines wait in memory, the gateway takes no new requests, and nothing is lost that fits there.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from labkit.models.store import storage_errors

EVERY_S = 0.05
AGAIN_S = 0.5
MOST = 10_000  # lines that wait
STRANGERS = 10  # lines a second for requests without a valid key: nobody fills the disk who may not even ask


class Audit:
    """Append records to `audit.jsonl`; a second process on the same folder has a file of its own. `full` is a state."""

    def __init__(self, folder: Path, lost: Any = None) -> None:
        self.full, self.lost = False, lost
        self._waiting: deque[bytes] = deque()
        self._second, self._strangers = 0, 0
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.path = folder / "audit.jsonl"
            self._lock = FileLock(folder / ".audit.lock")
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                self.path = folder / f"audit-{os.getpid()}.jsonl"
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            self._mend()

    def _mend(self) -> None:
        """Cut off half a line that a crash of the machine left."""
        size = os.fstat(self._file).st_size
        tail = os.pread(self._file, 2**20, max(0, size - 2**20))
        if tail and not tail.endswith(b"\n"):
            os.ftruncate(self._file, size - len(tail) + tail.rfind(b"\n") + 1)

    def write(self, record: dict[str, Any]) -> None:
        """Put a record in line; it is on disk within a moment."""
        if len(self._waiting) >= MOST:
            if self.lost is not None:
                self.lost.inc()
            return
        self._waiting.append(json.dumps(record).encode() + b"\n")

    def write_stranger(self, record: dict[str, Any]) -> None:
        """Put a record of a request without a valid key in line; of many in a second, only how many were left out."""
        if self._second != (now := int(time.monotonic())):
            if (left_out := self._strangers - STRANGERS) > 0:
                record = {**record, "left_out": left_out}
            self._second, self._strangers = now, 0
        self._strangers += 1
        if self._strangers <= STRANGERS:
            self.write(record)

    def flush(self) -> None:
        """Write all that waits in one piece, or nothing of it; `full` says whether that failed."""
        if not self._waiting:
            return
        count, data = len(self._waiting), b"".join(self._waiting)
        size = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, data)
            self.full = written < len(data)
        except OSError:
            self.full = True
        if self.full:
            with suppress(OSError):
                os.ftruncate(self._file, size)
            return
        for _ in range(count):
            self._waiting.popleft()

    async def run(self) -> None:
        """Flush again and again until this is cancelled."""
        while True:
            await asyncio.sleep(AGAIN_S if self.full else EVERY_S)
            self.flush()

    def close(self) -> None:
        """Write what waits; what still finds no room is counted as lost."""
        self.flush()
        if self._waiting and self.lost is not None:
            self.lost.inc(len(self._waiting))
        os.close(self._file)
        self._lock.release()
