"""Read the streamed answer of an OpenAI-compatible server: bytes to events, events to `Chunk`s.

It knows the format and nothing of the connection. What cannot be read is a `ValueError`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from labkit.engines.toolcalls import CLOSE, OPEN, parse_call
from labkit.types import Chunk, FinishReason, ToolCall, Usage

DONE = b"[DONE]"
REASONING = ("reasoning_content", "reasoning")


class EventReader:
    """Cut a stream of bytes, split anywhere, into the data of its server-sent events."""

    def __init__(self) -> None:
        self._rest, self._data = b"", list[bytes]()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what is complete now: an empty line ends an event, and what the stream's end cuts off is none."""
        # Bytes are cut at line ends only; str.splitlines would also cut at U+2028 within a text.
        lines = (self._rest + data).splitlines(keepends=True)
        self._rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        for line in (line.rstrip(b"\r\n") for line in lines):
            if line.startswith(b"data:"):
                self._data.append(line[5:].strip())
            elif not line and self._data:
                yield b"\n".join(self._data)
                self._data = []


def events(pieces: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield each event's JSON until [DONE]."""
    reader = EventReader()
    for data in (data for piece in pieces for data in reader.feed(piece)):
        if data == DONE:
            return
        event = json.loads(data)
        if not isinstance(event, dict):
            raise ValueError("an event that is no object")
        yield event


class StreamedAnswer:
    """Turn events into chunks, counting tokens as they come, and put tool calls together by their index.

    A server that reports a running count (llama.cpp, vLLM) is believed; of any other, each output is one token
    until the total is known. Reasoning is counted, and its text left out.
    """

    def __init__(self) -> None:
        self.tokens, self.reason = 0, ""
        self._usage: dict[str, Any] = {}
        self._calls: dict[int, dict[str, str]] = {}

    def read(self, event: dict[str, Any]) -> Chunk | None:
        """Return the chunk of one event, None for one without output."""
        self._usage = event.get("usage") or self._usage
        for choice in (event.get("choices") or ())[:1]:
            self.reason = choice.get("finish_reason") or self.reason
            delta = choice.get("delta") or {}
            for part in delta.get("tool_calls") or ():
                self._add(part)
            text = delta.get("content") or ""
            if text or delta.get("tool_calls") or any(delta.get(name) for name in REASONING):
                return Chunk(text, self._count(event))
        return None

    def last(self) -> Chunk:
        """Return the chunk that ends the answer: its tool calls, usage, and the tokens nobody counted yet."""
        usage, cached = self._usage, (self._usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        written = int(usage.get("completion_tokens") or self.tokens)
        made = [self._call(index) for index in sorted(self._calls)]
        calls = tuple(call for call in made if isinstance(call, ToolCall))
        reason: FinishReason = "length" if self.reason == "length" else "stop"
        return Chunk(
            "".join(text for text in made if isinstance(text, str)),
            max(0, written - self.tokens),
            calls,
            "tool_calls" if calls else reason,
            Usage(int(usage.get("prompt_tokens") or 0), written, int(cached or 0)),
        )

    def _add(self, part: dict[str, Any]) -> None:
        call = self._calls.setdefault(int(part.get("index") or 0), {"id": "", "name": "", "arguments": ""})
        call["id"] = part.get("id") or call["id"]
        function = part.get("function") or {}
        for name in ("name", "arguments"):
            call[name] += function.get(name) or ""

    def _call(self, index: int) -> ToolCall | str:
        """Return a call, or its text where the arguments are no JSON object: nothing is guessed at."""
        call = self._calls[index]
        try:
            arguments = json.loads(call["arguments"] or "{}")
        except (ValueError, RecursionError):
            arguments = None
        if isinstance(arguments, dict) and call["name"]:
            return ToolCall(call["name"], arguments, call["id"] or f"call_{index}")
        return f"{OPEN}{call['name']} {call['arguments']}{CLOSE if self.reason != 'length' else ''}"

    def _count(self, event: dict[str, Any]) -> int:
        running = (event.get("usage") or {}).get("completion_tokens")
        running = running or (event.get("timings") or {}).get("predicted_n")
        new = max(0, int(running) - self.tokens) if running else 1
        self.tokens += new
        return new


def read_bare_call(source: Iterator[Chunk]) -> Iterator[Chunk]:
    """Take an answer that is a call's JSON and nothing else for that call; hand it on as text if it is none."""
    text = ""
    for chunk in source:
        text += chunk.text
        if not chunk.finish_reason:
            yield replace(chunk, text="")
        elif call := parse_call(text, "call_0"):
            yield replace(chunk, text="", tool_calls=(call,), finish_reason="tool_calls")
        else:
            yield replace(chunk, text=text)


def error_in(event: dict[str, Any]) -> tuple[int, str]:
    """Return the HTTP status that an error event stands for (500, unless it says), and the event as JSON."""
    error = event["error"]
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 500, json.dumps(event, ensure_ascii=False)


def message_of(said: str) -> str:
    """Return the message in OpenAI's error object, or all that was said."""
    try:
        return str(json.loads(said)["error"]["message"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return said.strip()
