"""What a tool may touch: files under folders that were named, and the network if it was granted.

Python tells its audit hooks of a file, a socket or a process before it opens one. Ours looks whether the thread that
asks is running a tool, and refuses what that tool has no permission for. So an honest tool cannot be misled by the
arguments a model gives it. It does not hold code that wants to break out (`sandbox.py` does), nor, before the Python
versions that report them, threads which a tool starts.
"""

from __future__ import annotations

import os
import site
import sqlite3
import sys
import sysconfig
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import labkit
from labkit.errors import ToolDenied

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Any other event of os with a path writes.
READS = ("os.listdir", "os.scandir", "os.chdir", "os.walk", "os.fwalk")
HARMLESS = ("socket.__new__", "socket.gethostname")
PROCESSES = frozenset(
    "subprocess.Popen os.system os.exec os.fork os.forkpty os.posix_spawn os.spawn os.kill os.killpg os.startfile "
    "pty.spawn _thread.start_new_thread".split()
)
# Python's and the kit's own files: what a library reads when it is used.
LIBRARY = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
LIBRARY += [site.getusersitepackages(), str(Path(labkit.__file__).parent)]
SQL = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
SQL_SECONDS, MAX_VALUE = 2, 1_000_000
_thread = threading.local()


@dataclass(frozen=True, slots=True)
class Permissions:
    """Name the folders that may be read and written, and grant the network or processes. Nothing else is granted."""

    read: Sequence[str | Path] = ()
    write: Sequence[str | Path] = ()
    network: bool = False
    processes: bool = False

    def lacks(self, event: str, args: tuple[Any, ...]) -> str:
        """Return what an audited event has no permission for, "" if it may go on."""
        if event.startswith("socket.") and event not in HARMLESS:
            return "" if self.network else f"the network ({event})"
        if event in PROCESSES:
            return "" if self.processes else f"processes ({event})"
        paths, writes = _files(event, args)
        folders = [*self.write, *(() if writes else (*self.read, *LIBRARY))]
        out = (path for path in paths if not any(_within(folder, path) for folder in folders))
        return next((f"{'writing' if writes else 'reading'} {path!r}" for path in out), "")


def enforce(permissions: Permissions, denied: list[str]) -> None:
    """Hold this thread to its permissions for good; `denied` tells what it was refused."""
    _install()
    _thread.now = permissions, denied


def query(
    database: str | Path, sql: str, values: Sequence[Any] | dict[str, Any] = (), rows: int = 100
) -> list[Any]:
    """Return what a SELECT finds as dicts, at most so many; values are bound, never written into the text.

    The file is opened read-only, an authorizer is asked about every step, and 2 s are the limit. Raises `ToolDenied`
    with SQLite's reason.
    """
    deadline = time.monotonic() + SQL_SECONDS
    try:
        with closing(sqlite3.connect(f"{Path(database).resolve().as_uri()}?mode=ro", uri=True)) as opened:
            opened.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE)
            opened.set_authorizer(lambda step, *_: sqlite3.SQLITE_OK if step in SQL else sqlite3.SQLITE_DENY)
            opened.set_progress_handler(lambda: time.monotonic() > deadline, 1000)
            found = opened.execute(sql, values)
            names = [column[0] for column in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchmany(rows)]
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
        raise ToolDenied(f"SQLite refused: {error}", fix="one SELECT, with ? for each value") from error


def _files(event: str, args: tuple[Any, ...]) -> tuple[list[str], bool]:
    """Return the paths that an event would touch, and whether it would write."""
    paths = args[: 1 if event == "open" else 2]
    named = [os.fsdecode(path) for path in paths if isinstance(path, str | bytes | os.PathLike)]
    if event == "open":
        return named, bool((args[2] or 0) & WRITING)
    if event == "sqlite3.connect":
        path, _, settings = named[0].removeprefix("file:").removeprefix("//").partition("?")
        return [path] if path not in ("", ":memory:") else [], "mode=ro" not in settings
    if event in READS:
        return named or ["."], False
    return (named, True) if event.startswith("os.") else ([], False)


def _within(folder: str | Path, path: str) -> bool:
    """Return whether a path is in a folder, once links and `..` are followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


@cache
def _install() -> None:
    sys.addaudithook(_hook)  # for good: Python knows no way to remove one


def _hook(event: str, args: tuple[Any, ...]) -> None:
    now: tuple[Permissions, list[str]] | None = getattr(_thread, "now", None)
    # What a tool imports is its author's choice, not the model's.
    if now and (lacks := now[0].lacks(event, args)) and not _importing(sys._getframe(1)):
        now[1].append(lacks)
        raise PermissionError(f"this tool has no permission for {lacks}")


def _importing(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__") == "importlib._bootstrap_external"
