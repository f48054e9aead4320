"""A model server for the gateways' bench that costs next to nothing: it says the same words to everybody, at once or as
a stream of one word each 10 ms. In a process of its own: python gateway_upstream.py   prints its port.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WORDS = [f"word{n} " for n in range(32)]
GAP_S = 0.01
USAGE = {"prompt_tokens": 5, "completion_tokens": len(WORDS), "total_tokens": 5 + len(WORDS)}
HEAD = {"id": "chatcmpl-1", "created": 1, "model": "nano"}


def whole() -> bytes:
    message = {"role": "assistant", "content": "".join(WORDS)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE}
    return respond(json.dumps(body).encode())


def respond(data: bytes) -> bytes:
    kind = b"Content-Type: application/json"
    return b"HTTP/1.1 200 OK\r\n%s\r\nContent-Length: %d\r\n\r\n%s" % (kind, len(data), data)


def event(choices: list[object], **more: object) -> bytes:
    told = {**HEAD, "object": "chat.completion.chunk", "choices": choices, **more}
    return chunk(b"data: " + json.dumps(told).encode() + b"\n\n")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def stream(writer: asyncio.StreamWriter, gap: float) -> None:
    kind = b"Content-Type: text/event-stream"
    writer.write(b"HTTP/1.1 200 OK\r\n%s\r\nTransfer-Encoding: chunked\r\n\r\n" % kind)
    for word in WORDS:
        writer.write(
            event([{"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}])
        )
        await asyncio.sleep(gap)
    writer.write(event([{"index": 0, "delta": {}, "finish_reason": "stop"}]) + event([], usage=USAGE))
    writer.write(chunk(b"data: [DONE]\n\n") + chunk(b""))


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:-2])
            asked = await reader.readexactly(int(headers.get("content-length", 0)))
            if head[0].startswith("get"):
                writer.write(respond(b'{"object": "list", "data": [{"id": "nano", "object": "model"}]}'))
                continue
            body = json.loads(asked)
            # A gateway may ask for a stream where its client asked for none: then the words come at once.
            slow = body["messages"][-1]["content"].startswith("slowly")
            await stream(writer, GAP_S if slow else 0.0) if body.get("stream") else writer.write(whole())
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


@contextmanager
def upstream() -> Iterator[str]:
    """Start the server and yield its URL up to /v1; it ends with the block."""
    command = [sys.executable, str(Path(__file__))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until the owner is gone


if __name__ == "__main__":
    asyncio.run(main())
