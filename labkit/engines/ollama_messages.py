"""What Ollama writes, read: lines to calls and counts; and messages, written as it reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from labkit.errors import OptionInvalid
from labkit.types import Chunk, FinishReason, Message, ToolCall, Usage


def lines(pieces: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """Yield each line's JSON. Bytes may be split anywhere, also within a character."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from (json.loads(line) for line in whole if line.strip())


class ThoughtReader:
    """Put a thought, which Ollama sends apart, back into the text: <think>…</think>, then the answer."""

    def __init__(self) -> None:
        self._inside = False

    def read(self, message: Mapping[str, Any], done: bool) -> str:
        """Return the text of one message."""
        text, thought = message.get("content") or "", message.get("thinking") or ""
        begins, self._inside = bool(thought) and not self._inside, self._inside or bool(thought)
        ends = self._inside and (bool(text) or done)
        self._inside = self._inside and not ends
        return ("<think>" if begins else "") + thought + ("</think>" if ends else "") + text


def last(line: Mapping[str, Any], text: str, fresh: tuple[ToolCall, ...], called: bool, count: int) -> Chunk:
    """Return the chunk that ends an answer, with the tokens nobody counted yet."""
    written = int(line.get("eval_count") or count)
    reason: FinishReason = "length" if line.get("done_reason") == "length" else "stop"
    usage = Usage(int(line.get("prompt_eval_count") or 0), written)
    return Chunk(text, max(0, written - count), fresh, "tool_calls" if called else reason, usage)


def call_of(call: Mapping[str, Any], index: int) -> ToolCall:
    """Return a tool call: Ollama's arguments are an object."""
    function = call["function"]
    return ToolCall(
        str(function["name"]), dict(function["arguments"] or {}), call.get("id") or f"call_{index}"
    )


def words_of(said: bytes) -> str:
    """Return the text of an error body."""
    try:
        return str(json.loads(said)["error"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return said.decode("utf-8", "replace").strip()


def turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return messages as Ollama writes them: arguments are objects, a tool's result names the tool."""
    names: dict[str, str] = {}
    made = []
    for message in messages:
        turn: dict[str, Any] = {"role": message["role"], "content": message["content"]}
        if message.get("tool_calls"):
            turn["tool_calls"] = [{"function": _function(call, names)} for call in message["tool_calls"]]
        if name := names.get(str(message.get("tool_call_id"))):
            turn["tool_name"] = name
        made.append(turn)
    return made


def _function(call: Mapping[str, Any], names: dict[str, str]) -> dict[str, Any]:
    try:
        function = call["function"]
        arguments = function["arguments"]
        arguments = json.loads(arguments or "{}") if isinstance(arguments, str) else dict(arguments or {})
        names[str(call.get("id"))] = str(function["name"])
        return {"name": str(function["name"]), "arguments": dict(arguments)}
    except (ValueError, LookupError, TypeError, RecursionError) as exc:
        raise OptionInvalid(f"{call!r:.80} is no tool call", fix="pass on reply.message as it came") from exc
