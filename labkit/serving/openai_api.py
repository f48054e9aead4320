"""OpenAI's format: bodies in, checked before anything is asked; answers and server-sent events out."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from labkit.engines.messages import check_messages
from labkit.engines.toolschema import tool_schemas
from labkit.errors import OptionInvalid
from labkit.types import Chunk, GenerationOptions, Message, Tool

PASSED = ("temperature", "top_k", "top_p", "min_p", "repeat_penalty", "seed", "stop", "ignore_eos")
UNABLE = {"n": 1, "logprobs": False, "top_logprobs": 0, "logit_bias": {}, "presence_penalty": 0}
UNABLE |= {"frequency_penalty": 0, "best_of": 1, "echo": False, "suffix": "", "audio": None}
TURN_KEYS = {"system": ("name",), "user": ("name",), "assistant": ("name",), "tool": ("tool_call_id", "name")}
MAX_TEXTS = 256
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Ask:
    """Hold a checked request; `task` is its class, by which it is routed."""

    model: str
    messages: list[Message]
    tools: list[Tool]
    options: GenerationOptions
    stream: bool = False
    usage: bool = False

    @property
    def task(self) -> str:
        """Return "json", "tools" or "chat"."""
        return "json" if self.options.schema is not None else "tools" if self.tools else "chat"


def parse(raw: bytes) -> dict[str, Any]:
    """Return the JSON object of a body; raise `OptionInvalid` for anything else, NaN and endless depth included."""
    try:
        body = json.loads(raw, parse_constant=_no_number)
    except (ValueError, RecursionError) as exc:
        what = f"the body is no JSON: {type(exc).__name__}: {exc}"[:200]
        raise OptionInvalid(
            what, fix='{"model": "nano", "messages": [{"role": "user", "content": "Hi"}]}'
        ) from exc
    if not isinstance(body, dict):
        raise OptionInvalid(f"the body is {type(body).__name__}", fix="a JSON object")
    return body


def read_chat(body: Mapping[str, Any], most: int) -> Ask:
    """Check a request to /v1/chat/completions; `most` is the length of an answer that asks for none."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise OptionInvalid.of("messages", messages, "a list of messages")
    turns = [_turn(turn, place) for place, turn in enumerate(check_messages(messages))]
    tools = tool_schemas(_of(body, "tools", list) or [])
    choice, tools = _choice(body.get("tool_choice"), tools)
    options = {name: _whole(body[name]) for name in PASSED if body.get(name) is not None}
    limits = [
        _whole(body[key]) for key in ("max_completion_tokens", "max_tokens") if body.get(key) is not None
    ]
    limit, *others = [*limits, most]
    for other in others:  # not used, and still to be checked
        GenerationOptions(max_tokens=other)
    options |= {"max_tokens": limit, "tool_choice": choice if tools else "auto"}
    streamed = _of(body, "stream_options", dict) or {}
    _refuse_unable(body)
    return Ask(
        _model(body),
        turns,
        tools if choice != "none" else [],
        GenerationOptions.of(None, **options, schema=_schema(_of(body, "response_format", dict))),
        _of(body, "stream", bool) or False,
        _of(streamed, "include_usage", bool) or False,
    )


def read_completion(body: Mapping[str, Any], most: int) -> Ask:
    """Check a request to /v1/completions: its prompt becomes a chat's only turn (the models are made for chat)."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise OptionInvalid.of("prompt", prompt, "one text")
    turns = [{"role": "user", "content": prompt}]
    return read_chat({**body, "messages": turns, "tools": None}, most)


def read_embeddings(body: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Check a request to /v1/embeddings; return the model and the texts."""
    asked = body.get("input")
    texts = [asked] if isinstance(asked, str) else asked
    if (
        not isinstance(texts, list)
        or not 0 < len(texts) <= MAX_TEXTS
        or not all(isinstance(t, str) for t in texts)
    ):
        raise OptionInvalid.of("input", asked, f"a text, or up to {MAX_TEXTS} texts")
    check_messages([{"role": "user", "content": text} for text in texts])
    if body.get("encoding_format", "float") not in ("float", "base64"):
        raise OptionInvalid.of("encoding_format", body["encoding_format"], "float or base64")
    return _model(body), texts


def _refuse_unable(body: Mapping[str, Any]) -> None:
    for name, usual in UNABLE.items():
        value = body.get(name)
        if value is not None and (value != usual or isinstance(value, bool) != isinstance(usual, bool)):
            raise OptionInvalid(f"{name} cannot be {value!r:.40} here", fix=f"leave {name} out")


