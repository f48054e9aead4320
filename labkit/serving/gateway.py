"""The gateway: the way of a request through filters, quotas, cache, line and router, and what is written about it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import psutil

from labkit.errors import LabkitError
from labkit.serving.alerts import Alerts
from labkit.serving.audit import Audit
from labkit.serving.cache import RedisStore, SQLiteStore, keys_of, nearest, packed, unpacked
from labkit.serving.exchange import Exchange, outcome
from labkit.serving.filters import Mask, check_prompt, redact
from labkit.serving.keys import LOCAL, Keys, Meter, User
from labkit.serving.openai_api import Ask
from labkit.serving.pool import Pool
from labkit.serving.queueing import Deadlines, Line
from labkit.serving.refused import Refused, refused
from labkit.serving.router import Router
from labkit.serving.settings import Settings
from labkit.serving.telemetry import HUNG_UP, Telemetry
from labkit.serving.trim import estimate, trim
from labkit.types import Chunk, Tool

TICK_S = 1.0
MINUTE, DAY = 60, 86_400


class Gateway:
    """Hold the parts, and lead requests through them."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.tracing = settings, None
        if settings.traces:
            from labkit.serving.tracing import tracing

            self.tracing = tracing(settings.traces)
        self.telemetry = Telemetry(self.tracing)
        folder = settings.folder
        self.keys = Keys(folder / "keys.sqlite")
        self.requests = Meter(self.keys.db, "requests", MINUTE)
        self.tokens = Meter(self.keys.db, "tokens", DAY)
        self.line, self.deadlines = Line(settings.slots, settings.queue), Deadlines()
        self.pool = Pool(settings, self.telemetry)
        self.router = Router(self.pool, self.deadlines, settings.stall)
        self.audit = Audit(folder, self.telemetry.audit_lost)
        make = RedisStore if settings.cache_url else SQLiteStore
        where: Any = settings.cache_url or folder / "cache.sqlite"
        self.cache = make(where, settings.cache_ttl) if settings.cache != "off" else None
        self.telemetry.queue_limit.set(settings.queue)
        self.telemetry.queue_depth.set_function(lambda: self.line.waiting)
        self.started = self.stopping = self.smaller = False
        self.actions: dict[str, Callable[[bool], Awaitable[None]]] = {
            "unload_idle": self.pool.unload_idle,
            "smaller_model": self._smaller,
            "shed_load": self._shed,
        }
        self.alerts = Alerts(self.telemetry, self.actions)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Run everything that works beside the requests; at the end, give back and write what is left."""
        jobs = (
            self._open(),
            self.audit.run(),
            self.router.watch(),
            self.pool.watch(),
            self.alerts.run(),
            self._tick(),
        )
        tasks = [asyncio.create_task(job) for job in jobs]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.pool.close()
            for meter in (self.requests, self.tokens):
                meter.close()
            if self.cache:
                await self.cache.close()
            self.audit.close()
            self.keys.close()
            if self.tracing:
                await asyncio.to_thread(self.tracing.shutdown)

    async def _open(self) -> None:
        await self.pool.open()
        self.started = True

    async def _tick(self) -> None:
        while True:
            self.keys.refresh()
            self.telemetry.disk_free.set(psutil.disk_usage(str(self.settings.folder)).free)
            for name, node in self.pool.nodes.items():
                if node.wanted:
                    up = node.up and not self.router.breaker(node).open
                    self.telemetry.backend(name, up, node.memory)
                else:
                    self.telemetry.gone(name)
            await asyncio.sleep(TICK_S)

    async def _smaller(self, on: bool) -> None:
        self.smaller = on

    async def _shed(self, on: bool) -> None:
        self.line.shedding = on

    def stop(self) -> None:
        """Take no new requests, and let those under way end within the grace."""
        self.stopping = True
        self.deadlines.stop(self.settings.grace)

    @property
    def closed(self) -> str:
        """Say why no requests are taken; nothing when they are."""
        if self.stopping:
            return "the gateway is being stopped"
        if self.audit.full:
            return "the audit log cannot be written: the disk is full"
        return "" if self.started else "the models are being loaded"

    @property
    def not_ready(self) -> str:
        """Say why nobody should be sent here; nothing when all is well."""
        up = any(node.up and node.wanted for node in self.pool.nodes.values())
        return self.closed or ("" if up else "no backend is up")

    def who(self, key: str) -> User:
        """Return whose key it is; without a key, this machine's own user where none is demanded."""
        if user := self.keys.find(key) if key else None:
            return user
        if key or self.settings.keys:
            fix = "Authorization: Bearer …, with a key from your instructor"
            raise Refused(401, "invalid_api_key", "no valid key was given", fix)
        return LOCAL

    async def answer(self, ask: Ask, exchange: Exchange) -> AsyncGenerator[Chunk, None]:
        """Yield the answer to a request. However it ends, it is charged, counted and written down."""
        status, spent, cost, user = 200, 0, 0, exchange.user
        exchange.told |= {"model": ask.model[:80]}
        limit = self._limit(user.tokens_per_day, self.settings.tokens_per_day, user)
        last = Chunk()
        try:
            ask = self._admit(ask, exchange)
            found, keep = await self._cached(ask, user)
            async with AsyncExitStack() as stack:
                if found is None:
                    most = estimate(ask.messages) + estimate(ask.tools) + ask.options.max_tokens
                    self.charge(user, most)
                    cost = most
                    until = time.monotonic() + self.settings.wait
                    await stack.enter_async_context(self.line.place(user.priority, self.settings.wait))
                    source = self.router.stream(ask, until, exchange.seen, exchange.trail)
                    source = await stack.enter_async_context(aclosing(source))
                else:
                    source = _one(found)
                mask, chunks = Mask(self.settings.mask), list[Chunk]()
                async for last in source:
                    spent += last.tokens
                    text = mask.feed(last.text, bool(last.finish_reason))
                    last = last if text is last.text else replace(last, text=text)
                    chunks.append(last)
                    exchange.seen.first()
                    yield last
            if found is None:
                used = last.usage
                spent = used.total_tokens if used else spent
                self._count_calls(ask.tools, chunks)
                await keep(chunks)
            self._tell(exchange, ask, chunks, found is not None)
        except LabkitError as error:
            status = refused(error).status
            raise
        except (asyncio.CancelledError, GeneratorExit):
            status = HUNG_UP
            raise
        except BaseException:
            status = 500
            raise
        finally:
            if cost:
                self.tokens.give_back(user.id, limit, cost - spent)
            used = last.usage
            exchange.told["prompt_tokens"] = used.prompt_tokens if used else None
            exchange.told["completion_tokens"] = used.completion_tokens if used else spent
            exchange.end(status)

    def admit(self, user: User) -> None:
        """Let one request of a user in; raise `Refused` when none are taken, or this user sends too many."""
        if why := self.closed:
            raise Refused(503, "not_ready", why, "wait, then ask again", 1.0)
        limit = self._limit(user.requests_per_minute, self.settings.requests_per_minute, user)
        if wait := self.requests.take(user.id, limit, 1):
            what = f"{limit} requests a minute are the limit"
            raise Refused(429, "rate_limit_exceeded", what, "wait, then ask again", wait)

    def charge(self, user: User, count: int) -> None:
        """Take tokens from a user's day; raise `Refused` when they are used up."""
        limit = self._limit(user.tokens_per_day, self.settings.tokens_per_day, user)
        if wait := self.tokens.take(user.id, limit, count):
            raise Refused(429, "insufficient_quota", "today's tokens are used up", "wait", wait)

    def _admit(self, ask: Ask, exchange: Exchange) -> Ask:
        """Check what costs nothing: may requests come at all, may this user, may this prompt?"""
        user = exchange.user
        self.admit(user)
        check_prompt(ask.messages, self.settings.deny)
        self.telemetry.turns.observe(sum(turn["role"] == "user" for turn in ask.messages))
        if self.settings.context:
            room = self.settings.context - ask.options.max_tokens - estimate(ask.tools)
            ask = replace(ask, messages=trim(ask.messages, room))
        if self.smaller and user.priority:
            models = [node for node in self.pool.nodes.values() if node.wanted and node.spec.model]
            least = min(models, key=lambda node: node.card.params_b or 1e9)
            ask = replace(ask, model=least.spec.model)
        self.router.able(ask.model, ask.task)
        return ask

    def _limit(self, own: int, usual: int, user: User) -> int:
        return own or (usual if user.priority else 0)

    async def _cached(
        self, ask: Ask, user: User
    ) -> tuple[Chunk | None, Callable[[list[Chunk]], Awaitable[None]]]:
        """Look for the answer to this request; return it, and what keeps the answer if there is none."""
        cache, threshold = self.cache, self.settings.cache_threshold

        async def nothing(chunks: list[Chunk]) -> None:
            return None

        if cache is None or ask.options.temperature > 0:
            return None, nothing
        group, field = keys_of(user.id, ask)
        vector: list[float] = []
        with suppress(sqlite3.Error):  # a cache that fails is no failure
            if value := await cache.get(group, field):
                self.telemetry.cache("exact")
                return unpacked(value), nothing
        if self.settings.cache == "semantic" and ask.messages[-1]["role"] == "user":
            with suppress(LabkitError, sqlite3.Error):
                vector = (await self.embed([ask.messages[-1]["content"]]))[0][0]
                if near := nearest(await cache.all(group), vector, threshold):
                    self.telemetry.cache("semantic")
                    return near, nothing
        self.telemetry.cache()

        async def keep(chunks: list[Chunk]) -> None:
            with suppress(sqlite3.Error):
                await cache.put(group, field, packed(chunks, vector))

        return None, keep

    async def embed(self, texts: list[str], model: str = "") -> tuple[list[list[float]], int]:
        """Return vectors from a backend that makes them; the first that is set up for it, unless one is named."""
        nodes = [n for n in self.pool.nodes.values() if "embed" in n.spec.task_classes and n.wanted]
        model = model or (nodes[0].spec.model if nodes else "")
        able, until = self.router.able(model, "embed"), time.monotonic() + self.settings.wait
        return await self.router.attempts(able, until, [], lambda node, _: node.embed(texts))

    def _count_calls(self, tools: list[Tool], chunks: list[Chunk]) -> None:
        offered = {tool["function"]["name"]: tool["function"].get("parameters") for tool in tools}
        for call in (call for chunk in chunks for call in chunk.tool_calls):
            self.telemetry.tool(outcome(call, offered))

    def _tell(self, exchange: Exchange, ask: Ask, chunks: list[Chunk], cached: bool) -> None:
        exchange.told |= {"cached": cached}
        if self.settings.audit_text:
            also, answer = self.settings.mask, "".join(chunk.text for chunk in chunks)
            exchange.told |= {
                "asked": redact(ask.messages[-1]["content"], also),
                "answered": redact(answer, also),
            }


async def _one(chunk: Chunk) -> AsyncGenerator[Chunk, None]:
    yield chunk
