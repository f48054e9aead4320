"""Answers kept for the same user who asks the same again, or, by the meaning of its last turn, nearly the same.

An entry belongs to a group: user, model, options and all turns but the last. Within it, the last turn must be equal, or
its embedding closer than a threshold (cosine). No group has two users, so no answer ever crosses from one to another.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from labkit.errors import LabkitError
from labkit.models.database import open_database
from labkit.serving.openai_api import Ask
from labkit.serving.settings import Settings
from labkit.serving.telemetry import Telemetry
from labkit.types import Chunk, ToolCall, Usage

MOST = 50_000
NEAREST = 200  # entries of a group that are compared
Vector = Sequence[float]
Embed = Callable[[list[str]], Awaitable[tuple[list[list[float]], int]]]


@dataclass(slots=True)
class Lookup:
    """Hold the answer that was found, or else where one belongs; `vector` is of the last turn."""

    found: Chunk | None = None
    group: str = ""
    field: str = ""
    vector: Vector = ()


class Cache:
    """Find answers, and keep them. `threshold` is the cosine from which on a near question's answer will do."""

    def __init__(self, settings: Settings, telemetry: Telemetry, embed: Embed) -> None:
        where, ttl = settings.cache_url, settings.cache_ttl
        self.on, self.semantic = settings.cache != "off", settings.cache == "semantic"
        self.store: Store | None = None
        if self.on:
            self.store = (
                RedisStore(where, ttl) if where else SQLiteStore(settings.folder / "cache.sqlite", ttl)
            )
        self.threshold, self.telemetry, self.embed = settings.cache_threshold, telemetry, embed

    async def find(self, user: str, ask: Ask) -> Lookup:
        """Look for the answer to a request; what is drawn by chance is never kept."""
        if self.store is None or ask.options.temperature > 0:
            return Lookup()
        look = Lookup(None, *keys_of(user, ask))
        with suppress(sqlite3.Error):  # a cache that fails is no failure
            if value := await self.store.get(look.group, look.field):
                self.telemetry.cache("exact")
                return Lookup(unpacked(value))
        if self.semantic and ask.messages[-1]["role"] == "user":
            with suppress(LabkitError, sqlite3.Error):
                look.vector = (await self.embed([ask.messages[-1]["content"]]))[0][0]
                if near := nearest(await self.store.all(look.group), look.vector, self.threshold):
                    self.telemetry.cache("semantic")
                    return Lookup(near)
        self.telemetry.cache()
        return look

    async def keep(self, look: Lookup, chunks: Sequence[Chunk]) -> None:
        """Keep an answer that was not found."""
        if self.store and look.field:
            with suppress(sqlite3.Error):
                await self.store.put(look.group, look.field, packed(chunks, look.vector))

    async def close(self) -> None:
        """Close what it is kept in."""
        if self.store:
            await self.store.close()


class Store(Protocol):
    """Keep fields in groups for a while."""

    async def get(self, group: str, field: str) -> str | None:
        """Return a field's value."""

    async def all(self, group: str) -> list[str]:
        """Return the values of a group, the newest first as far as the store knows."""

    async def put(self, group: str, field: str, value: str) -> None:
        """Keep a value."""

    async def close(self) -> None:
        """Close it."""


