"""Send bad keys at a rate until standard input ends; then print how many, in how many seconds, and the statuses.

python key_flood.py PORT RATE       in a process of its own, so that it shares no interpreter with who measures
"""

import asyncio
import json
import sys
import time
from collections import Counter

CONNECTIONS = 8
BODY = b'{"model": "nano", "messages": [{"role": "user", "content": "Let me in"}]}'


async def main(port: int, rate: float) -> None:
    codes, began, numbers = Counter[str](), time.perf_counter(), iter(range(10**9))
    end = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

    async def call() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"Host: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n"
        for number in numbers:
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            if end.done():
                break
            key = f"Authorization: Bearer lk-wrong{number}\r\n"
            writer.write(f"POST /v1/chat/completions HTTP/1.1\r\n{head}{key}\r\n".encode() + BODY)
            told = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(told.lower().split(b"content-length: ")[1].split()[0]))
            codes[told.split()[1].decode()] += 1
        writer.close()

    await asyncio.gather(*(call() for _ in range(CONNECTIONS)))
    print(json.dumps({"codes": codes, "seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
