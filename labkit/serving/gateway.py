"""The gateway: the way of a request through filters, quotas, cache, line and router, and what is written about it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace

import psutil

from labkit.serving.alerts import Alerts
from labkit.serving.audit import Audit
from labkit.serving.cache import Cache
from labkit.serving.exchange import Bill, Exchange, outcome
from labkit.serving.filters import Mask, check_prompt, redact
from labkit.serving.keys import LOCAL, Keys, Meter, User
from labkit.serving.openai_api import Ask
from labkit.serving.pool import Pool
from labkit.serving.queueing import Deadlines, Line
from labkit.serving.refused import Refused, status_of
from labkit.serving.router import Router
from labkit.serving.settings import Settings
from labkit.serving.states import none_can_answer, trouble
from labkit.serving.telemetry import Telemetry
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
        self.cache = Cache(settings, self.telemetry, self.embed)
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
        watching = (self.router.watch(), self.pool.watch(), self.alerts.run(), self._tick())
        jobs = (self._open(), self.audit.run(), *watching)
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
                    self.telemetry.backend(name, not trouble(self.router, node), node.memory)
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
        """Say why nobody should be sent here; nothing when at least one backend can answer.

        What a backend said may hold names of files: with keys, it is for `/admin/models` alone.
        """
        return self.closed or none_can_answer(self.router, reasons=not self.settings.keys)

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
        status, bill = 200, Bill()
        exchange.told |= {"model": ask.model[:80]}
        try:
            async with aclosing(self._answer(ask, exchange, bill)) as chunks:
                async for chunk in chunks:
                    bill.add(chunk)
                    exchange.seen.first()
                    yield chunk
        except BaseException as error:
            status = status_of(error)
            raise
        finally:
            if bill.paid:
                self.tokens.give_back(exchange.user.id, self._tokens(exchange.user), bill.paid - bill.used)
            exchange.told |= bill.told
            exchange.end(status)

    async def _answer(self, ask: Ask, exchange: Exchange, bill: Bill) -> AsyncGenerator[Chunk, None]:
        """Yield an answer from the cache, or take the way through the line to a backend."""
        user, chunks, mask = exchange.user, list[Chunk](), Mask(self.settings.mask)
        ask = self._admit(ask, user)
        look = await self.cache.find(user.id, ask)
        async with AsyncExitStack() as stack:
            source = _one(look.found) if look.found else await self._turn(ask, exchange, bill, stack)
            async for chunk in source:
                text = mask.feed(chunk.text, bool(chunk.finish_reason))
                chunks.append(chunk if text is chunk.text else replace(chunk, text=text))
                yield chunks[-1]
        if not look.found:
            self._count_calls(ask.tools, chunks)
            await self.cache.keep(look, chunks)
        self._tell(exchange, ask, chunks, bool(look.found))

    async def _turn(
        self, ask: Ask, exchange: Exchange, bill: Bill, stack: AsyncExitStack
    ) -> AsyncGenerator[Chunk, None]:
        """Pay for the longest answer there can be, wait for a turn, and return the stream from a backend."""
        most = estimate(ask.messages) + estimate(ask.tools) + ask.options.max_tokens
        self.charge(exchange.user, most)
        bill.paid, until = most, time.monotonic() + self.settings.wait
        await stack.enter_async_context(self.line.place(exchange.user.priority, self.settings.wait))
        stream = self.router.stream(ask, until, exchange.seen, exchange.trail)
        return await stack.enter_async_context(aclosing(stream))

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
        if wait := self.tokens.take(user.id, self._tokens(user), count):
            raise Refused(429, "insufficient_quota", "today's tokens are used up", "wait", wait)

    def _tokens(self, user: User) -> int:
        return self._limit(user.tokens_per_day, self.settings.tokens_per_day, user)

    def _admit(self, ask: Ask, user: User) -> Ask:
        """Check what costs nothing: may requests come at all, may this user, may this prompt?"""
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