def _model(body: Mapping[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= 200:
        raise OptionInvalid.of("model", model, "a name out of /v1/models")
    return model


def _whole(value: Any) -> Any:
    """Return 3 for 3.0: to JSON they are the same number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _of(body: Mapping[str, Any], name: str, kind: type) -> Any:
    value = body.get(name)
    if value is not None and not isinstance(value, kind):
        raise OptionInvalid.of(name, value, f"{name} is a {kind.__name__}")
    return value


def _turn(turn: Message, place: int) -> Message:
    """Return what an engine needs of a message: no field that is not its role's, since engines stumble over them."""
    calls = turn.get("tool_calls")
    fine = calls is None or (isinstance(calls, list) and all(map(_is_call, calls)))
    if not fine or not all(isinstance(turn.get(key, ""), str | None) for key in ("tool_call_id", "name")):
        raise OptionInvalid(f"messages[{place}] has no proper tool calls", fix="hand them back as they came")
    kept = {key: turn[key] for key in TURN_KEYS[turn["role"]] if turn.get(key)}
    if calls and turn["role"] == "assistant":
        kept["tool_calls"] = [_call(call, number) for number, call in enumerate(calls)]
    return {"role": turn["role"], "content": turn["content"], **kept}


def _call(call: dict[str, Any], number: int) -> dict[str, Any]:
    function, id = call["function"], call.get("id")
    plain = {"name": function["name"], "arguments": _as_json(function["arguments"] or "{}")}
    named = id if isinstance(id, str) and id else f"call_{number}"
    return {"id": named, "type": "function", "function": plain}


def _as_json(text: str) -> str:
    """Return arguments that a model wrote; those that are no JSON as a JSON string, since servers choke on them."""
    try:
        told = json.loads(text, parse_constant=_no_number, parse_int=float)
        json.dumps(
            told, ensure_ascii=False, allow_nan=False
        ).encode()  # no number too large, no half a character
        return text
    except (ValueError, RecursionError):
        return json.dumps(text, ensure_ascii=False)


def _is_call(call: object) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not function.get("name"):
        return False
    return all(isinstance(function.get(key), str) for key in ("name", "arguments"))


def _choice(choice: Any, tools: list[Tool]) -> tuple[str, list[Tool]]:
    """Return labkit's word for a tool choice; a tool chosen by name is the only one left."""
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        tools = [tool for tool in tools if tool["function"]["name"] == choice["function"].get("name")]
        if tools:
            return "required", tools
    if choice not in (None, "auto", "none", "required") or (choice == "required" and not tools):
        raise OptionInvalid.of("tool_choice", choice, "auto, none, required, or one of tools")
    return choice or "auto", tools


def _schema(form: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if form is None or form.get("type") == "text":
        return None
    if form.get("type") == "json_object":
        return {"type": "object"}
    inner = form.get("json_schema")
    if (
        form.get("type") != "json_schema"
        or not isinstance(inner, dict)
        or not isinstance(inner.get("schema"), dict)
    ):
        raise OptionInvalid.of("response_format", form, "text, json_object or json_schema")
    return inner["schema"]  # type: ignore[no-any-return]


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


class Format:
    """Write one answer as a chat completion, or as a completion where `chat` is False."""

    def __init__(self, id: str, model: str, chat: bool = True) -> None:
        self.chat = chat
        kind = "chat.completion" if chat else "text_completion"
        self.head = {"id": id, "object": kind, "created": int(time.time()), "model": model}
        self.chunk_head = {**self.head, "object": "chat.completion.chunk" if chat else kind}

    def whole(self, chunks: Sequence[Chunk]) -> dict[str, Any]:
        """Return the whole answer."""
        text = "".join(chunk.text for chunk in chunks)
        calls = [call.openai() for chunk in chunks for call in chunk.tool_calls]
        message = {"role": "assistant", "content": text or (None if calls else ""), "refusal": None}
        content: dict[str, Any] = {"message": message | ({"tool_calls": calls} if calls else {})}
        choice = self._choice(content if self.chat else {"text": text}, chunks[-1])
        return {**self.head, "choices": [choice], "usage": usage_of(chunks[-1])}

    def event(self, chunk: Chunk, first: bool) -> bytes:
        """Return one chunk as an event."""
        delta: dict[str, Any] = {"role": "assistant", "content": ""} if first else {}
        if chunk.text:
            delta["content"] = chunk.text
        if chunk.tool_calls:
            delta["tool_calls"] = [{"index": i, **call.openai()} for i, call in enumerate(chunk.tool_calls)]
        choice = self._choice({"delta": delta} if self.chat else {"text": chunk.text}, chunk)
        return sse({**self.chunk_head, "choices": [choice]})

    def usage_event(self, chunk: Chunk) -> bytes:
        """Return the event with the usage, for those who asked for it."""
        return sse({**self.chunk_head, "choices": [], "usage": usage_of(chunk)})

    def _choice(self, content: dict[str, Any], last: Chunk) -> dict[str, Any]:
        return {"index": 0, **content, "logprobs": None, "finish_reason": last.finish_reason}


def usage_of(chunk: Chunk) -> dict[str, Any]:
    """Return a usage object."""
    used = chunk.usage
    prompt, written, cached = (
        (used.prompt_tokens, used.completion_tokens, used.cached_tokens) if used else (0, 0, 0)
    )
    counts = {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}
    return {**counts, "prompt_tokens_details": {"cached_tokens": cached}}


def sse(value: dict[str, Any]) -> bytes:
    """Return an object as a server-sent event, in ASCII: no character of it can be cut in two."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"
