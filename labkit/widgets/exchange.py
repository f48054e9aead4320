"""A conversation with tools, without a view: turns until the model calls no tool, events of it, a way to stop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from threading import Event as Flag
from typing import Any

from labkit.agents.tools import Guarded, failed
from labkit.engines.base import Model
from labkit.errors import OptionInvalid
from labkit.metrics.trace import Event
from labkit.models.store import home, storage_errors
from labkit.types import Chunk, GenerationOptions, Message, Reply, TokenScore, ToolCall

MAX_ROUNDS = 4


class Exchange:
    """Keep `messages`, and of the last exchange its `trace` and its last `reply`."""

    def __init__(
        self,
        model: Model,
        tools: Sequence[Callable[..., Any] | Guarded],
        system: str,
        options: GenerationOptions,
    ) -> None:
        self.model, self.options = model, options
        made = [tool if isinstance(tool, Guarded) else Guarded(tool) for tool in tools]
        self.tools = {tool.name: tool for tool in made}
        self.schemas = [tool.schema for tool in made]
        self.messages: list[Message] = [{"role": "system", "content": system}] if system else []
        self.reply: Reply | None = None
        self.trace = Event("run", "chat", 0.0, 0.0)
        self._began, self._events = 0.0, list[Event]()

    def answer(self, stopping: Flag, show: Callable[[str | None], object]) -> Reply:
        """Answer the last message, calling tools; `show` gets the text of a turn as it grows, None at its end."""
        self._began, self._events = time.perf_counter(), []
        question = self.messages[-1]["content"]
        try:
            for _ in range(MAX_ROUNDS):
                self.reply = reply = self._turn(stopping, show)
                if stopping.is_set() or not reply.tool_calls:
                    break
                for call in reply.tool_calls:
                    self._call(call)
            return reply
        finally:
            self.trace = Event("run", "chat", 0.0, self._now(), text=question, children=tuple(self._events))

    def forget_answer(self) -> bool:
        """Take back what came after the last question; return whether there is one."""
        asked = [place for place, message in enumerate(self.messages) if message["role"] == "user"]
        del self.messages[asked[-1] + 1 if asked else len(self.messages) :]
        return bool(asked)

    def record(self, verdict: str) -> Path:
        """Append a verdict on the last answer to a file of JSON lines under LABKIT_HOME; return its path."""
        self._last_answer("judge")
        model, path = self.model, home() / "verdicts.jsonl"
        about = {"model": model.card.alias, "level": model.variant, "engine": model.engine.name}
        line = {"when": time.time(), "verdict": verdict, **about, "messages": self.messages}
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        return path

    def _last_answer(self, verb: str) -> str:
        last = self.messages[-1] if self.messages else {}
        if last.get("role") != "assistant" or not last["content"]:
            raise OptionInvalid(f"there is no answer to {verb}", fix="send a message first")
        return str(last["content"])

    def token_scores(self) -> list[TokenScore]:
        """Return each token of the last answer with its log-probability after all that was said before it."""
        engine, answer = self.model.engine, self._last_answer("score")
        template = getattr(engine, "template", None)
        if not (engine.score and engine.logits and template):
            raise OptionInvalid(
                f"{engine.name} gives no token probabilities", fix="load(…, engine='llamacpp')"
            )
        prompt = template.render(self.messages[:-1], self.schemas or None)
        return self.model.score(prompt + answer)[len(self.model.tokenize(prompt)) :]

    def _turn(self, stopping: Flag, show: Callable[[str | None], object]) -> Reply:
        start, chunks, said = self._now(), list[Chunk](), ""
        stream = self.model.stream(self.messages, tools=self.schemas, options=self.options)
        show("")
        with closing(stream):  # a stream that is closed stops its engine
            for chunk in stream:
                chunks.append(chunk)
                if stopping.is_set():
                    break
                if chunk.text:
                    said += chunk.text
                    show(said)
        reply = self.model.reply_of(chunks)
        cut = {"role": "assistant", "content": reply.text}  # a call that is not carried out is not kept
        self.messages.append(cut if stopping.is_set() else reply.message)
        self._events.append(Event("model", reply.model, start, reply.timing.total, reply.usage, str(reply)))
        show(None)
        return reply

    def _call(self, call: ToolCall) -> None:
        start, tool = self._now(), self.tools.get(call.name)
        why = "; ".join(tool.problems(call.arguments)) if tool else f"no tool named {call.name}"
        if tool and tool.asks:
            why = "a chat has nobody who approves calls"
        text = (failed(why) if why or not tool else tool.start(call.arguments)()).text
        self.messages.append({"role": "tool", "tool_call_id": call.id, "content": text})
        self._events.append(Event("tool", call.name, start, self._now() - start, text=f"{call} → {text}"))

    def _now(self) -> float:
        return time.perf_counter() - self._began
