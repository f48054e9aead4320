"""What answers: a labkit engine that this process runs, or a server by its URL; all of them yield `Chunk`s."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress

import psutil

from labkit.engines.base import Model
from labkit.engines.beside import iterate
from labkit.engines.own_server import OwnServer
from labkit.engines.registry import choose, engine_class, entries, load
from labkit.errors import EngineFailed, EngineUnavailable, LabkitError, ModelNotFound
from labkit.models.card import ModelCard
from labkit.models.catalog import find
from labkit.models.fit import needs
from labkit.serving.remote import Remote
from labkit.serving.settings import Backend
from labkit.serving.wire import Connections
from labkit.types import Chunk, GenerationOptions, Message, Tool

PROBE: list[Message] = [{"role": "user", "content": "Hi"}]


class Node:
    """Run one backend: start it, ask it, stop it. Counts what is under way; whether to ask is the router's affair."""

    def __init__(self, spec: Backend, http: Connections) -> None:
        if not spec.url and spec.url_or_engine not in ("auto", *entries()):
            raise ModelNotFound(
                f"there is no engine {spec.url_or_engine!r:.40}", fix=", ".join(sorted(entries()))
            )
        self.spec, self.remote = spec, Remote(spec, http)
        self.card: ModelCard = find(spec.model, served=bool(spec.url))
        self.model: Model | None = None
        self.active, self.last_used = 0, time.monotonic()
        self.wanted, self.failed = True, ""  # stopped by hand; why the last start failed
        self._starting, self.freeing = asyncio.Lock(), False

    @property
    def engine(self) -> str:
        """Return the engine's name; "auto" is the one that serves many at once, if it is installed."""
        name = self.spec.url_or_engine
        if name != "auto":
            return name
        return "llamaserver" if engine_class("llamaserver").available().installed else choose()[0]

    @property
    def loaded(self) -> bool:
        """Return whether it can be asked without a start first."""
        return bool(self.spec.url) or self.model is not None

    @property
    def process(self) -> psutil.Process | None:
        """Return the engine's own process, if it has one and that lives."""
        server = self.model.engine if self.model else None
        if isinstance(server, OwnServer) and server.process:
            with suppress(LabkitError, psutil.Error):
                return psutil.Process(server.process.pid)
        return None

    @property
    def dead(self) -> bool:
        """Return whether its process has ended by itself."""
        server = self.model.engine if self.model else None
        return isinstance(server, OwnServer) and server.process is not None and server.process.ended()

    @property
    def starting(self) -> bool:
        """Return whether its model is being loaded or freed."""
        return self._starting.locked()

    @property
    def up(self) -> bool:
        """Return whether it can be asked now (one whose model is not loaded can: it loads it)."""
        return not self.dead and not self.starting

    @property
    def memory(self) -> int:
        """Return what its process has in memory, or what its model is estimated to need; 0 for somebody else's."""
        if self.spec.url or self.model is None:
            return 0
        process = self.process
        with suppress(psutil.Error):
            return int(process.memory_info().rss) if process else self.need
        return 0

    @property
    def need(self) -> int:
        """Estimate what its model needs, in bytes."""
        own = not self.spec.url and self.card.variants and self.engine != "echo"
        return needs(self.card, context=self.spec.options.get("context")).total if own else 0

    async def start(self) -> None:
        """Load the model, and let it write a token, so that the first student does not wait for what is lazy."""
        try:
            await self._start()
        except Exception as error:
            self.failed = error.what if isinstance(error, LabkitError) else f"{type(error).__name__}: {error}"
            raise
        self.failed = ""

    async def _start(self) -> None:
        async with self._starting:
            if self.spec.url:
                return await self.remote.look_up()
            if self.model is not None and not self.dead:
                return
            await self._close()
            if self.engine == "llamaserver" and "embed" in self.spec.task_classes:
                options = {"embeddings": True, **self.spec.options}
            else:
                options = dict(self.spec.options)
            model = await asyncio.to_thread(load, self.spec.model, engine=self.engine, **options)
            if isinstance(model.engine, OwnServer):
                self.remote.at(model.engine.url, model.engine.dialect)
            self.model, self.last_used = model, time.monotonic()
        await self.probe()

    async def _need_model(self) -> None:
        if self.loaded:
            return
        try:
            await self.start()
        except LabkitError as error:  # whatever is wrong, it is not the request
            raise EngineUnavailable(f"{self.spec.name} cannot start: {error.what}", fix=error.fix) from error

    async def stop(self, now: bool = False) -> None:
        """Wait for what is under way (unless it must be `now`), then free the model."""
        while self.active > 0 and not now:
            await asyncio.sleep(0.05)
        async with self._starting:
            self.freeing = True
            try:
                await self._close()
            finally:
                self.freeing = False

    async def _close(self) -> None:
        model, self.model = self.model, None
        if model:
            await asyncio.to_thread(model.close)

    async def probe(self) -> None:
        """Let it write one token, since a server that answers to a health check may still be unable to."""
        if self.spec.task_classes == ("embed",):
            await self.embed(["Hi"])
            return
        async with aclosing(self.stream(PROBE, [], GenerationOptions(max_tokens=1))) as chunks:
            async for _ in chunks:
                pass

    async def stream(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        options: GenerationOptions,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Chunk, None]:
        """Yield an answer; closing this hangs up, and the engine stops. Raises `LabkitError`s only."""
        self.active, self.last_used = self.active + 1, time.monotonic()
        try:
            await self._need_model()
            model = self.model
            if self.remote.url or model is None:
                source = self.remote.stream(messages, tools, options, headers or {})
            else:
                source = iterate(lambda: model.stream(messages, tools=tools, options=options))
            async with aclosing(source):
                async for chunk in source:
                    yield chunk
        except ConnectionRefusedError as exc:
            raise EngineUnavailable(f"nothing answers at {self.spec.name}", fix="start it") from exc
        except OSError as exc:
            raise EngineFailed(f"{self.spec.name} broke off ({type(exc).__name__})", fix="ask again") from exc
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as exc:
            what = f"{self.spec.name} sent what is no OpenAI answer ({type(exc).__name__})"
            raise EngineFailed(what, fix="look at that server") from exc
        finally:
            self.active, self.last_used = self.active - 1, time.monotonic()

    async def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """Return a vector for each text, and the tokens read."""
        self.active, self.last_used = self.active + 1, time.monotonic()
        try:
            await self._need_model()
            if self.model:
                vectors, count = await asyncio.to_thread(self.model.embed, list(texts))
                return vectors.tolist(), count
            return await self.remote.embed(texts)
        except (OSError, ValueError, LookupError, TypeError) as exc:
            raise EngineFailed(
                f"{self.spec.name} made no embeddings ({type(exc).__name__})", fix="ask again"
            ) from exc
        finally:
            self.active, self.last_used = self.active - 1, time.monotonic()
