"""Any server that speaks OpenAI's chat completions over HTTP, by its URL.

httpx rather than OpenAI's own client: that one builds objects for every chunk, tries again by itself (which would
spoil a measurement), and takes a stream that was cut for one that ended.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, Self

from labkit.engines.base import Engine, read_tool_calls
from labkit.engines.openai_request import (
    DIALECTS,
    EXAMPLE,
    LOOPBACK,
    PLAIN,
    UrlOptions,
    checked_url,
    reads_calls,
    request_body,
)
from labkit.engines.openai_stream import StreamedAnswer, error_in, events, message_of, read_bare_call
from labkit.engines.settings import settings_of
from labkit.errors import (
    ContextOverflow,
    EngineFailed,
    EngineTimeout,
    EngineUnavailable,
    LabkitError,
    ModelNotFound,
    OptionInvalid,
)
from labkit.models.card import ModelCard
from labkit.types import Availability, Chunk, GenerationOptions, Message, Tool

CONNECT_S = 5.0
SERVED = "served"
TOO_LONG = re.compile(r"context.{0,40}(size|length|window)|(prompt|input).{0,40}too long", re.IGNORECASE)


class OpenAI(Engine):
    """Ask the model that a server runs; several threads may ask at once.

    With `tool_choice="none"` the tools are not sent at all. A server that is neither llama.cpp's nor vLLM takes
    OpenAI's options only: others raise `OptionInvalid` unless left at their defaults, which are then the server's.
    """

    name = "openai"
    concurrent = constrained = True
    raw_tool_calls = False
    longer = "start the server with a longer context"

    @classmethod
    def available(cls) -> Availability:
        """Say yes: HTTP is all it takes."""
        return Availability(True, version("httpx"), reason="no model of its own: asks the server at url=")

    @classmethod
    def default_variant(cls, card: ModelCard) -> str:
        """Return "served": which level a server runs is the server's affair."""
        return SERVED

    @classmethod
    def load(cls, card: ModelCard, variant: str, options: Mapping[str, Any]) -> Self:
        """Look up the model in the server's own list."""
        if variant != SERVED:
            raise OptionInvalid(f"{variant!r:.40}: the server decides which level it runs", fix="no variant=")
        engine = cls(settings_of(UrlOptions, cls.name, options), card.alias)
        try:
            engine.look_up()
        except BaseException:
            engine.close()
            raise
        return engine

    def __init__(self, options: UrlOptions, alias: str) -> None:
        import httpx

        self.options, self.model, self.dialect = options, options.model or alias, PLAIN
        self.key = os.environ.get(options.key_env, "").strip()
        if not (self.key.isascii() and self.key.isprintable()):
            raise OptionInvalid(f"what {options.key_env} holds is no key", fix=f"export {options.key_env}=…")
        url = checked_url(options.url, options.key_env if self.key else "")
        self.url = str(url)
        https = url.scheme == "https"
        # Compressed chunks would arrive late. A new connection costs next to nothing without TLS, and llama.cpp's
        # server now and then drops one that it promised to keep. Without TLS no certificates need to be read.
        headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
        self.http = httpx.Client(
            headers=headers | ({"Authorization": f"Bearer {self.key}"} if self.key else {}),
            timeout=httpx.Timeout(options.timeout, connect=CONNECT_S, pool=CONNECT_S),
            limits=httpx.Limits(
                max_connections=None, max_keepalive_connections=None if https else 0, keepalive_expiry=2.0
            ),
            trust_env=url.host not in LOOPBACK,  # no proxy on the way to this machine
            verify=https,
        )

    def look_up(self) -> None:
        """Learn the server's kind; raise `ModelNotFound` if it lists other models only."""
        with self.vendor_errors():
            answer = self.http.get(f"{self.url}/models", timeout=CONNECT_S)
            if answer.status_code in (404, 405):  # a server without a list may still have the model
                return
            self.check(answer.status_code, answer.text)
            listed = {str(model["id"]): str(model.get("owned_by")) for model in answer.json()["data"]}
        if listed and self.model not in listed:
            names = ", ".join(map(repr, listed))
            raise ModelNotFound(
                f"{self.url} has no model {self.model!r:.80}", fix=f"model= one of {names:.300}"
            )
        self.dialect = DIALECTS.get(listed.get(self.model, ""), PLAIN)

    def stream(
        self, messages: Sequence[Message], tools: Sequence[Tool], options: GenerationOptions
    ) -> Iterator[Chunk]:
        """Send one request and yield what comes; closing the stream hangs up, and the server stops."""
        source: Iterator[Chunk]
        source = asked = self.ask(request_body(self.model, self.dialect, messages, tools, options))
        if options.tool_choice != "none" and reads_calls(self.dialect, tools, options):
            source = read_tool_calls(source) if options.grammar else read_bare_call(source)
        try:
            yield from source
        finally:
            asked.close()

    def ask(self, body: bytes) -> Generator[Chunk, None, None]:
        """Send a request and yield what the server makes of it."""
        url, answer = f"{self.url}/chat/completions", StreamedAnswer()
        with self.vendor_errors(), self.http.stream("POST", url, content=body) as response:
            if not response.is_success:
                self.check(response.status_code, response.read().decode("utf-8", "replace"))
            pieces = response.iter_raw()
            for event in events(pieces):
                if event.get("error"):
                    self.check(*error_in(event))
                if chunk := answer.read(event):
                    yield chunk
            if answer.reason in ("", "content_filter"):
                what = "withheld the rest of its answer" if answer.reason else "cut its answer off"
                raise EngineFailed(f"{self.url} {what} after {answer.tokens} tokens", fix="ask again")
            yield answer.last()
            next(pieces, b"")  # the end of the body: the connection can carry the next request

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def check(self, status: int, said: str) -> None:
        """Raise the `LabkitError` that an HTTP status means, with the server's words, in which no key is shown."""
        if 200 <= status < 300:
            return
        words = message_of(said).replace(self.key or "\0", "…")[:300]
        raise error_of(status, f"{self.url} answered {status}: {words}", self)

    @contextmanager
    def vendor_errors(self) -> Iterator[None]:
        """Turn what httpx raises, and what cannot be read, into `LabkitError`s."""
        import httpx

        try:
            yield
        except httpx.TimeoutException as exc:
            raise EngineTimeout(
                f"{self.url} did not answer in time ({type(exc).__name__})",
                fix=f"see whether it is busy, or load(…, timeout={2 * self.options.timeout:g})",
            ) from exc
        except httpx.ConnectError as exc:
            raise EngineUnavailable(
                f"nothing answers at {self.url}", fix="start the server, or correct url="
            ) from exc
        except httpx.HTTPError as exc:
            raise EngineFailed(
                f"{self.url} broke off ({type(exc).__name__}: {exc})", fix="ask again"
            ) from exc
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as exc:
            raise EngineFailed(
                f"{self.url} sent what is no OpenAI answer ({type(exc).__name__})",
                fix=f"correct url=: {EXAMPLE}",
            ) from exc


def error_of(status: int, what: str, engine: OpenAI) -> LabkitError:
    """Return the error that an HTTP status means."""
    if TOO_LONG.search(what) and status in (400, 413, 422):
        return ContextOverflow(what, fix=f"shorten the messages, or {engine.longer}")
    if status in (401, 403):
        return EngineUnavailable(what, fix=f"export {engine.options.key_env}=…   with a key of that server")
    if status == 404:
        return ModelNotFound(what, fix=f"correct url= or model= (now {engine.model!r:.80})")
    if status == 429:
        return EngineUnavailable(what, fix="wait, then ask again; the server limits how often")
    if 400 <= status < 500:
        return OptionInvalid(what, fix="leave out, or correct, what the server objects to")
    return EngineFailed(what, fix="ask again; if it stays, see the server's log")
