"""MCP servers as tools of an agent: connect, read what is offered, approve it, and let the agent call that.

An MCP server is a stranger's program. What it says of its tools reaches the model only if a person approved these
very words; it gets no model, no files and no form for the user; its answers have a deadline and are data. For mcp 2.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TextIO
from urllib.parse import urlsplit

import anyio
import httpx2
import jsonschema  # noqa: F401  the SDK imports it in the first call, whose deadline it would use up
from anyio.from_thread import start_blocking_portal
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer

from labkit.agents.extract import bare
from labkit.agents.tools import CONTROL, Guarded
from labkit.engines.toolschema import NAME, tool_schemas
from labkit.errors import LabkitError, ToolDenied

LOOPBACK, MAX_WORDS = ("127.0.0.1", "localhost", "::1"), 4_000
GRACE_S = 0.5  # after a call's own deadline, in which the server is told
OUTSIDE = re.compile(r'"\$(?:dynamicR|r)ef": "(?!#)')  # whoever checks arguments by such a schema fetches it
Target = StdioServerParameters | str | MCPServer


@dataclass(frozen=True, slots=True)
class Offer:
    """Hold a tool as its server describes it: every word is a stranger's, and meant for the model."""

    name: str
    description: str
    schema: Mapping[str, Any]

    @property
    def words(self) -> str:
        """Return all that a model would read, as JSON with sorted keys."""
        return json.dumps([self.name, self.description, self.schema], sort_keys=True, ensure_ascii=False)

    @property
    def pin(self) -> str:
        """Return the SHA-256 of the words. What the tool does may change without it."""
        return hashlib.sha256(self.words.encode("utf-8", "backslashreplace")).hexdigest()

    def refusal(self, pins: Mapping[str, str]) -> str:
        """Return why this does not reach a model, "" if it may. It finds tricks, not lies."""
        if not NAME.match(self.name):
            return "its name cannot be a tool's"
        if trick := CONTROL.search(self.words) or OUTSIDE.search(self.words):
            return f"its words hold {trick[0]}, which leads out of them"
        if not self.words.isprintable() or len(self.words) > MAX_WORDS:
            return f"its words hide characters, or are too many: {ascii(self.words):.200}"
        if self.name not in pins:
            return "nobody approved it"
        return "" if pins[self.name] == self.pin else "its words have changed since it was approved"


