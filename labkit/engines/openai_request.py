"""Where a request goes, and what it says: every option is passed on or refused, none is dropped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from labkit.engines.settings import require_seconds
from labkit.engines.toolschema import call_schema
from labkit.errors import OptionInvalid
from labkit.types import GenerationOptions, Message, Tool

if TYPE_CHECKING:
    import httpx

EXAMPLE = 'load(…, engine="openai", url="http://127.0.0.1:8080/v1")'
LOOPBACK = ("localhost", "127.0.0.1", "::1")
BEYOND_OPENAI = ("top_k", "min_p", "repeat_penalty", "ignore_eos", "grammar")
DEFAULTS = GenerationOptions()


@dataclass(frozen=True, slots=True)
class UrlOptions:
    """Settle which server is asked. The key is read from the environment variable `key_env`, never passed.

    `model` is the server's name for the model, by default the name given to `load()`; `timeout` is the longest
    silence in seconds.
    """

    url: str = ""
    model: str | None = None
    key_env: str = "OPENAI_API_KEY"
    timeout: float = 300.0

    def __post_init__(self) -> None:
        for name in ("url", "model", "key_env"):
            if not isinstance(getattr(self, name) or "", str):
                raise OptionInvalid.of(name, getattr(self, name), "a string")
        if not self.url:
            raise OptionInvalid("the engine openai needs a server's URL", fix=EXAMPLE)
        require_seconds("timeout", self.timeout)


def checked_url(text: str, key_env: str = "") -> httpx.URL:
    """Return `checked_address` as what httpx asks."""
    import httpx

    try:
        return httpx.URL(checked_address(text, key_env))
    except httpx.InvalidURL as exc:
        raise OptionInvalid(f"{text!r:.80} is no URL: {exc}", fix=EXAMPLE) from exc


def checked_address(text: str, key_env: str = "") -> str:
    """Return the address that ends in /v1 or the like.

    Raises `OptionInvalid` for one that is none, and for one to which the key in `key_env` would go unencrypted.
    """
    try:
        url = urlsplit(text.strip().rstrip("/").removesuffix("/chat/completions"))
        known = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError as exc:
        raise OptionInvalid(f"{text!r:.80} is no URL: {exc}", fix=EXAMPLE) from exc
    if not known or not url.netloc.isprintable() or " " in url.geturl():
        raise OptionInvalid(f"{text!r:.80} is no URL", fix=EXAMPLE)
    if "@" in url.netloc or url.query:
        raise OptionInvalid(
            f"the URL of {url.hostname} holds more than an address", fix="a key goes into key_env="
        )
    if key_env and url.scheme == "http" and url.hostname not in LOOPBACK:
        raise OptionInvalid(
            f"the key in {key_env} would go to {url.hostname} without encryption",
            fix='an https:// address, or key_env="" to send no key',
        )
    return f"{url.scheme}://{url.netloc}{url.path.rstrip('/') or '/v1'}"


@dataclass(frozen=True, slots=True)
class Dialect:
    """Say how a kind of server calls the options beyond OpenAI's, and what makes it report a running count."""

    names: Mapping[str, str]
    counting: Mapping[str, Any]


# By what a server's own list of models says owns them. Any other server is sent OpenAI's options only.
DIALECTS = {
    "llamacpp": Dialect({name: name for name in BEYOND_OPENAI}, {"timings_per_token": True}),
    "vllm": Dialect(
        {
            "top_k": "top_k",
            "min_p": "min_p",
            "repeat_penalty": "repetition_penalty",
            "ignore_eos": "ignore_eos",
        },
        {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    ),
}
PLAIN = Dialect({}, {})


def request_body(
    model: str,
    dialect: Dialect,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    options: GenerationOptions,
) -> bytes:
    """Return the JSON of a request; raise `OptionInvalid` for an option that this server would not obey."""
    body: dict[str, Any] = {"model": model, "messages": list(messages), "stream": True}
    body |= {"stream_options": {"include_usage": True}, **dialect.counting}
    body |= {"max_tokens": options.max_tokens, "temperature": options.temperature, "top_p": options.top_p}
    body |= {"seed": options.seed or 0, **_beyond(dialect, options)}
    if options.stop:
        body["stop"] = list(options.stop)
    schema = options.schema
    if tools and options.tool_choice != "none":
        body |= {"tools": list(tools), "tool_choice": options.tool_choice}
        if reads_calls(dialect, tools, options):
            body["tool_choice"] = "none"
            schema = schema if schema is not None or options.grammar else call_schema(tools)
    if schema is not None:
        answer = {"name": "answer", "strict": True, "schema": dict(schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": answer}
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise OptionInvalid(f"the request is no JSON: {exc}"[:200], fix="correct tools= or schema=") from exc


def reads_calls(dialect: Dialect, tools: Sequence[Tool], options: GenerationOptions) -> bool:
    """Return whether tools are shown to a model whose calls are read here, not by its server.

    llama.cpp's server refuses a grammar where it reads calls, and takes "required" to mean that a model may write on
    and on before its call; vLLM, that its arguments may be any. Both obey a schema of one call to the letter.
    """
    required = options.tool_choice == "required"
    return dialect is not PLAIN and bool(tools) and (required or options.grammar is not None)


def _beyond(dialect: Dialect, options: GenerationOptions) -> dict[str, Any]:
    found = {}
    for name in BEYOND_OPENAI:
        value = getattr(options, name)
        if name in dialect.names and value is not None:
            found[dialect.names[name]] = value
        elif value != getattr(DEFAULTS, name):
            raise OptionInvalid(f"this server takes no {name}", fix="leave it out, or engine='llamaserver'")
    return found
