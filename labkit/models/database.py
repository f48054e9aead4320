"""SQLite files: a connection that several processes share, or one for each transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from labkit.models.store import storage_errors

WAIT_S = 20.0


def open_database(path: Path) -> sqlite3.Connection:
    """Open a database that several processes share; a killed one leaves it whole (write-ahead log)."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    db = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    return db


def make_database(path: Path, schema: str) -> None:
    """Make the file for `transaction`, and those of its tables that are not there yet."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with transaction(path) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(schema)


@contextmanager
def transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a connection for one transaction; what it has written when this ends survives a power cut."""
    with closing(sqlite3.connect(path, timeout=WAIT_S)) as db, storage_errors(path), db:
        db.execute("PRAGMA synchronous=FULL")
        yield db
