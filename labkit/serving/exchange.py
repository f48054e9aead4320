"""What is noted about one request: its line in the audit log, and whether a model's calls could be used."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.serving.audit import Audit
from labkit.serving.keys import User
from labkit.serving.router import Tried
from labkit.serving.telemetry import Request
from labkit.types import Chunk, ToolCall

QUIET = ("/health", "/ready", "/metrics", "/")  # asked every few seconds, and no business of an audit
KINDS: dict[str, Any] = {"string": str, "integer": int, "number": int | float, "array": list, "object": dict}


@dataclass(slots=True)
class Bill:
    """Count what an answer costs: `paid` in advance, 0 from the cache; only what was delivered is charged."""

    paid: int = 0
    delivered: int = 0
    last: Chunk = field(default_factory=Chunk)

    def add(self, chunk: Chunk) -> None:
        """Count a chunk that goes out."""
        self.delivered, self.last = self.delivered + chunk.tokens, chunk

    @property
    def used(self) -> int:
        """Return the tokens that are charged: a whole answer's are counted by its engine."""
        return self.last.usage.total_tokens if self.last.usage else self.delivered

    @property
    def told(self) -> dict[str, Any]:
        """Return what the audit log is told."""
        usage = self.last.usage
        prompt, written = (usage.prompt_tokens, usage.completion_tokens) if usage else (None, self.delivered)
        return {"prompt_tokens": prompt, "completion_tokens": written}


class Exchange:
    """Accompany one request from its arrival to its line in the audit log."""

    def __init__(self, audit: Audit, seen: Request, user: User, route: str) -> None:
        self.audit, self.seen, self.user, self.route = audit, seen, user, route
        self.id, self.at = f"chatcmpl-{secrets.token_hex(12)}", time.time()
        self.told: dict[str, Any] = {}
        self.trail: list[Tried] = []
        self.ended = False

    def end(self, status: int) -> None:
        """Count it and write its line; later calls change nothing."""
        if self.ended:
            return
        self.ended = True
        self.seen.end(status)
        if self.route in QUIET:
            return
        tried = [[tried.backend, tried.outcome] for tried in self.trail]
        times = {"ttft": self.seen.ttft or None, "total": time.time() - self.at}
        head = {"at": self.at, "id": self.id, "user": self.user.id, "route": self.route, "status": status}
        write = self.audit.write_stranger if status == 401 else self.audit.write
        write({**head, **times, **({"tried": tried} if tried else {}), **self.told})


def outcome(call: ToolCall, offered: Mapping[str, Any]) -> str:
    """Return "ok", "unknown" (no such tool) or "invalid": an argument is missing or of the wrong type at its top level.

    A whole JSON schema is not checked here, on the way of every answer: agents do that before they call.
    """
    if call.name not in offered:
        return "unknown"
    schema = offered[call.name] or {}
    properties = schema.get("properties") or {}
    kinds = {
        name: KINDS.get(str(properties[name].get("type"))) for name in call.arguments if name in properties
    }
    wrong = any(kind and not isinstance(call.arguments[name], kind) for name, kind in kinds.items())
    missing = set(schema.get("required") or ()) - call.arguments.keys()
    return "invalid" if wrong or missing else "ok"
