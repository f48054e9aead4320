"""What labkit's gateway costs beside LiteLLM's proxy, on this machine in one run. Prints a table; gates nothing.

    make bench, or: pytest tests/bench/test_gateway.py -s

Added latency is a percentile of the time through the gateway minus that of the time straight to the model server,
which costs next to nothing; it and the gateways take turns. labkit runs with keys, quotas, audit log and metrics,
LiteLLM with one key. The client speaks HTTP over plain sockets in this process, the same for all.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from gateway_peers import NAMES, Peer, peer
from gateway_upstream import WORDS, upstream

ROUNDS = 5
SEQUENTIAL, AT_TEN, STREAMS, STREAMED = 250, 400, 16, 64  # requests a round; the last two: at once, in all
PEAK_CALLERS, PEAK_REQUESTS = (16, 32, 64), 2000
DIRECT = "straight"
REACH = {
    "added p50, sequential [ms]": 0.5,
    "added p99, sequential [ms]": 0.5,
    "added p50, 10 at once [ms]": 0.33,
    "added p99, 10 at once [ms]": 0.33,
    "added TTFT p50, 16 streams [ms]": 0.25,
    "peak [requests/s]": 3.0,
    "memory after that [MB]": 0.15,
    "cold start [s]": 0.15,
}


def request(url: str, key: str, stream: bool) -> tuple[str, int, bytes]:
    """Return host, port and the bytes of a request for a chat."""
    place, said = urlsplit(url), "slowly, please" if stream else "at once, please"
    body = json.dumps(
        {"model": "nano", "stream": stream, "messages": [{"role": "user", "content": said}]}
    ).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    return str(place.hostname), int(place.port or 80), head.encode() + body


async def answer(reader: asyncio.StreamReader) -> tuple[float, bytes]:
    """Read one answer; return when its first words were there, and its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert head.split()[1] == b"200", head
    if b"content-length:" in head:
        length = int(head.split(b"content-length:")[1].split()[0])
        return time.perf_counter(), await reader.readexactly(length)
    body, first = b"", 0.0
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
        first = first or (time.perf_counter() if b"word0" in body else 0.0)
    await reader.readexactly(2)
    return first, body


def said(body: bytes) -> str:
    """Return the text of an answer, of a whole one or of a stream."""
    if not body.startswith((b"data:", b":")):
        return str(json.loads(body)["choices"][0]["message"]["content"])
    lines = (line[5:].strip() for line in body.decode().splitlines() if line.startswith("data:"))
    events = [json.loads(line) for line in lines if line != "[DONE]"]
    return "".join(c["delta"].get("content") or "" for event in events for c in event.get("choices", ()))


async def ask(
    asked: tuple[str, int, bytes], requests: int, callers: int
) -> tuple[list[float], list[float], float]:
    """Ask so many times on so many connections; return TTFTs and whole times in seconds, and requests/s."""
    host, port, data = asked
    left, firsts, times = iter(range(requests)), list[float](), list[float]()

    async def call() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        for _ in left:
            began = time.perf_counter()
            writer.write(data)
            first, body = await answer(reader)
            times.append(time.perf_counter() - began)
            firsts.append(first - began)
            assert said(body) == "".join(WORDS), body  # every token, once, in order
        writer.close()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(call())
    return firsts, times, requests / (time.perf_counter() - began)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], list[Peer]]]:
    """The model server and both gateways, started one after the other: addresses, and the gateways."""
    with ExitStack() as stack:
        url = stack.enter_context(upstream())
        peers = [stack.enter_context(peer(n, url, Path(tmp_path_factory.mktemp(n)))) for n in NAMES]
        yield {DIRECT: url.removesuffix("/v1")} | {p.name: p.url for p in peers}, peers


def test_beside_litellm(places: tuple[dict[str, str], list[Peer]]) -> None:
    urls, peers = places
    keys = {DIRECT: "none"} | {p.name: p.key for p in peers}
    found: dict[str, dict[str, float]] = {name: {} for name in NAMES}
    for what, stream, callers, requests in (
        ("sequential", False, 1, SEQUENTIAL),
        ("10 at once", False, 10, AT_TEN),
        ("16 streams", True, STREAMS, STREAMED),
    ):
        times: dict[str, list[float]] = {name: [] for name in urls}
        for at in range(ROUNDS + 1):
            for name in urls:  # taking turns, so that what else the machine does meets all of them
                firsts, wholes, _ = asyncio.run(
                    ask(request(urls[name], keys[name], stream), requests, callers)
                )
                times[name] += (firsts if stream else wholes) if at else []  # the first round warms up
        for name in NAMES:
            for q in (50,) if stream else (50, 99):
                added = np.percentile(times[name], q) - np.percentile(times[DIRECT], q)
                found[name][f"added {'TTFT ' if stream else ''}p{q}, {what} [ms]"] = 1e3 * float(added)
    for one in peers:
        asked = request(urls[one.name], one.key, False)
        speeds = [asyncio.run(ask(asked, PEAK_REQUESTS, callers))[2] for callers in PEAK_CALLERS]
        found[one.name] |= {"peak [requests/s]": max(speeds), "memory after that [MB]": one.rss / 1e6}
        found[one.name]["cold start [s]"] = one.cold_start
    show(found)


def show(found: dict[str, dict[str, float]]) -> None:
    print(f"\n{'':34}{NAMES[0]:>12}{NAMES[1]:>12}{'ratio':>9}{'reach':>9}")
    for figure, reach in REACH.items():
        own, other = (found[name][figure] for name in NAMES)
        ratio, sign = own / other, "≥" if figure.startswith("peak") else "≤"
        met = ratio >= reach if sign == "≥" else ratio <= reach
        print(
            f"{figure:34}{own:12.2f}{other:12.2f}{ratio:9.3f}  {sign} {reach:g}{'' if met else '  NOT MET'}"
        )
