"""An OpenAI server whose every request says how it is to be answered. Run in a process of its own, so that it
shares no interpreter lock with the client under test:  python scripted_server.py   prints its port.

The last message is a JSON script: {"ttft": s, "itl": s, "tokens": n, "per_chunk": n, "usage": bool, "key": …,
"do": …}; any other text is answered with as many tokens as it has words.
"""

from __future__ import annotations

import asyncio
import json
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SPIN_S = 0.002
# What really was, s: from a request's arrival to its first chunk, and from each chunk to the next.
WROTE: dict[str, list[float]] = {"ttft": [], "itl": []}
PROMPT_TOKENS = 7


@contextmanager
def serving() -> Iterator[str]:
    """Start the server and yield its URL; it ends with the block."""
    command = [sys.executable, str(Path(__file__))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def script(**changes: Any) -> list[dict[str, str]]:
    """Return the messages that ask for an answer of this kind."""
    return [{"role": "user", "content": json.dumps(changes)}]


async def until(deadline: float) -> None:
    """Return at the deadline (time.perf_counter): a sleep alone may come back a millisecond late."""
    await asyncio.sleep(max(0.0, deadline - time.perf_counter() - SPIN_S))
    while time.perf_counter() < deadline:
        await asyncio.sleep(0)


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def delta(finish: str | None = None, **parts: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": parts, "finish_reason": finish}]}


class Clock(selectors.DefaultSelector):
    """Know when the loop learned of a request, so that reading 100 at once makes none of them seem later."""

    now = before = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(timeout)
        self.before, self.now = self.now, time.perf_counter()
        return ready


CLOCK = Clock()


class Answer:
    """Write one response, chunk by chunk."""

    def __init__(self, plan: dict[str, Any], write: asyncio.StreamWriter, usage: bool) -> None:
        self.plan, self.writer, self.usage = plan, write, usage and plan.get("usage", True)

    def send(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))

    async def run(self, arrived: float) -> None:
        do, tokens = self.plan.get("do", ""), self.plan.get("tokens", 4)
        if do == "silent":
            await asyncio.sleep(3600)
        if do in ("503", "tell key"):
            told = self.plan.get("error", "{}").encode()
            head = b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: %d\r\n\r\n" % len(told)
            return self.writer.write(head + told)
        if do == "hang up":
            return self.writer.close()
        self.writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        if do == "empty first":
            self.send(
                event(delta(role="assistant", content="")) + b": keep-alive\n\n" + event({"choices": []})
            )
        step = self.plan.get("per_chunk", 1)
        before = arrived
        for at, first in enumerate(range(0, tokens, step)):
            await until(arrived + self.plan.get("ttft", 0.0) + at * self.plan.get("itl", 0.0))
            now = time.perf_counter()
            WROTE["itl" if at else "ttft"].append(now - before)
            before = now
            if at == tokens // 2 and await self.misbehave(do):
                return
            await self.chunk(do, "né " * min(step, tokens - first))
        await self.end(do, tokens)

    async def chunk(self, do: str, text: str) -> None:
        if do == "tool call":
            call = {"index": 0, "function": {"name": "light", "arguments": text}}
            return self.send(event(delta(tool_calls=[call])))
        data = event(delta(content=text))
        if do == "split":  # in the middle of "é", which is two bytes
            cut = data.index("é".encode()) + 1
            self.send(data[:cut])
            await asyncio.sleep(0.01)
            data = data[cut:]
        if do == "carriage returns":
            data = data.replace(b"\n", b"\r\n")
        self.send(data)

    async def misbehave(self, do: str) -> bool:
        if do == "cut":
            self.writer.close()
        elif do == "end early":
            self.send(b"")
        elif do == "stall":
            await asyncio.sleep(3600)
        elif do == "error event":
            self.send(event({"error": {"message": "out of memory", "code": 500}}))
            self.send(b"")
        elif do == "malformed":
            self.send(b'data: {"choices": [{"delta": {"content"\n\n')
            self.send(event(delta("stop")) + b"data: [DONE]\n\n")
            self.send(b"")
        return do in ("cut", "end early", "stall", "error event", "malformed")

    async def end(self, do: str, tokens: int) -> None:
        last = b"" if do == "no finish reason" else event(delta("stop"))
        if self.usage:
            last += event(
                {"choices": [], "usage": {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens}}
            )
        self.send(last + (b"" if do == "no done" else b"data: [DONE]\n\n"))
        self.send(b"")


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while not writer.is_closing():
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:-2])
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            arrived = CLOCK.before
            if head[0].startswith("GET"):
                path = head[0].split()[1]
                found: Any = {"data": [{"id": "scripted"}]} if path == "/v1/models" else WROTE
                told = json.dumps(found).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(told), told))
                continue
            asked = json.loads(body)
            said = asked["messages"][-1]["content"]
            plan = json.loads(said) if said.startswith("{") else {"tokens": len(said.split())}
            wants_usage = bool(asked.get("stream_options", {}).get("include_usage"))
            if plan.get("key") and headers.get("authorization") != f"bearer {plan['key']}":
                plan["do"] = "503"
            if plan.get("do") == "tell key":
                plan["error"] = headers.get("authorization", "")
            await Answer(plan, writer, wants_usage).run(arrived)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    waiting = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await waiting  # until the owner is gone


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(CLOCK)) as runner:
        runner.run(main())
