"""Ollama: a daemon that keeps models and serves them. Where none runs, labkit's own endpoint answers the same API.

Models are listed, created and pulled through Ollama's own client, which is `engine.client` for whoever wants more.
Only a chat's request is written here: the client's `chat` drops what it does not know of a tool's schema, enums and
nested objects among it, and would leave it to the daemon to cut a prompt that is too long.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from labkit.engines.base import Engine, installed
from labkit.engines.llamacpp_convert import can_quantize
from labkit.engines.ollama_daemon import Daemon, error_of, tag_of
from labkit.engines.ollama_messages import ThoughtReader, call_of, last, lines, turns, words_of
from labkit.engines.openai_stream import read_bare_call
from labkit.engines.settings import require_seconds, settings_of
from labkit.engines.toolschema import call_schema
from labkit.errors import EngineFailed, ModelNotFound, OptionInvalid
from labkit.models.card import ModelCard
from labkit.types import Availability, Chunk, GenerationOptions, Message, Tool, ToolCall, require_whole

SERVED = "served"


@dataclass(frozen=True, slots=True)
class OllamaOptions:
    """Settle which daemon is asked: `host`, else OLLAMA_HOST, else this machine.

    `model` is the daemon's own name for a model, in place of the catalog's; `keep_alive` is how long it stays
    loaded, as in 300 or "5m" (-1 for ever); `context` is tokens; `timeout` the longest silence in seconds.
    """

    host: str | None = None
    model: str | None = None
    keep_alive: float | str | None = None
    context: int = 2048
    timeout: float = 300.0

    def __post_init__(self) -> None:
        for name, kinds in {"host": str, "model": str, "keep_alive": int | float | str}.items():
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
                raise OptionInvalid.of(name, value, 'as in host="127.0.0.1:11434"')
        require_whole("context", self.context, 16, 10**7)
        require_seconds("timeout", self.timeout)


class Ollama(Engine):
    """Ask a model that an Ollama daemon serves; several threads may ask at once.

    A thought stays in the text, as in the engine llamacpp. Ollama has no grammars, and cannot go on after the end.
    """

    name = "ollama"
    concurrent = constrained = True
    raw_tool_calls = False

    @classmethod
    def available(cls) -> Availability:
        """Look for the client without importing it; whether a daemon answers shows when a model is loaded."""
        found = "the client: it needs a daemon, or labkit serve"
        return installed("ollama", "pip install 'labkit[ollama]'   (Ollama's client)", found)

    @classmethod
    def default_variant(cls, card: ModelCard) -> str:
        """Choose the card's level for a shipped model; which level a tag has is the daemon's affair."""
        if not card.shipped:
            return SERVED
        return card.default_variant if can_quantize() else "Q8_0"

    @classmethod
    def load(cls, card: ModelCard, variant: str, options: Mapping[str, Any]) -> Self:
        """Find the model in the daemon; a shipped one is created there from our GGUF file."""
        chosen = settings_of(OllamaOptions, cls.name, options)
        ours = card.shipped and not chosen.model
        if not ours and variant not in (SERVED, card.default_variant):
            raise OptionInvalid(
                f"{variant!r:.40}: the tag decides which level it is", fix="model=TAG, no variant="
            )
        tag = "" if ours else chosen.model or tag_of(card)
        daemon = Daemon(chosen.host, chosen.timeout)
        try:
            engine = cls(daemon, tag, chosen)
            if ours:
                engine.model, engine.file = daemon.ensure(card, variant, chosen.context)
            else:
                engine.look_up(card)
        except BaseException:
            daemon.close()
            raise
        return engine

    def __init__(self, daemon: Daemon, model: str, options: OllamaOptions) -> None:
        self.daemon, self.model, self.options = daemon, model, options
        self.client, self.device = daemon.client, daemon.who

    def look_up(self, card: ModelCard) -> None:
        """Raise `ModelNotFound` unless the daemon has the model."""
        with self.daemon.errors():
            listed = [str(model.model) for model in self.client.list().models]
        if self.model not in listed and f"{self.model}:latest" not in listed:
            pull = (
                f"labkit models pull {card.alias} --engine ollama, or: "
                if self.model != self.options.model
                else ""
            )
            raise ModelNotFound(
                f"{self.daemon.who} has no model {self.model!r:.80}", fix=f"{pull}ollama pull {self.model}"
            )

    def stream(
        self, messages: Sequence[Message], tools: Sequence[Tool], options: GenerationOptions
    ) -> Iterator[Chunk]:
        """Send one request and yield what comes; closing the stream hangs up, and the daemon stops."""
        asked = self.ask(self.request(messages, tools, options))
        try:
            yield from read_bare_call(asked) if tools and options.tool_choice == "required" else asked
        finally:
            asked.close()

    def request(
        self, messages: Sequence[Message], tools: Sequence[Tool], options: GenerationOptions
    ) -> bytes:
        """Return the JSON of a request; raise `OptionInvalid` for an option that Ollama does not have."""
        for name in ("grammar", "ignore_eos"):
            if getattr(options, name):
                raise OptionInvalid(f"Ollama takes no {name}", fix="leave it out, or engine='llamaserver'")
        settings: dict[str, Any] = {"num_ctx": self.options.context, "num_predict": options.max_tokens}
        for name in ("temperature", "top_k", "top_p", "min_p", "repeat_penalty"):
            settings[name] = getattr(options, name)
        settings |= {"seed": options.seed or 0} | ({"stop": list(options.stop)} if options.stop else {})
        body: dict[str, Any] = {"model": self.model, "messages": turns(messages), "options": settings}
        # A prompt that is too long is an error, not one that lost its beginning.
        body |= {"stream": True, "truncate": False}
        schema = options.schema
        if tools and options.tool_choice != "none":
            body["tools"] = list(tools)
            schema = call_schema(tools) if schema is None and options.tool_choice == "required" else schema
        body |= {"format": dict(schema)} if schema is not None else {}
        body |= {"keep_alive": self.options.keep_alive} if self.options.keep_alive is not None else {}
        try:
            return json.dumps(body, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as exc:
            raise OptionInvalid(
                f"the request is no JSON: {exc}"[:200], fix="correct tools= or schema="
            ) from exc

    def ask(self, body: bytes) -> Generator[Chunk, None, None]:
        """Send a request and yield what the daemon makes of it: a token a line, then the counts."""
        calls: list[ToolCall] = []
        count, thoughts = 0, ThoughtReader()
        with self.daemon.errors(), self.daemon.http.stream("POST", "/api/chat", content=body) as response:
            if not response.is_success:
                raise error_of(response.status_code, words_of(response.read()))
            for line in lines(response.iter_raw()):
                if line.get("error"):
                    raise error_of(-1, str(line["error"]))
                message = line.get("message") or {}
                text = thoughts.read(message, line["done"])
                fresh = [call_of(c, len(calls) + i) for i, c in enumerate(message.get("tool_calls") or ())]
                calls += fresh
                if line["done"]:
                    yield last(line, text, tuple(fresh), bool(calls), count)
                    return
                count += 1
                yield Chunk(text, 1, tuple(fresh))
        raise EngineFailed(f"{self.daemon.url} cut its answer off after {count} tokens", fix="ask again")

    def close(self) -> None:
        """Close the connections; the model stays in the daemon as long as keep_alive says."""
        self.daemon.close()