class Connection(ExitStack):
    """Talk to an MCP server: a `StdioServerParameters`, an `http://…/mcp`, or an `MCPServer` of this process.

    `seconds` bounds a request, `start` the beginning. A URL off this machine needs `network=True`; a program runs
    without a network where Linux can cut it (`offline` says whether), and sees a few harmless variables of the
    environment, but all your files. MCP's client is asyncio and an agent's loop is not, so the client has a thread with
    a loop of its own. Close it, or use it in a `with`. Raises `LabkitError` with the reason if there is no server.
    """

    def __init__(
        self, target: Target, *, seconds: float = 10, start: float = 60, network: bool = False
    ) -> None:
        super().__init__()
        if isinstance(target, str) and not network and urlsplit(target).hostname not in LOOPBACK:
            raise ToolDenied(f"{target:.200} is not on this machine", fix="network=True, if it may be")
        self.seconds, self.offline = seconds, False
        if isinstance(target, StdioServerParameters) and not network and (cut := no_network()):
            told = {"command": cut[0], "args": [*cut[1:], target.command, *target.args]}
            target, self.offline = target.model_copy(update=told), True
        log = self.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
        try:
            self._portal = self.enter_context(start_blocking_portal())
            session = session_with(target, seconds, start, log)
            self._client = self.enter_context(self._portal.wrap_async_context_manager(session))
        except Exception as error:
            log.seek(0)
            why = f"{reason(error)} {log.read()[-500:].strip()}"
            self.close()
            raise LabkitError(f"no MCP server at {target!r:.200}: {why}", fix="start it by hand") from error

    def __exit__(self, *_: object) -> bool | None:
        """Close; an error in the `with` is none of the session's, which would wrap it in groups."""
        return super().__exit__(None, None, None)

    def offers(self) -> list[Offer]:
        """Ask the server which tools it has now, and take the first page of them."""
        page = self._ask(self._client.list_tools, cache_mode="bypass")
        return [Offer(tool.name, tool.description or "", tool.input_schema) for tool in page.tools]

    def tools(self, pins: Mapping[str, str], *, asks: Collection[str] = ()) -> list[Guarded]:
        """Return, for `Agent`, the offers whose words are as pinned: `{offer.name: offer.pin}`; some of them `asks`."""
        allowed = [offer for offer in self.offers() if not offer.refusal(pins)]
        told = [{"name": o.name, "description": o.description, "parameters": bare(o.schema)} for o in allowed]
        schemas = tool_schemas([{"type": "function", "function": function} for function in told])
        wait = self.seconds + 1  # the server hears that nobody waits any longer before the agent goes on
        pairs = zip(allowed, schemas, strict=True)
        return [Guarded(partial(self.call, o), wait, asks=o.name in asks, schema=s) for o, s in pairs]

    def refused(self, pins: Mapping[str, str]) -> dict[str, str]:
        """Return why other offers, and pinned tools that are gone, do not reach the model."""
        found = {offer.name: offer.refusal(pins) for offer in self.offers()}
        found = dict.fromkeys(pins, "it is no longer offered") | found
        return {name: why for name, why in found.items() if why}

    def call(self, offer: Offer, /, **arguments: Any) -> str:
        """Call a tool and return its answer as text; raise `ToolDenied` if it is not offered in these words now."""
        if offer not in self.offers():
            raise ToolDenied(f"{offer.name} is not what was approved", fix="read its words again")
        answer = self._ask(self._client.call_tool, offer.name, arguments, self.seconds)
        text = "\n".join(getattr(part, "text", f"[{part.type}]") for part in answer.content)
        if answer.is_error:
            raise LabkitError(text)
        return text

    def _ask(self, method: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        try:
            return self._portal.call(within, self.seconds + GRACE_S, partial(method, *args, **keywords))
        except Exception as error:  # the protocol's, the transport's, pydantic's on an answer that is none
            raise LabkitError(f"the MCP server failed: {reason(error)}") from error


@asynccontextmanager
async def session_with(target: Any, seconds: float, start: float, log: TextIO) -> AsyncIterator[Client]:
    """Open a session without callbacks, with which a server could ask its user, or the user's model."""
    with anyio.fail_after(start) as patience:
        async with AsyncExitStack() as opened:
            if isinstance(target, str):  # straight there, whatever proxy the environment names
                http = await opened.enter_async_context(httpx2.AsyncClient(trust_env=False, timeout=seconds))
                target = streamable_http_client(target, http_client=http)
            elif isinstance(target, StdioServerParameters):
                target = stdio_client(target, log)
            # A program may take long to start, and its first requests wait for that: they get `start`.
            client = await opened.enter_async_context(Client(target, read_timeout_seconds=start))
            patience.deadline = math.inf
            yield client


async def within(seconds: float, ask: Callable[[], Awaitable[Any]]) -> Any:
    """Await a request for so long; raise `TimeoutError` after that."""
    with anyio.fail_after(seconds):
        return await ask()


def reason(error: BaseException) -> str:
    """Return what an error says; of a group of them, what the first one says."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return " ".join((str(error) or type(error).__name__).split())[:500]


@cache
def no_network() -> tuple[str, ...]:
    """Return the command that starts a program without a network, () where this machine has none."""
    command = ("unshare", "--user", "--map-current-user", "--net", "--")
    works = shutil.which("unshare") and not subprocess.run([*command, "true"], capture_output=True).returncode
    return command if works else ()
