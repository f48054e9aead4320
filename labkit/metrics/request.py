"""Where requests go under load: to an OpenAI-compatible server, or to a model in this process."""

from __future__ import annotations

import asyncio
import selectors
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from labkit.engines.base import Model
from labkit.engines.openai_request import checked_url
from labkit.errors import EngineTimeout, EngineUnavailable, LabkitError, OptionInvalid
from labkit.metrics.answer import AnswerReader, Outcome
from labkit.types import GenerationOptions, Message

LIST_TIMEOUT_S = 10.0
MAX_THREADS = 256
# Servers close idle connections after 5 s (uvicorn) or more; a request that meets that moment would be lost.
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=2.0)


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


class ArrivalClock(selectors.DefaultSelector):
    """Note when the event loop learned of new bytes: `before` is that moment for the code that reads them.

    Parsing takes turns, so a stamp made there is late by the parsing of all that came at the same time. A loop
    wakes a reader one round after it was told of its bytes.
    """

    now = before = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait as ever, then look at the clock."""
        ready = super().select(timeout)
        self.before, self.now = self.now, time.perf_counter()
        return ready


class UrlClient:
    """Send requests to a server, and read its streams."""

    def __init__(
        self, server: Server, options: GenerationOptions, timeout: float, clock: ArrivalClock
    ) -> None:
        self.url, self.timeout, self.clock = f"{server.url}/chat/completions", timeout, clock
        self.key = server.key
        self.http = httpx.AsyncClient(headers=server.headers, timeout=None, limits=LIMITS)
        self.body: dict[str, Any] = {
            "model": server.model,
            "max_tokens": options.max_tokens,
            "temperature": 0,
        }
        self.body |= {"stream": True, "stream_options": {"include_usage": True}}
        self.body |= {"ignore_eos": True} if options.ignore_eos else {}

    async def aclose(self) -> None:
        """Close every connection."""
        await self.http.aclose()

    async def ask(self, messages: list[Message], outcome: Outcome) -> None:
        """Connect, send when it is due, and settle the fate; whatever the server does, nothing is raised."""
        reader, why = AnswerReader(outcome), "no finish reason and no [DONE]"
        try:
            async with asyncio.timeout(self.timeout):
                await self._stream(messages, outcome, reader)
        except TimeoutError:
            why = f"not complete within {self.timeout:g} s"
            reader.began = bool(outcome.stamps)
        except httpx.HTTPError as exc:
            why = f"{type(exc).__name__}: {exc}"
        if reader.error:
            # A server may repeat the key that it refuses.
            outcome.end("failed", reader.error.replace(self.key, "…") if self.key else reader.error)
        elif reader.done:
            outcome.end("ok")
        else:
            outcome.end("cut" if reader.began else "lost", why)

    async def _stream(self, messages: list[Message], outcome: Outcome, reader: AnswerReader) -> None:
        async def connected(event: str, info: object) -> None:
            if event == "http11.send_request_headers.started":
                await outcome.wait()

        body = {**self.body, "messages": messages}
        request = self.http.build_request("POST", self.url, json=body, extensions={"trace": connected})
        async with aclosing(await self.http.send(request, stream=True)) as response:
            if not response.is_success:
                reader.error = f"HTTP {response.status_code}"
                reader.error += f": {(await response.aread()).decode('utf-8', 'replace'):.120}"
                return
            reader.began = True
            async for data in response.aiter_raw():
                reader.feed(data, self.clock.before)
                if reader.error:
                    return


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
