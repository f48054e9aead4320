"""Where requests go under load: to an OpenAI-compatible server, or to a model in this process."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import h11
import httpx

from labkit.engines.base import Model
from labkit.engines.openai_request import checked_url
from labkit.errors import EngineTimeout, EngineUnavailable, LabkitError, OptionInvalid
from labkit.metrics.answer import AnswerReader, Outcome
from labkit.types import GenerationOptions, Message

LIST_TIMEOUT_S = 10.0
MAX_THREADS = 256
# Servers close idle connections after 5 s (uvicorn) or more; a request that meets that moment would be lost.
IDLE_S = 2.0


@dataclass(frozen=True, slots=True)
class Server:
    """Name an OpenAI-compatible server by its address up to /v1. The key is sent to it and written nowhere."""

    url: str
    model: str
    key: str = field(default="", repr=False)

    @classmethod
    def find(cls, url: str, model: str = "", key: str = "") -> Self:
        """Complete the address, and ask for the first model's name where none is given.

        Raises `OptionInvalid` for what is no plain address and for a key that would travel unencrypted,
        `EngineUnavailable` when no model is named there.
        """
        if not (key.isascii() and key.isprintable()):
            raise OptionInvalid("what stands for the key is none", fix="export it again, without line breaks")
        server = cls(str(checked_url(url, "--key-env" if key else "")), model, key)
        if model:
            return server
        try:
            answer = httpx.get(f"{server.url}/models", headers=server.headers, timeout=LIST_TIMEOUT_S)
            return cls(server.url, str(answer.raise_for_status().json()["data"][0]["id"]), key)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError) as exc:
            raise EngineUnavailable(
                f"{server.url}/models names no model: {str(exc) or type(exc).__name__:.200}",
                fix="start the server, correct the URL, or name the model",
            ) from exc

    @property
    def headers(self) -> dict[str, str]:
        """Return what every request carries; compressed chunks would come late."""
        return {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})


class Wire(asyncio.Protocol):
    """One HTTP/1.1 connection that stamps bytes the moment they come, and has them read when there is time.

    A client of 100 streams is busy with some while others speak. So a stamp costs next to nothing, and reading, which
    costs more, takes turns: one piece for each round of the event loop. `turn` is what all connections share.
    """

    transport: asyncio.Transport

    def __init__(self, turn: asyncio.Lock) -> None:
        self.turn, self.http, self.idle_since = turn, h11.Connection(h11.CLIENT), 0.0
        self.came, self.news = deque[tuple[float, bytes]](), asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """Stamp what came."""
        self.came.append((time.perf_counter(), data))
        self.news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Put the end behind what came: to h11, no bytes are the end."""
        self.data_received(b"")

    async def events(self) -> AsyncGenerator[tuple[float, Any], None]:
        """Yield (time.perf_counter of its bytes, event) to the end; raise `h11.RemoteProtocolError` if it is torn."""
        at = 0.0
        while True:
            event = self.http.next_event()
            if event is not h11.NEED_DATA:
                yield at, event
                if isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                    return
                continue
            await self.news.wait()
            async with self.turn:
                await asyncio.sleep(0)  # what came meanwhile is stamped before this is read
            at, data = self.came.popleft()
            self.http.receive_data(data)
            if not self.came:
                self.news.clear()


