"""What a node must tell the others, kept until each has said that it has it: nothing lost, nothing twice.

A record and the duty to send it are written in one transaction. Sending again does no harm, since a record's id decides
whether it is new. Two nodes that did the same work while they could not talk have two records of one id: everywhere the
one of the node whose name comes first remains.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from labkit.models.database import make_database, transaction

BATCH = 50
SCHEMA = """
CREATE TABLE IF NOT EXISTS records (id TEXT PRIMARY KEY, node TEXT, target TEXT, at REAL, body TEXT);
CREATE TABLE IF NOT EXISTS told (peer TEXT, id TEXT, PRIMARY KEY (peer, id));
"""
INSERT = """
INSERT INTO records VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE
SET node = excluded.node, target = excluded.target, at = excluded.at, body = excluded.body
WHERE excluded.node < node
"""


class Record(NamedTuple):
    """Hold what happened: `id` is the idempotency key, `target` the node that must act on it ("" for none)."""

    id: str
    node: str
    target: str
    at: float
    body: dict[str, Any]


class Outbox:
    """Keep one node's records in SQLite; a process that is killed leaves the file whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        make_database(path, SCHEMA)

    def add(self, id: str, node: str, body: dict[str, Any], target: str = "") -> Record:
        """Write a record of this node's own; return the one that counts under this id."""
        self.take("", [Record(id, node, target, time.time(), body)])
        found = self.get(id)
        assert found
        return found

    def take(self, peer: str, records: Iterable[Record]) -> list[str]:
        """Write records that a peer sent; return all their ids, known ones too, so that it stops sending them."""
        ids = []
        with transaction(self.path) as db:
            for one in records:
                row = (one.id, one.node, one.target, one.at, json.dumps(one.body, sort_keys=True))
                if db.execute(INSERT, row).rowcount:  # new, or it replaces what this node has told before
                    db.execute("DELETE FROM told WHERE id = ?", (one.id,))
                kept = db.execute("SELECT node FROM records WHERE id = ?", (one.id,)).fetchone()
                if peer and kept[0] == one.node:
                    db.execute("INSERT OR IGNORE INTO told VALUES (?, ?)", (peer, one.id))
                ids.append(one.id)
        return ids

    def waiting(self, peer: str) -> list[Record]:
        """Return the oldest records that this peer has not confirmed."""
        missing = "id NOT IN (SELECT id FROM told WHERE peer = ?)"
        return self._select(f"WHERE {missing} ORDER BY rowid LIMIT {BATCH}", peer)

    def confirm(self, peer: str, sent: Iterable[Record]) -> None:
        """Note that a peer has these records; one that was replaced since is still to be told."""
        sql = "INSERT OR IGNORE INTO told SELECT ?, id FROM records WHERE id = ? AND node = ?"
        with transaction(self.path) as db:
            db.executemany(sql, [(peer, one.id, one.node) for one in sent])

    def get(self, id: str) -> Record | None:
        """Return a record by its id."""
        found = self._select("WHERE id = ?", id)
        return found[0] if found else None

    def all(self) -> list[Record]:
        """Return all records in the order of their ids."""
        return self._select("ORDER BY id")

    def due(self, node: str) -> list[Record]:
        """Return the requests that wait for this node and have no answer yet."""
        undone = "NOT EXISTS (SELECT 1 FROM records AS done WHERE done.id = records.id || '/done')"
        return self._select(f"WHERE target = ? AND {undone} ORDER BY at", node)

    def _select(self, rest: str, *values: Any) -> list[Record]:
        with transaction(self.path) as db:
            rows = db.execute(f"SELECT id, node, target, at, body FROM records {rest}", values).fetchall()
        return [Record(id, node, target, at, json.loads(body)) for id, node, target, at, body in rows]
