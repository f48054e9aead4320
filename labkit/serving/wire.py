"""HTTP/1.1 to model servers, and no more of it than a gateway needs: kept connections, answers as they come.

A general client spends more on each piece of a stream than the gateway does on everything else.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Self, cast
from urllib.parse import SplitResult, urlsplit

import httptools

CONNECT_S = 2.0
IDLE_S = 2.0  # servers close idle connections after 5 s or more, and a request at that moment would be lost
MOST_IDLE = 100
AHEAD = 2**18  # bytes that may wait for somebody who reads slowly


class Wire(asyncio.Protocol):
    """One connection to a server."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.closed = asyncio.get_running_loop().create_future()
        self._news, self.idle_since = asyncio.Event(), 0.0
        self._begin()

    def _begin(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.status, self.headers, self.done, self._stays = 0, dict[str, str](), False, False
        self._came, self._size, self._error = list[bytes](), 0, ""

    @property
    def free(self) -> bool:
        """Return whether it can carry the next request."""
        return self._stays and not self.closed.done()

    async def ask(self, data: bytes) -> Self:
        """Send a request, and wait for status and headers; raise `ConnectionError` if none come."""
        self._begin()
        try:
            self.transport.write(data)
            while not self.status:
                await self._wait()
        except BaseException:
            self.transport.abort()
            raise
        return self

    async def piece(self) -> bytes:
        """Return what came of the body since the last call, nothing at its end; raise `ConnectionError` if torn."""
        while not self._came and not self.done:
            await self._wait()
        piece, self._came = b"".join(self._came), []
        if self._size > AHEAD:
            self.transport.resume_reading()
        self._size = 0
        return piece

    async def read(self) -> bytes:
        """Return the rest of the body."""
        body = b""
        while piece := await self.piece():
            body += piece
        return body

    async def _wait(self) -> None:
        if self._error or self.closed.done():
            raise ConnectionResetError(self._error or "the server hung up")
        self._news.clear()
        await self._news.wait()

    # What asyncio calls:

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        """Read, and stop the server where nobody takes what it sends."""
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            self._error = f"no HTTP: {exc}"
            self.transport.abort()
        if self._size > AHEAD:
            self.transport.pause_reading()
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """End a body whose length nobody told; any other one is torn."""
        told = self.headers.keys() & {"content-length", "transfer-encoding"}
        self.done = self.done or bool(self.status and not told and not exc and not self._error)
        if not self.closed.done():
            self.closed.set_result(None)
        self._news.set()

    # What httptools calls:

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header."""
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Note the status."""
        self.status = self.parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        """Note a piece of the body."""
        self._came.append(data)
        self._size += len(data)

    def on_message_complete(self) -> None:
        """Note the end, and whether the server will take another request."""
        self.done, self._stays = True, self.parser.should_keep_alive()


class Connections:
    """Ask servers over connections that are kept, straight and without a proxy."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, str], list[Wire]] = {}
        self._open: set[Wire] = set()
        self._tls: ssl.SSLContext | None = None

    @asynccontextmanager
    async def ask(
        self, url: str, headers: Mapping[str, str], body: bytes = b""
    ) -> AsyncGenerator[Wire, None]:
        """Post a body, or get; yield the answer when its head is there. Leaving the block early hangs up.

        Raises `ConnectionRefusedError` where nobody answers, other `OSError`s when the connection breaks.
        """
        to = urlsplit(url)
        target = to.path + (f"?{to.query}" if to.query else "")
        lines = [f"{'POST' if body else 'GET'} {target} HTTP/1.1", f"Host: {to.netloc}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += ["Accept-Encoding: identity", f"Content-Length: {len(body)}", "\r\n"]
        wire = await self._send(to, "\r\n".join(lines).encode("ascii") + body)
        try:
            yield wire
        finally:
            idle = self._idle.setdefault((to.scheme, to.netloc), [])
            if wire.free and len(idle) < MOST_IDLE:
                wire.idle_since = time.monotonic()
                idle.append(wire)
            else:
                wire.transport.abort()

    async def _send(self, to: SplitResult, data: bytes) -> Wire:
        """Send a request; once more where a kept connection ends first, as llama.cpp's server does now and then."""
        if kept := self._kept(to):
            with suppress(ConnectionError):
                return await kept.ask(data)
        return await (await self._connect(to)).ask(data)

    def _kept(self, to: SplitResult) -> Wire | None:
        idle = self._idle.get((to.scheme, to.netloc), [])
        while idle:
            wire = idle.pop()
            if wire.free and time.monotonic() - wire.idle_since < IDLE_S:
                return wire
            wire.transport.abort()
        return None

    async def _connect(self, to: SplitResult) -> Wire:
        encrypted = to.scheme == "https"
        if encrypted and self._tls is None:
            import httpx

            self._tls = httpx.create_ssl_context()
        port = to.port or (443 if encrypted else 80)
        connect = asyncio.get_running_loop().create_connection
        try:
            async with asyncio.timeout(CONNECT_S):
                _, wire = await connect(Wire, str(to.hostname), port, ssl=self._tls if encrypted else None)
        except OSError as exc:  # a TimeoutError is one, too
            raise ConnectionRefusedError(str(exc)) from exc
        self._open.add(wire)
        wire.closed.add_done_callback(lambda _: self._forget((to.scheme, to.netloc), wire))
        return wire

    def _forget(self, where: tuple[str, str], wire: Wire) -> None:
        self._open.discard(wire)
        idle = self._idle.get(where, [])
        if wire in idle:
            idle.remove(wire)
        if not idle:
            self._idle.pop(where, None)

    async def aclose(self) -> None:
        """Close every connection."""
        wires = list(self._open)
        for wire in wires:
            wire.transport.abort()
        await asyncio.gather(*(wire.closed for wire in wires))
