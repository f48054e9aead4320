"""The engine contract, and the one path from a request to a reply.

An engine is a class with three verbs (`load`, `stream`, `close`) and a few flags. `Model` wraps a loaded
engine: it checks what goes in, stamps every chunk that comes out, and adds the chunks up to a `Reply`.
This module knows nothing about any vendor's library.
"""

from __future__ import annotations

import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from labkit.engines.messages import check_messages
from labkit.engines.toolcalls import ToolCallReader
from labkit.engines.toolschema import tool_schemas
from labkit.errors import EngineFailed, EngineTimeout, OptionInvalid
from labkit.models.card import ModelCard
from labkit.types import (
    Availability,
    Chunk,
    GenerationOptions,
    Message,
    Reply,
    Timing,
    TokenScore,
    Tool,
    Usage,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BUSY_TIMEOUT_S = 300.0

AnyTool = Tool | Callable[..., Any]
Stream = Generator[Chunk, None, None]


class Engine(ABC):
    """Run one loaded model. Subclass it in `labkit/engines/NAME.py`, or elsewhere through an entry point.

    Flags say what the engine can do; a method that needs a flag exists only where the flag is set.
    An engine with `raw_tool_calls` yields tool calls as text (`<tool_call>…`), and `Model` reads them;
    any other engine puts them into `Chunk.tool_calls` itself. An engine with `raw_speed` runs in this
    process, takes the option `threads`, and times the network alone.
    `file` is the model file an engine runs, None where it has none of its own. `device`
    says where it runs and why, where the engine had a choice.
    """

    name: ClassVar[str]
    tools: ClassVar[bool] = True
    score: ClassVar[bool] = False
    logits: ClassVar[bool] = False
    embed: ClassVar[bool] = False
    concurrent: ClassVar[bool] = False
    constrained: ClassVar[bool] = False
    raw_tool_calls: ClassVar[bool] = True
    raw_speed: ClassVar[bool] = False
    file: Path | None = None
    device: str = ""

    @classmethod
    @abstractmethod
    def available(cls) -> Availability:
        """Say whether this engine is installed, without importing the vendor's library."""

    @classmethod
    def default_variant(cls, card: ModelCard) -> str:
        """Name the level to load where none is asked for."""
        return card.default_variant

    @classmethod
    @abstractmethod
    def load(cls, card: ModelCard, variant: str, options: Mapping[str, Any]) -> Self:
        """Load a model. The vendor's library is imported here and nowhere earlier."""

    @abstractmethod
    def stream(
        self, messages: Sequence[Message], tools: Sequence[Tool], options: GenerationOptions
    ) -> Iterator[Chunk]:
        """Yield chunks; the last one carries `finish_reason` and `usage`."""

    @abstractmethod
    def close(self) -> None:
        """Free everything. Calling it twice is harmless."""

    def score_text(self, text: str) -> list[TokenScore]:
        """Return each token's log-probability; engines with the flag `score` have this method."""
        raise OptionInvalid(f"{self.name} cannot score text", fix="load(…, engine='llamacpp')")

    def tokenize(self, text: str, special: bool = True) -> list[int]:
        """Return the token ids of `text`; control tokens in it stay plain text without `special`.

        Engines with the flag `logits` have this method and the next two.
        """
        raise OptionInvalid(f"{self.name} shows no scores", fix="load(…, engine='llamacpp')")

    def prompt(self, messages: Sequence[Message], tools: Sequence[Tool]) -> list[int]:
        """Return the token ids that a request is read as."""
        raise OptionInvalid(f"{self.name} shows no token ids", fix="load(…, engine='llamacpp')")

    def window_logits(self, ids: Sequence[int], first: int) -> NDArray[np.float32]:
        """Read `ids` afresh; return raw scores of every token after ids[first], ids[first + 1], …: (N, V).

        A vocabulary that begins texts with BOS has it in place of ids[0], as in llama-perplexity.
        """
        raise OptionInvalid(f"{self.name} shows no scores", fix="load(…, engine='llamacpp')")

    def embed_texts(self, texts: Sequence[str], truncate: bool) -> tuple[NDArray[np.float32], int]:
        """Return vectors of length 1, shape (N, D), and the tokens read; a text that is too long is cut if `truncate`.

        Engines with the flag `embed` have this method.
        """
        raise OptionInvalid(f"{self.name} makes no embeddings", fix="load(…, engine='llamacpp')")

    def time_raw(self, prompt: int, generate: int) -> tuple[float, float]:
        """Return seconds to read `prompt` random tokens, and to write `generate` from an empty cache.

        Without tokenization and sampling, as llama-bench does; engines with the flag `raw_speed` have this method.
        """
        raise OptionInvalid(f"{self.name} cannot time raw speed", fix="load(…, engine='llamacpp')")


def installed(package: str, fix: str, reason: str = "") -> Availability:
    """Look for a package without importing it; `reason` goes with one that is there."""
    try:
        return Availability(True, version(package), reason)
    except PackageNotFoundError:
        return Availability(False, reason=f"{package} is not installed", fix=fix)


class Model:
    """Chat with a loaded model: `chat`, `stream`, `score`, `close`. Made by `labkit.load()`.

    An engine that is not `concurrent` serves one stream at a time: other threads wait their turn, and a new
    request closes a stream that its own thread left unfinished (after Ctrl-C, say).
    """

    def __init__(self, engine: Engine, card: ModelCard, variant: str, why: str = "") -> None:
        self.engine, self.card, self.variant = engine, card, variant
        self.why = "; ".join(filter(None, (why, engine.device)))
        self._turn = threading.Lock()
        self._open: dict[int, weakref.ref[Stream]] = {}
        self._closed = False

    def __repr__(self) -> str:
        state = " (closed)" if self._closed else ""
        device = f", {self.engine.device}" if self.engine.device else ""
        return f"<{self.card.alias} {self.variant} on {self.engine.name}{device}{state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def chat(
        self,
        messages: str | Sequence[Message],
        *,
        tools: Sequence[AnyTool] = (),
        options: GenerationOptions | None = None,
        **overrides: Any,
    ) -> Reply:
        """Ask, wait, and return the whole `Reply`.

        `messages` is a string (one user turn) or OpenAI chat dicts; `tools` are Python functions or OpenAI
        tool dicts; further keywords are fields of `GenerationOptions`, as in `max_tokens=64`.
        """
        return self.reply_of(list(self.stream(messages, tools=tools, options=options, **overrides)))

    def reply_of(self, chunks: Sequence[Chunk]) -> Reply:
        """Add the chunks of one stream up to a `Reply`, for callers who showed them as they came."""
        last = chunks[-1] if chunks else Chunk()
        usage = last.usage or Usage(0, sum(c.tokens for c in chunks))
        return Reply(
            text="".join(c.text for c in chunks).strip(),
            tool_calls=tuple(call for c in chunks for call in c.tool_calls),
            finish_reason=last.finish_reason or "stop",
            usage=usage,
            timing=Timing(tuple(c.at for c in chunks if c.tokens), usage.completion_tokens, last.at),
            model=self.card.alias,
            engine=self.engine.name,
        )

    def stream(
        self,
        messages: str | Sequence[Message],
        *,
        tools: Sequence[AnyTool] = (),
        options: GenerationOptions | None = None,
        **overrides: Any,
    ) -> Stream:
        """Ask and yield `Chunk`s as they come. Arguments are checked here, before the engine is called."""
        turns, schemas = check_messages(messages), tool_schemas(tools)
        chosen = GenerationOptions.of(options, **overrides)
        self._check_able(bool(schemas), chosen)
        self._check_open()
        key = threading.get_ident()
        stream = self._run(turns, schemas, chosen, key)
        # Weak, so that a stream nobody holds any more ends at once and frees the engine.
        self._open[key], previous = weakref.ref(stream), self._open.get(key)
        if previous and (unfinished := previous()) and not self.engine.concurrent:
            unfinished.close()
        return stream

    def score(self, text: str) -> list[TokenScore]:
        """Return every token of `text` with its natural-log probability (the first has none: NaN)."""
        self._check_open()
        with self._own_turn():
            return self.engine.score_text(text)

    def tokenize(self, text: str, special: bool = True) -> list[int]:
        """Return the token ids of `text`; control tokens in it stay plain text without `special`."""
        self._check_open()
        return self.engine.tokenize(text, special)

    def window_logits(self, ids: Sequence[int], first: int) -> NDArray[np.float32]:
        """Return the scores (N, V) of every token that may follow ids[first], ids[first + 1], … ids[-1]."""
        self._check_open()
        with self._own_turn():
            return self.engine.window_logits(ids, first)

    def embed(self, texts: Sequence[str], *, truncate: bool = True) -> tuple[NDArray[np.float32], int]:
        """Return vectors of length 1, shape (N, D), and how many tokens were read."""
        self._check_open()
        return self.engine.embed_texts(texts, truncate)

    def close(self) -> None:
        """Free the engine's memory. Calling it twice is harmless."""
        if self._closed:
            return
        mine = self._open.get(threading.get_ident())
        if mine and (unfinished := mine()):
            unfinished.close()
        with self._own_turn():
            self._closed = True
            self.engine.close()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineFailed(f"{self!r} was closed", fix=f"m = load({self.card.alias!r})")

    def _check_able(self, tools: bool, options: GenerationOptions) -> None:
        if tools and not self.engine.tools:
            raise OptionInvalid(f"{self.engine.name} takes no tools", fix="load(…, engine='llamacpp')")
        constrained = options.grammar or options.schema is not None or options.tool_choice == "required"
        if constrained and not self.engine.constrained:
            raise OptionInvalid(
                f"{self.engine.name} cannot constrain its output", fix="load(…, engine='llamacpp')"
            )
        if options.tool_choice == "required" and not tools:
            raise OptionInvalid("tool_choice='required' without tools", fix="pass tools=[…] as well")

    @contextmanager
    def _own_turn(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=BUSY_TIMEOUT_S):
            raise EngineTimeout(
                f"{self!r} was busy for {BUSY_TIMEOUT_S:g} s", fix="finish or .close() the other stream"
            )
        try:
            yield
        finally:
            self._turn.release()

    def _run(
        self, messages: list[Message], tools: list[Tool], options: GenerationOptions, key: int
    ) -> Stream:
        start = time.perf_counter()
        with nullcontext() if self.engine.concurrent else self._own_turn():
            self._check_open()
            source = self.engine.stream(messages, tools, options)
            if self.engine.raw_tool_calls and tools and options.tool_choice != "none":
                source = read_tool_calls(source)
            try:
                for chunk in source:
                    # The one place that writes to a Chunk: to copy a frozen one for every token costs more.
                    object.__setattr__(chunk, "at", time.perf_counter() - start)
                    yield chunk
            finally:
                close_source(source)


def close_source(source: Iterator[Any]) -> None:
    """End an engine's generator now instead of when it is collected: its `finally` stops the engine."""
    close = getattr(source, "close", None)
    if close:
        close()


def read_tool_calls(source: Iterator[Chunk]) -> Iterator[Chunk]:
    """Take `<tool_call>` blocks out of the text of a stream and hand them on as `ToolCall`s."""
    reader = ToolCallReader()
    try:
        for chunk in source:
            text, calls = reader.feed(chunk.text)
            if chunk.finish_reason:
                tail, more = reader.finish()
                text, calls = text + tail, calls + more
                reason = "tool_calls" if reader.calls else chunk.finish_reason
                yield replace(chunk, text=text, tool_calls=calls, finish_reason=reason)
            elif text is chunk.text:
                yield chunk
            else:
                yield replace(chunk, text=text, tool_calls=calls)
    finally:
        close_source(source)
