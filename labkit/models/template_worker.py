"""The Jinja sandbox of chat templates, and the child process that renders the untrusted ones.

Run as a script it reads requests and writes answers, one JSON object a line. It imports nothing of labkit, so
that it starts quickly and a template that breaks out finds little. `template.py` is its only caller.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_OUTPUT = 2**20
MEMORY_BYTES = 512 * 2**20
CPU_SECONDS = 2


class Generation(Extension):
    """Accept `{% generation %}`, which marks a model's own text for training, as if it were not there."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return what stands between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Sandbox(ImmutableSandboxedEnvironment):
    """Refuse an unsafe attribute at once, where Jinja would go on with an undefined value."""

    def unsafe_undefined(self, obj: Any, attribute: str) -> NoReturn:
        """Raise instead of returning a placeholder."""
        raise SecurityError(f"{attribute!r} of a {type(obj).__name__} is out of bounds")


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON as Hugging Face's `tojson` filter does: not escaped for HTML, keys in their order."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def raise_exception(message: str) -> NoReturn:
    """Let a template refuse its input."""
    raise TemplateError(message)


def strftime_now(layout: str) -> str:
    """Return the local time in a layout."""
    return datetime.now().strftime(layout)


@lru_cache(maxsize=8)
def compiled(source: str) -> Template:
    """Compile a template the way Hugging Face does."""
    sandbox = Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation]
    )
    sandbox.filters["tojson"] = to_json
    sandbox.globals.update(raise_exception=raise_exception, strftime_now=strftime_now)
    return sandbox.from_string(source)


def render(source: str, values: Mapping[str, Any], most: int) -> str:
    """Render a template; raise `TemplateError` once it has written more than `most` characters."""
    pieces, length = [], 0
    for piece in compiled(source).generate(**values):
        length += len(piece)
        if length > most:
            raise TemplateError(f"it writes more than {most:,} characters")
        pieces.append(piece)
    return "".join(pieces)


def explain(error: Exception) -> str:
    """Put an error in one short line."""
    if isinstance(error, MemoryError):
        return "it asks for too much memory"
    line = getattr(error, "lineno", None)
    return (str(error) or type(error).__name__)[:300] + (f" (line {line})" if line else "")


def limit(name: str, soft: int, hard: int | None = None) -> None:
    """Set a resource limit where this system has it."""
    if sys.platform == "win32":
        return
    import resource

    try:
        kind = getattr(resource, name)
        resource.setrlimit(kind, (soft, resource.getrlimit(kind)[1] if hard is None else hard))
    except (AttributeError, ValueError, OSError):
        pass  # a lower limit is already in force, or this system has none: the caller's deadline remains


def answer(line: bytes) -> dict[str, str]:
    """Render one request, whatever it does."""
    try:
        request = json.loads(line)
        return {"text": render(request["source"], request["values"], MAX_OUTPUT + len(line))}
    except Exception as error:  # a template can raise anything; the caller gets one line
        return {"error": explain(error)}


def main() -> None:
    """Answer requests until the caller closes the pipe."""
    limit("RLIMIT_CORE", 0, 0)
    limit("RLIMIT_AS", MEMORY_BYTES, MEMORY_BYTES)
    reply = sys.stdout.buffer
    reply.write(b"{}\n")
    reply.flush()
    for line in sys.stdin.buffer:
        # Should the caller die during an endless loop, this ends it.
        limit("RLIMIT_CPU", int(time.process_time()) + CPU_SECONDS)
        reply.write(json.dumps(answer(line)).encode() + b"\n")
        reply.flush()


if __name__ == "__main__":
    main()