class UrlClient:
    """Send requests to a server, straight and without a proxy, and read its streams."""

    def __init__(self, server: Server, options: GenerationOptions, timeout: float) -> None:
        self.url, self.timeout, self.key = httpx.URL(f"{server.url}/chat/completions"), timeout, server.key
        self.turn, self.idle = asyncio.Lock(), list[Wire]()
        self.encryption = httpx.create_ssl_context() if self.url.scheme == "https" else None
        self.headers = {"Host": self.url.netloc.decode(), **server.headers}
        self.headers["Content-Type"] = "application/json"
        self.body: dict[str, Any] = {"model": server.model, "max_tokens": options.max_tokens}
        self.body |= {"temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
        self.body |= {"ignore_eos": True} if options.ignore_eos else {}

    async def aclose(self) -> None:
        """Close every connection."""
        for wire in self.idle:
            wire.transport.abort()

    async def ask(self, messages: list[Message], outcome: Outcome) -> None:
        """Connect, send when it is due, and settle the fate; whatever the server does, nothing is raised."""
        reader, why = AnswerReader(outcome), "no finish reason and no [DONE]"
        try:
            async with asyncio.timeout(self.timeout):
                await self._stream(messages, outcome, reader)
        except TimeoutError:
            why = f"not complete within {self.timeout:g} s"
            reader.began = bool(outcome.stamps)
        except (OSError, h11.ProtocolError) as exc:
            why = f"{type(exc).__name__}: {exc}"
        if reader.error:
            # A server may repeat the key that it refuses.
            outcome.end("failed", reader.error.replace(self.key, "…") if self.key else reader.error)
        elif reader.done:
            outcome.end("ok")
        else:
            outcome.end("cut" if reader.began else "lost", why)

    async def _stream(self, messages: list[Message], outcome: Outcome, reader: AnswerReader) -> None:
        body = json.dumps({**self.body, "messages": messages}).encode()
        headers = [*self.headers.items(), ("Content-Length", str(len(body)))]
        request = h11.Request(method="POST", target=self.url.raw_path, headers=headers)
        wire = await self._connect()
        parts = (request, h11.Data(data=body), h11.EndOfMessage())
        data = b"".join(wire.http.send(part) or b"" for part in parts)
        try:
            await outcome.wait()
            wire.transport.write(data)  # all at once, so that it is under way now
            await self._read(wire, reader)
            if wire.http.their_state is h11.DONE and not wire.came:
                wire.http.start_next_cycle()
                wire.idle_since = time.perf_counter()
                self.idle.append(wire)
        finally:
            if wire not in self.idle:
                wire.transport.abort()

    async def _connect(self) -> Wire:
        while self.idle:
            wire = self.idle.pop()
            if not wire.came and time.perf_counter() - wire.idle_since < IDLE_S:
                return wire
            wire.transport.abort()
        port = self.url.port or (443 if self.encryption else 80)
        loop, make = asyncio.get_running_loop(), partial(Wire, self.turn)
        transport, wire = await loop.create_connection(make, self.url.host, port, ssl=self.encryption)
        wire.transport = transport
        return wire

    async def _read(self, wire: Wire, reader: AnswerReader) -> None:
        async with aclosing(wire.events()) as events:
            async for at, event in events:
                if isinstance(event, h11.Response):
                    reader.began = 200 <= event.status_code < 300
                    reader.error = "" if reader.began else f"HTTP {event.status_code}: "
                elif isinstance(event, h11.Data) and reader.began:
                    reader.feed(event.data, at)
                    if reader.error:
                        return
                elif isinstance(event, h11.Data):
                    reader.error += f"{event.data.decode('utf-8', 'replace'):.120}"


class ModelClient:
    """Ask a model in this process; one that serves one request at a time lets the others wait in a queue."""

    def __init__(self, model: Model, options: GenerationOptions) -> None:
        self.model, self.options, self.stopped = model, options, False
        self.pool = ThreadPoolExecutor(MAX_THREADS if model.engine.concurrent else 1)

    async def aclose(self) -> None:
        """Stop what is still written, and wait for that."""
        self.stopped = True
        self.pool.shutdown(cancel_futures=True)

    async def ask(self, messages: list[Message], outcome: Outcome) -> None:
        """Put one request into the queue when it is due, and wait for its fate."""
        await outcome.wait()
        await asyncio.get_running_loop().run_in_executor(self.pool, self._stream, messages, outcome)

    def _stream(self, messages: list[Message], outcome: Outcome) -> None:
        finished = False
        try:
            with closing(self.model.stream(messages, options=self.options)) as stream:
                for chunk in stream:
                    if chunk.text or chunk.tool_calls:
                        outcome.stamps.append(time.perf_counter())
                    if chunk.usage:
                        outcome.count(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
                    finished = finished or bool(chunk.finish_reason)
                    if self.stopped:
                        break
            outcome.end("ok" if finished else "cut", "" if finished else "no finish reason")
        except LabkitError as error:
            lost = isinstance(error, EngineTimeout)
            outcome.end("lost" if lost else "failed", f"{type(error).__name__}: {error.what}")
