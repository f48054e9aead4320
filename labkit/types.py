"""The values that travel through labkit: options in, chunks out, one reply at the end.

Messages and tools are plain OpenAI chat dicts everywhere, so they have no class here.
This module knows nothing about engines, files or notebooks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from labkit.errors import OptionInvalid

Message = dict[str, Any]
Tool = dict[str, Any]
ToolChoice = Literal["auto", "none", "required"]
FinishReason = Literal["stop", "length", "tool_calls"]

MAX_STOPS = 16
MAX_CONSTRAINT_CHARS = 100_000
MAX_CONSTRAINT_DEPTH = 32


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """Choose how the next tokens are picked and when to stop.

    `temperature` 0 is greedy. `seed` None means 0: a lab gives the same answer twice.
    At most one of `grammar` (GBNF text) and `schema` (a JSON schema) may be set. `ignore_eos` writes on after
    the model's own end, for measurements that need a fixed length.
    Raises `OptionInvalid` on any value out of range.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 40
    top_p: float = 1.0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    tool_choice: ToolChoice = "auto"
    grammar: str | None = None
    schema: Mapping[str, Any] | None = None
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        elif isinstance(self.stop, list):
            object.__setattr__(self, "stop", tuple(self.stop))
        require_whole("max_tokens", self.max_tokens, 1, 1_000_000)
        _number("temperature", self.temperature, 0.0, 5.0)
        require_whole("top_k", self.top_k, 0, 1_000_000)
        _number("top_p", self.top_p, 0.0, 1.0)
        _number("min_p", self.min_p, 0.0, 1.0)
        _number("repeat_penalty", self.repeat_penalty, 0.1, 10.0)
        if self.seed is not None:
            require_whole("seed", self.seed, 0, 2**32 - 1)
        _stops(self.stop)
        if self.tool_choice not in ("auto", "none", "required"):
            raise OptionInvalid.of("tool_choice", self.tool_choice, "'auto', 'none' or 'required'")
        if not isinstance(self.ignore_eos, bool):
            raise OptionInvalid.of("ignore_eos", self.ignore_eos, "True or False")
        _constraint(self.grammar, self.schema)

    @classmethod
    def of(cls, options: GenerationOptions | None, **overrides: Any) -> GenerationOptions:
        """Merge keyword overrides into `options`; raise `OptionInvalid` on an unknown name."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(overrides) - known)
        if unknown:
            raise OptionInvalid(
                f"unknown option {unknown[0]!r}", fix=f"choose from: {', '.join(sorted(known))}"
            )
        base = {name: getattr(options, name) for name in known} if options else {}
        return cls(**(base | overrides))


def require_whole(name: str, value: object, low: int, high: int) -> None:
    """Raise `OptionInvalid` unless `value` is a whole number in the range."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise OptionInvalid.of(name, value, f"a whole number from {low} to {high}")


def _number(name: str, value: object, low: float, high: float) -> None:
    ok = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not ok or not low <= value <= high:  # type: ignore[operator]
        raise OptionInvalid.of(name, value, f"a number from {low:g} to {high:g}")


def _stops(stop: object) -> None:
    if not isinstance(stop, tuple) or len(stop) > MAX_STOPS:
        count = f"{len(stop)} strings" if isinstance(stop, tuple) else stop
        raise OptionInvalid.of("stop", count, f"at most {MAX_STOPS} strings")
    for text in stop:
        if not isinstance(text, str) or not 0 < len(text) <= 256:
            raise OptionInvalid.of("stop", text, "strings of 1 to 256 characters")


def _constraint(grammar: str | None, schema: Mapping[str, Any] | None) -> None:
    if grammar is not None and schema is not None:
        raise OptionInvalid("both grammar and schema are set", fix="set one of them")
    if grammar is not None and (not isinstance(grammar, str) or not 0 < len(grammar) <= MAX_CONSTRAINT_CHARS):
        raise OptionInvalid.of("grammar", grammar, f"GBNF text of at most {MAX_CONSTRAINT_CHARS} characters")
    if schema is not None:
        if not isinstance(schema, Mapping):
            raise OptionInvalid.of("schema", schema, "a JSON schema (a dict)")
        if _depth(schema) > MAX_CONSTRAINT_DEPTH:
            raise OptionInvalid(
                f"schema is nested deeper than {MAX_CONSTRAINT_DEPTH} levels",
                fix="flatten it, or split the question in two",
            )


