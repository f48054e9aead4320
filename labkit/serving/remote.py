"""An OpenAI-compatible server as a backend: answers as `Chunk`s, and what its refusals mean."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from labkit.engines.openai import TOO_LONG
from labkit.engines.openai_request import DIALECTS, PLAIN, Dialect, checked_address, reads_calls, request_body
from labkit.engines.openai_stream import DONE, EventReader, StreamedAnswer, error_in, message_of
from labkit.engines.toolcalls import parse_call
from labkit.errors import ContextOverflow, EngineFailed, EngineUnavailable, LabkitError, OptionInvalid
from labkit.serving.settings import Backend
from labkit.serving.wire import CONNECT_S, Connections, Wire
from labkit.types import Chunk, GenerationOptions, Message, Tool

END_S = 0.1
EMBED_S = 30.0
MAX_RETRY_AFTER_S = 60.0


class Busy(EngineUnavailable):
    """A server that asks to be left alone for `after` seconds."""

    def __init__(self, what: str, after: float) -> None:
        super().__init__(what, fix="wait, then ask again")
        self.after = after


class Remote:
    """Ask a server. `url` and `dialect` may change when its process is started again."""

    def __init__(self, spec: Backend, http: Connections) -> None:
        self.spec, self.http, self.dialect = spec, http, PLAIN
        self.key = os.environ.get(spec.key_env, "").strip() if spec.key_env else ""
        if not (self.key.isascii() and self.key.isprintable()):
            raise OptionInvalid(f"what {spec.key_env} holds is no key", fix="export it again, in one line")
        self.url = checked_address(spec.url, spec.key_env if self.key else "") if spec.url else ""

    def at(self, url: str, dialect: Dialect) -> None:
        """Say where it is now."""
        self.url, self.dialect = url, dialect

    async def look_up(self) -> None:
        """Learn which kind of server it is; raise `EngineUnavailable` if nothing answers. A list is no must."""
        try:
            async with (
                asyncio.timeout(CONNECT_S),
                self.http.ask(f"{self.url}/models", self._headers()) as wire,
            ):
                said = await wire.read()
        except OSError as exc:  # a TimeoutError is one, too
            raise EngineUnavailable(f"nothing answers at {self.url}", fix="start it") from exc
        with suppress(ValueError, LookupError, TypeError):
            listed = json.loads(said)
            owners = {model["id"]: str(model.get("owned_by")) for model in listed["data"]}
            self.dialect = DIALECTS.get(owners.get(self.spec.model, ""), PLAIN)

    async def stream(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        options: GenerationOptions,
        headers: Mapping[str, str],
    ) -> AsyncGenerator[Chunk, None]:
        """Yield an answer; closing this hangs up, and the server stops. Raises `LabkitError`s and `OSError`s."""
        body = request_body(self.spec.model, self.dialect, messages, tools, options)
        bare = options.tool_choice != "none" and reads_calls(self.dialect, tools, options)
        reader, answer, held, end = EventReader(), StreamedAnswer(), "", False
        async with self.http.ask(f"{self.url}/chat/completions", self._headers(headers), body) as wire:
            if not 200 <= wire.status < 300:
                raise self._refusal(wire, await wire.read())
            while not end and (piece := await wire.piece()):
                events, end, error = self._events(list(reader.feed(piece)))
                chunks = list(filter(None, map(answer.read, events)))
                held += "".join(chunk.text for chunk in chunks) if bare else ""
                if chunks:
                    yield _merged(chunks, silent=bare)
                if error:  # only now: what came before it has been passed on
                    raise error
            if answer.reason in ("", "content_filter"):
                raise EngineFailed(f"{self.spec.name} cut off after {answer.tokens} tokens", fix="ask again")
            if not wire.done:  # at the end of the body, the connection can carry the next request
                with suppress(TimeoutError, OSError):
                    async with asyncio.timeout(END_S):
                        await wire.read()
            yield _last(answer.last(), held)

    def _events(self, ready: list[bytes]) -> tuple[list[dict[str, Any]], bool, Exception | None]:
        """Return events that came together, whether [DONE] was among them, and why the rest cannot be read."""
        if end := DONE in ready:
            ready = ready[: ready.index(DONE)]
        with suppress(ValueError, RecursionError):  # all at once costs a third of one by one
            together = json.loads(b"[" + b",".join(ready) + b"]")
            if len(together) == len(ready) and all(type(e) is dict and "error" not in e for e in together):
                return together, end, None
        events: list[dict[str, Any]] = []
        for data in ready:
            try:
                events.append(self._event(data))
            except (LabkitError, ValueError, AttributeError, RecursionError) as exc:
                return events, end, exc
        return events, end, None

    def _event(self, data: bytes) -> dict[str, Any]:
        event = json.loads(data)
        if event.get("error"):
            status, said = error_in(event)
            raise EngineFailed(f"{self.spec.name} failed with {status}: {self._words(said)}", fix="ask again")
        return event  # type: ignore[no-any-return]

    async def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """Return a vector for each text, and the tokens read."""
        body = json.dumps({"model": self.spec.model, "input": list(texts)}).encode()
        url = f"{self.url}/embeddings"
        async with asyncio.timeout(EMBED_S), self.http.ask(url, self._headers(), body) as wire:
            said = await wire.read()
        if not 200 <= wire.status < 300:
            raise self._refusal(wire, said)
        told = json.loads(said)
        count = int((told.get("usage") or {}).get("prompt_tokens", 0))
        return [row["embedding"] for row in told["data"]], count

    def _headers(self, more: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
        own = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return {"Content-Type": "application/json", **own, **more}

    def _words(self, said: str) -> str:
        return message_of(said).replace(self.key or "\0", "…")[:200]

    def _refusal(self, wire: Wire, said: bytes) -> LabkitError:
        """Return what a status means: the client's fault (4xx), a wish to be left alone, or a failure."""
        status = wire.status
        what = f"{self.spec.name} answered {status}: {self._words(said.decode('utf-8', 'replace'))}"
        if status == 429 or (status == 503 and "retry-after" in wire.headers):
            try:
                after = float(wire.headers.get("retry-after", 1.0))
            except ValueError:  # a date
                after = 1.0
            return Busy(what, min(max(after, 0.1), MAX_RETRY_AFTER_S))
        if status in (400, 413, 422) and TOO_LONG.search(what):
            return ContextOverflow(what, fix="shorten the messages")
        if status in (400, 413, 422):
            return OptionInvalid(what, fix="leave out, or correct, what the model's server objects to")
        if status < 500:
            return EngineUnavailable(what, fix="correct this backend's URL, model or key")
        return EngineFailed(what, fix="ask again")


def _merged(chunks: Sequence[Chunk], silent: bool) -> Chunk:
    """Return chunks that came together as one."""
    if len(chunks) == 1 and not silent:
        return chunks[0]
    text = "" if silent else "".join(chunk.text for chunk in chunks)
    return Chunk(text, sum(chunk.tokens for chunk in chunks))


def _last(chunk: Chunk, held: str) -> Chunk:
    """Return the chunk that ends an answer; `held` is the text of a bare call, if it can be read as one."""
    if held and (call := parse_call(held, "call_0")):
        return replace(chunk, tool_calls=(call,), finish_reason="tool_calls")
    return replace(chunk, text=held + chunk.text) if held else chunk
