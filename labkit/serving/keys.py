"""Who may ask, and how much: keys (only their hashes are kept), roles, and quotas that a crash cannot stretch.

SQLite holds what was handed out, always written before it is used: a process takes a block for a user, hands it out
from memory, and gives the rest back when it ends. Killed, it loses the rest of the block; nobody gets more.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from labkit.errors import ModelNotFound, OptionInvalid, StorageFailed
from labkit.models.database import open_database

ROLES = {"admin": 0, "instructor": 0, "student": 1, "batch": 2}  # the number is the priority in the line
MAX_KEY = 200
BLOCKS = 50  # of which a process takes one at a time
SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (id TEXT PRIMARY KEY, name TEXT, role TEXT, hash TEXT UNIQUE,
  tokens_per_day INTEGER, requests_per_minute INTEGER, created REAL, revoked INTEGER DEFAULT 0);
CREATE TABLE IF NOT EXISTS usage (user TEXT, meter TEXT, period INTEGER, used INTEGER, PRIMARY KEY (user, meter));
"""


@dataclass(frozen=True, slots=True)
class User:
    """Hold who asks: an id that may be logged, a name, a role, and limits (0 is none)."""

    id: str
    name: str
    role: str
    tokens_per_day: int = 0
    requests_per_minute: int = 0

    @property
    def priority(self) -> int:
        """Return the place in line: 0 is served first."""
        return ROLES[self.role]


LOCAL = User("local", "this machine", "admin")


class Keys:
    """Know every key by its hash. Another process may add and revoke keys: `refresh` sees it."""

    def __init__(self, path: Path) -> None:
        self.db = open_database(path)
        self.db.executescript(SCHEMA)
        self._version, self._users = -1, dict[str, User]()
        self.refresh()

    def refresh(self) -> None:
        """Read all keys again if somebody changed them."""
        version = int(self.db.execute("PRAGMA data_version").fetchone()[0])
        if version != self._version:
            self._version = version
            columns = "hash, id, name, role, tokens_per_day, requests_per_minute"
            rows = self.db.execute(f"SELECT {columns} FROM keys WHERE NOT revoked").fetchall()
            self._users = {row[0]: User(*row[1:]) for row in rows}

    def find(self, key: str) -> User | None:
        """Return whose key that is, None for nobody's. A look-up by hash tells nothing by its time."""
        if not 0 < len(key) <= MAX_KEY:
            return None
        return self._users.get(_hash(key))

    def add(self, name: str, role: str = "student", tokens: int = 0, requests: int = 0) -> tuple[User, str]:
        """Make a key; return its user and the key, which is shown this once."""
        if role not in ROLES:
            raise OptionInvalid(f"there is no role {role!r:.40}", fix=f"one of {', '.join(ROLES)}")
        if not (0 < len(name) <= 80 and name.isprintable() and 0 <= min(tokens, requests)):
            raise OptionInvalid(f"{name!r:.100} with {tokens}, {requests}", fix="a short name; limits from 0")
        key = f"lk-{secrets.token_urlsafe(32)}"
        user = User(f"u-{secrets.token_hex(4)}", name, role, tokens, requests)
        row = (user.id, name, role, _hash(key), tokens, requests, time.time())
        self.db.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, 0)", row)
        self._users[_hash(key)] = user
        return user, key

    def list(self) -> list[User]:
        """Return the users whose keys are valid."""
        self.refresh()
        return sorted(self._users.values(), key=lambda user: user.name)

    def revoke(self, id: str) -> None:
        """End a key; raise `ModelNotFound` if there is none of that id."""
        if not self.db.execute("UPDATE keys SET revoked = 1 WHERE id = ? AND NOT revoked", (id,)).rowcount:
            raise ModelNotFound(f"there is no key {id!r:.40}", fix="labkit serve keys list")
        self._users = {hash: user for hash, user in self._users.items() if user.id != id}

    def close(self) -> None:
        """Close the database."""
        self.db.close()


class Meter:
    """Hand out a limited quantity a user and period (`seconds` long, on the clock)."""

    def __init__(self, db: sqlite3.Connection, name: str, seconds: int) -> None:
        self.db, self.name, self.seconds = db, name, seconds
        self._held: dict[str, tuple[int, int]] = {}  # user: period, what is left of the block

    def take(self, user: str, limit: int, count: int) -> float:
        """Hand out `count`, and return 0; or hand out nothing, and return the seconds until it is worth asking."""
        if not limit:
            return 0.0
        now = time.time()
        period = int(now // self.seconds)
        held, left = self._held.get(user, (period, 0))
        left = left if held == period else 0
        if left < count:
            left += self._block(user, period, limit, count - left)
        granted = left >= count
        self._held[user] = (period, left - count if granted else left)
        return 0.0 if granted else max(1.0, (period + 1) * self.seconds - now)

    def give_back(self, user: str, limit: int, count: int) -> None:
        """Put back what was taken and not used (or take what was used beyond)."""
        period, left = self._held.get(user, (-1, 0))
        if limit and period == int(time.time() // self.seconds):
            self._held[user] = (period, left + count)

    def _block(self, user: str, period: int, limit: int, need: int) -> int:
        key, got = (user, self.name), 0
        try:
            self.db.execute("BEGIN IMMEDIATE")
            row = self.db.execute(
                "SELECT period, used FROM usage WHERE user = ? AND meter = ?", key
            ).fetchone()
            used = row[1] if row and row[0] >= period else 0
            if got := max(0, min(need + limit // BLOCKS, limit - used)):
                self.db.execute(
                    "INSERT OR REPLACE INTO usage VALUES (?, ?, ?, ?)", (*key, period, used + got)
                )
            self.db.execute("COMMIT")
        except sqlite3.Error as exc:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise StorageFailed(f"quotas cannot be written ({exc})", fix="free some disk") from exc
        return got

    def close(self) -> None:
        """Give back all that is left of blocks."""
        sql = "UPDATE usage SET used = MAX(0, used - ?) WHERE user = ? AND meter = ? AND period = ?"
        self.db.executemany(sql, [(left, user, self.name, at) for user, (at, left) in self._held.items()])
        self._held.clear()


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