class SQLiteStore:
    """Keep entries in a file; the oldest make room."""

    def __init__(self, path: Path, ttl: float) -> None:
        self.db, self.ttl = open_database(path), ttl
        self.db.execute(
            "CREATE TABLE IF NOT EXISTS cache (grp TEXT, field TEXT, value TEXT, at REAL, PRIMARY KEY (grp, field))"
        )

    async def get(self, group: str, field: str) -> str | None:
        """Return a field's value if it is not too old."""
        sql = "SELECT value FROM cache WHERE grp = ? AND field = ? AND at > ?"
        row = self.db.execute(sql, (group, field, time.time() - self.ttl)).fetchone()
        return row[0] if row else None

    async def all(self, group: str) -> list[str]:
        """Return the newest values of a group."""
        sql = "SELECT value FROM cache WHERE grp = ? AND at > ? ORDER BY at DESC LIMIT ?"
        return [row[0] for row in self.db.execute(sql, (group, time.time() - self.ttl, NEAREST))]

    async def put(self, group: str, field: str, value: str) -> None:
        """Keep a value, and now and then forget what is too old or too much."""
        done = self.db.execute(
            "INSERT OR REPLACE INTO cache VALUES (?, ?, ?, ?)", (group, field, value, time.time())
        )
        if (done.lastrowid or 0) % 500 == 0:
            self.db.execute("DELETE FROM cache WHERE at < ?", (time.time() - self.ttl,))
            sql = "DELETE FROM cache WHERE rowid <= (SELECT MAX(rowid) FROM cache) - ?"
            self.db.execute(sql, (MOST,))

    async def close(self) -> None:
        """Close the file."""
        self.db.close()


class RedisStore:
    """Keep entries in Redis, for several gateways at once. A Redis that is away is a cache that is empty."""

    def __init__(self, url: str, ttl: float) -> None:
        from redis.asyncio import Redis
        from redis.exceptions import RedisError

        self.redis = Redis.from_url(
            url, decode_responses=True, socket_timeout=1.0, socket_connect_timeout=1.0
        )
        self.ttl, self.away = max(1, int(ttl)), (RedisError, OSError, TimeoutError)

    async def get(self, group: str, field: str) -> str | None:
        """Return a field's value."""
        with suppress(*self.away):
            found: Any = await self.redis.hget(f"labkit:{group}", field)
            return found if isinstance(found, str) else None
        return None

    async def all(self, group: str) -> list[str]:
        """Return the values of a group."""
        with suppress(*self.away):
            return [str(value) for value in await self.redis.hvals(f"labkit:{group}")][-NEAREST:]
        return []

    async def put(self, group: str, field: str, value: str) -> None:
        """Keep a value, and its group for a while longer."""
        with suppress(*self.away):
            await self.redis.hset(f"labkit:{group}", field, value)
            await self.redis.expire(f"labkit:{group}", self.ttl)

    async def close(self) -> None:
        """Close the connections."""
        await self.redis.aclose()


def keys_of(user: str, ask: Ask) -> tuple[str, str]:
    """Return the group and the field of a request, as hashes: no text is a key in somebody's database."""
    head = [user, ask.model, ask.messages[:-1], ask.tools, asdict(ask.options)]
    return _hash(head), _hash(ask.messages[-1])


def packed(chunks: Sequence[Chunk], vector: Vector = ()) -> str:
    """Return an answer as text."""
    last = chunks[-1]
    calls = [asdict(call) for chunk in chunks for call in chunk.tool_calls]
    text = "".join(chunk.text for chunk in chunks)
    usage = asdict(last.usage) if last.usage else None
    return json.dumps([text, calls, last.finish_reason, usage, [round(x, 5) for x in vector]])


def unpacked(value: str) -> Chunk:
    """Return an answer as one chunk; the tokens were not written now, so it counts none."""
    text, calls, reason, usage, _ = json.loads(value)
    made = tuple(ToolCall(**call) for call in calls)
    return Chunk(text, 0, made, reason, Usage(**usage) if usage else None)


def nearest(values: Sequence[str], vector: Vector, threshold: float) -> Chunk | None:
    """Return the answer whose question is closest in meaning, if its cosine reaches the threshold."""
    scored = [(cosine(json.loads(value)[4], vector), value) for value in values]
    best = max(scored, default=(0.0, ""), key=lambda pair: pair[0])
    return unpacked(best[1]) if best[1] and best[0] >= threshold else None


def cosine(a: Vector, b: Vector) -> float:
    """Return the cosine of the angle between two vectors; 0 where one is missing or of another length."""
    if not a or len(a) != len(b):
        return 0.0
    scale = math.hypot(*a) * math.hypot(*b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / scale if scale else 0.0


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