def _depth(value: object) -> int:
    """Measure nesting without recursion, so that a hostile schema cannot exhaust the stack."""
    deepest, queue = 0, [(value, 1)]
    while queue and deepest <= MAX_CONSTRAINT_DEPTH:
        item, level = queue.pop()
        deepest = max(deepest, level)
        children = item.values() if isinstance(item, Mapping) else item if isinstance(item, list) else ()
        queue.extend((child, level + 1) for child in children)
    return deepest


@dataclass(frozen=True, slots=True)
class ToolCall:
    """Name a tool and the arguments to call it with."""

    name: str
    arguments: dict[str, Any]
    id: str = "call_0"

    def openai(self) -> dict[str, Any]:
        """Return the call as OpenAI's chat format writes it (arguments as a JSON string)."""
        arguments = json.dumps(self.arguments, ensure_ascii=False)
        return {
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": arguments},
        }

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.arguments.items())})"


@dataclass(frozen=True, slots=True)
class Usage:
    """Count tokens: read, read from the cache instead (part of `prompt_tokens`), and written."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Return prompt plus completion tokens."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Chunk:
    """Carry one streamed piece of a reply.

    `tokens` is how many tokens the piece stands for, and `ids` are their ids where the engine tells them (the last
    chunk's is the token that ended the reply). `at` is seconds since the request was sent,
    stamped in one place (`engines/base.py`). The last chunk has `finish_reason` and `usage`.
    """

    text: str = ""
    tokens: int = 0
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    at: float = 0.0
    ids: tuple[int, ...] = ()


BURST = 0.005  # share of an answer's time within which all of its output came


@dataclass(frozen=True, slots=True)
class Timing:
    """Keep when output arrived, and derive the usual figures from it (definitions as in vLLM's benchmark).

    `stamps` are seconds since the request was sent, one for each chunk that carried tokens; `tokens` is the
    number of output tokens; `total` is seconds to the end of the stream (E2EL).
    """

    stamps: tuple[float, ...]
    tokens: int
    total: float

    @property
    def ttft(self) -> float:
        """Return the time to first token in seconds (NaN when nothing came)."""
        return self.stamps[0] if self.stamps else math.nan

    @property
    def tpot(self) -> float:
        """Return (last output − first output) / (tokens − 1) in seconds; NaN for fewer than two tokens."""
        return (self.stamps[-1] - self.stamps[0]) / (self.tokens - 1) if self.tokens > 1 else math.nan

    @property
    def itl(self) -> tuple[float, ...]:
        """Return every gap between streamed outputs, in seconds."""
        return tuple(b - a for a, b in zip(self.stamps, self.stamps[1:], strict=False))

    @property
    def tokens_per_second(self) -> float:
        """Return 1 / TPOT: the speed of decoding, without the wait for the first token."""
        return 1 / self.tpot if self.tokens > 1 and self.tpot > 0 else math.nan

    def __str__(self) -> str:
        speed = ""
        if self.tokens > 1:
            # What a server holds back and sends in one burst tells nothing of its speed.
            burst = self.stamps[-1] - self.stamps[0] < BURST * self.total
            speed = "the rest at once, " if burst else f"then {self.tokens_per_second:,.0f} tokens/s, "
        return (
            f"first token {self.ttft * 1e3:.1f} ms, {speed}{self.tokens} tokens in {self.total * 1e3:.0f} ms"
        )


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """Hold a whole answer: text, tool calls, why it ended, what it used, how long it took."""

    text: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason
    usage: Usage
    timing: Timing
    model: str = ""
    engine: str = ""

    @property
    def message(self) -> Message:
        """Return the assistant turn, ready to append to the messages of the next request."""
        message: Message = {"role": "assistant", "content": self.text}
        if self.tool_calls:
            message["tool_calls"] = [call.openai() for call in self.tool_calls]
        return message

    def __str__(self) -> str:
        return "\n".join([*([self.text] if self.text else []), *(f"→ {c}" for c in self.tool_calls)])

    def __repr__(self) -> str:
        read = f"{self.usage.prompt_tokens} tokens read ({self.usage.cached_tokens} cached)"
        return (
            f"{self}\n[{self.model} on {self.engine}, ended by {self.finish_reason}: {read}, {self.timing}]"
        )


@dataclass(frozen=True, slots=True)
class TokenScore:
    """Give one token's text and its natural-log probability after all tokens before it."""

    id: int
    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Availability:
    """Say whether an engine can be used here, and what to type if not."""

    installed: bool
    version: str = ""
    reason: str = ""
    fix: str = ""
