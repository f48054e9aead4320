"""What a student did, one JSON line each: which exercise, and how its check ended. Never an answer or its text.

The file stays on this machine, under `home()/progress`. Sending it is another matter (`report.py`), and off unless
the student has joined a class. Only notebooks write here: no script, no test (nor a notebook that one runs), and no
solution that an author runs.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from labkit.errors import LabkitError, StorageFailed
from labkit.models.store import home, storage_errors

What = Literal["opened", "not attempted", "wrong", "right", "hint", "solution"]
WHATS: tuple[str, ...] = get_args(What)
LOCK_S = 2.0


@dataclass(frozen=True, slots=True)
class Event:
    """Hold one line. `id` makes sending it twice harmless, `at` is seconds since 1970 by this machine's clock."""

    id: str
    at: float
    lab: str
    exercise: str
    what: str


class Journal:
    """Append to and read one student's file; other notebooks of theirs may do so at the same time."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or home() / "progress"
        self.path = self.folder / "events.jsonl"

    def add(self, lab: str, exercise: str, what: What) -> Event:
        """Append an event; raise `StorageFailed` where that cannot be done."""
        event = Event(uuid.uuid4().hex, time.time(), lab, exercise, what)
        line = json.dumps(asdict(event)).encode() + b"\n"
        with storage_errors(self.path), self.alone("writing"), self.path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            # A process that was killed may have left half a line: it must not spoil this one.
            file.write(line if file.read(1) in (b"", b"\n") else b"\n" + line)
        return event

    def read(self, offset: int = 0, most: int = sys.maxsize) -> tuple[list[Event], int]:
        """Return at most `most` events from a byte offset on, and the offset behind the last complete line read."""
        if not self.path.exists():
            return [], 0
        events: list[Event] = []
        with storage_errors(self.path, "read"), self.path.open("rb") as file:
            file.seek(offset if offset <= self.path.stat().st_size else 0)  # the student may have deleted it
            while len(events) < most and (line := file.readline()).endswith(b"\n"):
                offset = file.tell()
                events += _parse(line)
        return events, offset

    @contextmanager
    def alone(self, purpose: str, timeout: float = LOCK_S) -> Iterator[None]:
        """Hold this folder's lock for a purpose; raise `StorageFailed` if another process keeps it."""
        from filelock import FileLock, Timeout

        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / f".{purpose}.lock").acquire(timeout=timeout, poll_interval=0.01):
                yield
        except Timeout:
            raise StorageFailed(f"another notebook is {purpose} {self.path}", fix="try again") from None


def _parse(line: bytes) -> list[Event]:
    try:
        event = Event(**json.loads(line))
    except (ValueError, TypeError):  # half a line
        return []
    return [event] if event.what in WHATS else []


def note(lab: str, exercise: str, what: What) -> None:
    """Write down what happened in a notebook, and wake the reporter. A full disk does not stop a lesson."""
    if not _in_notebook() or os.environ.get("LABKIT_STRICT") == "1":
        return
    from labkit.checks import report

    try:
        Journal().add(lab, exercise, what)
        report.wake()
    except LabkitError:
        return


def _in_notebook() -> bool:
    ipython: Any = sys.modules.get("IPython")
    kernel = getattr(ipython and ipython.get_ipython(), "kernel", None)
    return kernel is not None and "PYTEST_CURRENT_TEST" not in os.environ
