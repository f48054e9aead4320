"""Middleware for Agent Framework: what stands between an agent, its tools and its model.

Written for agent-framework-core 1.23. Middleware runs in the order of the list: the first sees a call first.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent_framework import (
    ChatContext,
    ChatMiddleware,
    FunctionInvocationContext,
    FunctionMiddleware,
    FunctionTool,
    Message,
)

Next = Callable[[], Awaitable[None]]
# What a rule says to a call: nothing (go on), a reason (refuse it), or other arguments (replace them).
Rule = Callable[[str, dict[str, Any]], str | Mapping[str, Any] | None]
MAX_RESULT_CHARS = 500
SAID = ("text", "arguments", "result")  # the parts of a message that hold words of people, tools and models


class Audit(FunctionMiddleware):
    """Write one JSON line for every call of a tool, the refused and the failed ones too. Put it first in the list."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    async def process(self, context: FunctionInvocationContext, call_next: Next) -> None:
        """Let the call go on, and write down what came of it."""
        began, error = time.perf_counter(), ""
        try:
            await call_next()
        except BaseException as exc:
            error = f"{type(exc).__name__}: {exc}"
            raise
        finally:
            self._write(context, time.perf_counter() - began, error)

    def _write(self, context: FunctionInvocationContext, seconds: float, error: str) -> None:
        result = "" if error else "".join(str(c.text) for c in FunctionTool.parse_result(context.result))
        row = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "session": context.session.session_id if context.session else None,
            "tool": context.function.name,
            "arguments": dict(context.arguments),
            "result": result[:MAX_RESULT_CHARS],
            "error": error,
            "seconds": round(seconds, 6),
        }
        line = json.dumps(row, ensure_ascii=False, default=str) + "\n"
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "ab", buffering=0) as file:  # one write: lines of two processes do not mix
            file.write(line.encode())

    def rows(self) -> list[dict[str, Any]]:
        """Return what was written so far."""
        return [json.loads(line) for line in self.path.read_text("utf-8").splitlines()]


class Guard(FunctionMiddleware):
    """Look at every call before it runs. The model reads a refusal as the tool's result, with its reason."""

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules

    async def process(self, context: FunctionInvocationContext, call_next: Next) -> None:
        """Ask the rules in turn; the call of a tool whose rule fails does not run."""
        for rule in self.rules:
            verdict = rule(context.function.name, dict(context.arguments))
            if isinstance(verdict, str) and verdict:
                context.result = f"Refused: {verdict}"
                return
            if isinstance(verdict, Mapping):
                context.arguments = dict(verdict)
        await call_next()


class Mask(ChatMiddleware):
    """Replace what matches a pattern in everything a model reads: users' words, tools' results, its own answers."""

    def __init__(self, pattern: str, by: str) -> None:
        self.pattern, self.by = re.compile(pattern), by

    async def process(self, context: ChatContext, call_next: Next) -> None:
        """Give the model masked copies; the session keeps what was really said."""
        context.messages = [self._copy(message) for message in context.messages]
        await call_next()

    def _copy(self, message: Message) -> Message:
        return Message.from_dict(self._masked(message.to_dict(), said=False))

    def _masked(self, value: Any, said: bool) -> Any:
        if isinstance(value, dict):
            return {key: self._masked(each, said or key in SAID) for key, each in value.items()}
        if isinstance(value, list):
            return [self._masked(each, said) for each in value]
        return self.pattern.sub(self.by, value) if said and isinstance(value, str) else value
