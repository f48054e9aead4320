"""A scripted OpenAI server for faults: a test sets `do`, and every request after that is answered so.

It runs in a thread of the test's process, so that a test can change it and look at what it saw.
"""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

WORDS = ["né ", "two ", "three ", "four "]


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def delta(finish: str | None = None, **parts: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": parts, "finish_reason": finish}]}


class Upstream:
    """Serve on loopback in a block. `do`: "", "silent", "hang up", "cut", "end early", "stall", "error event",
    "malformed", "split", "once" (a connection's second request ends it), "slow",
    "tool", "400", "500", "503", "429" (with `retry_after`).

    `asked` holds the bodies of all requests for completions, `active` how many are being answered.
    """

    def __init__(self, name: str = "scripted", model: str = "nano", do: str = "") -> None:
        self.name, self.model, self.do = name, model, do
        self.words, self.pause, self.retry_after = list(WORDS), 0.0, 1.0
        self.asked: list[dict[str, Any]] = []
        self.active = self.port = 0
        self.headers: list[dict[str, str]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def backend(self) -> str:
        """The text form of a backend that asks this server."""
        return f"{self.name}={self.url};model={self.model}"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._up.set()
        await self._end.wait()
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)  # so that the loop closes their sockets

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        asked = 0
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in head[1:-2])
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if asked and self.do == "once":
                    break
                path, asked = head[0].split()[1], asked + 1
                if path.endswith("/models"):
                    self._plain(writer, {"data": [{"id": self.model, "owned_by": "scripted"}]})
                elif path.endswith("/embeddings"):
                    self._plain(writer, self._vectors(json.loads(body)))
                else:
                    self.headers.append(headers)
                    self.asked.append(json.loads(body))
                    await self._watched(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _watched(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer, and stop as soon as the client hangs up, as an engine would."""
        self.active += 1
        answer = asyncio.create_task(self._answer(writer))
        gone = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise ConnectionError
            await answer
        finally:
            for task in (answer, gone):
                task.cancel()
                with suppress(asyncio.CancelledError, ConnectionError):
                    await task
            self.active -= 1

    def _plain(
        self, writer: asyncio.StreamWriter, value: object, status: str = "200 OK", more: str = ""
    ) -> None:
        told = json.dumps(value).encode()
        writer.write(f"HTTP/1.1 {status}\r\n{more}Content-Length: {len(told)}\r\n\r\n".encode() + told)

    def _vectors(self, body: dict[str, Any]) -> dict[str, Any]:
        """A bag of words hashed into 64 numbers: texts that share words are near."""
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        rows = []
        for text in texts:
            vector = [0.0] * 64
            for word in text.lower().split():
                vector[sum(word.encode()) % 64] += 1.0
            rows.append({"embedding": vector})
        return {"data": rows, "usage": {"prompt_tokens": sum(len(text.split()) for text in texts)}}

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        do = self.do
        if do == "silent":
            await asyncio.sleep(3600)
        if do == "hang up":
            return writer.close()
        if do in ("400", "500", "503", "429"):
            more = f"Retry-After: {self.retry_after:g}\r\n" if do == "429" else ""
            return self._plain(writer, {"error": {"message": f"said {do}"}}, f"{do} No", more)
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for place, word in enumerate(self.words):
            if place == len(self.words) // 2 and await self._misbehave(do, writer):
                return
            await self._piece(do, word, writer)
        call = {"index": 0, "id": "call_1", "function": {"name": "light", "arguments": '{"on": true}'}}
        end = delta("tool_calls", tool_calls=[call]) if do == "tool" else delta("stop")
        usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": len(self.words)}}
        self._send(writer, event(end) + event(usage) + b"data: [DONE]\n\n")
        self._send(writer, b"")
        await writer.drain()

    async def _piece(self, do: str, word: str, writer: asyncio.StreamWriter) -> None:
        data = event(delta(content=word))
        if do == "split" and "é".encode() in data:
            cut = data.index("é".encode()) + 1
            self._send(writer, data[:cut])
            await writer.drain()
            await asyncio.sleep(0.02)
            data = data[cut:]
        self._send(writer, data)
        await writer.drain()
        await asyncio.sleep(0.1 if do == "slow" else self.pause)

    async def _misbehave(self, do: str, writer: asyncio.StreamWriter) -> bool:
        if do == "cut":
            writer.close()
        elif do == "end early":
            self._send(writer, b"")
        elif do == "stall":
            await asyncio.sleep(3600)
        elif do == "error event":
            self._send(writer, event({"error": {"message": "out of memory", "code": 500}}))
            self._send(writer, b"")
        elif do == "malformed":
            self._send(writer, b'data: {"choices": [{"delta": {"content"\n\n')
            self._send(writer, event(delta("stop")) + b"data: [DONE]\n\n")
            self._send(writer, b"")
        return do in ("cut", "end early", "stall", "error event", "malformed")

    def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(b"%x\r\n%s\r\n" % (len(data), data))
