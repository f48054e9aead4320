"""Two real servers on nano, one of them killed again and again, and nobody's request is lost.

`make test-heavy` sends REQUESTS; with LABKIT_LONG=1 the full 10,000 are sent.
"""

import asyncio
import json
import os
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from running_gateway import HELLO, Running, running

FULL = os.environ.get("LABKIT_LONG") == "1"
REQUESTS = 10_000 if FULL else 1_500
CALLERS, KILL_EVERY_S = 16, 5.0
BACKENDS = [f"{name}=llamaserver;model=nano;threads=1;slots=8" for name in ("a", "b")]


@dataclass(frozen=True)
class Fate:
    """Hold what a caller saw: the answer's id, "ok", "error" or "broken and flagged", else what is wrong."""

    id: str
    end: str
    seconds: float


async def ask(http: httpx.AsyncClient, number: int) -> Fate:
    """Ask once, every other time for a stream; whatever comes is told."""
    began, stream = time.perf_counter(), number % 2 == 1
    messages = [{"role": "user", "content": f"Request {number}: tell me about the sea."}]
    body = HELLO | {"messages": messages, "stream": stream, "max_tokens": 24, "ignore_eos": True}
    try:
        response = await http.post("/v1/chat/completions", json=body)
    except httpx.HTTPError as error:
        return Fate("", f"no final status: {type(error).__name__}", time.perf_counter() - began)
    id, end = _streamed(response.text) if stream and response.is_success else _whole(response)
    return Fate(id, end, time.perf_counter() - began)


def _whole(response: httpx.Response) -> tuple[str, str]:
    told = response.json()
    if response.is_success:
        return told["id"], "ok" if told["usage"]["completion_tokens"] == 24 else "too short"
    return "", "error" if told["error"]["message"] else "an error without words"


def _streamed(text: str) -> tuple[str, str]:
    data = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    events = [json.loads(one) for one in data if one != "[DONE]"]
    ids = {event["id"] for event in events if "id" in event}
    ends = [c["finish_reason"] for event in events for c in event.get("choices", ()) if c["finish_reason"]]
    if len(ids) != 1:
        return "", f"{len(ids)} answers in one"
    if any("error" in event for event in events):
        return ids.pop(), "broken and flagged" if data[-1] != "[DONE]" and not ends else "broken, yet [DONE]"
    return ids.pop(), "ok" if data[-1] == "[DONE]" and len(ends) == 1 else "broken without a word"


async def send(url: str) -> list[Fate]:
    numbers, fates = iter(range(REQUESTS)), list[Fate]()

    async def caller(http: httpx.AsyncClient) -> None:
        for number in numbers:
            fates.append(await ask(http, number))

    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as http:
        await asyncio.gather(*(caller(http) for _ in range(CALLERS)))
    return fates


def kill_in_turn(box: Running, stop: threading.Event, killed: list[str]) -> None:
    """Kill one of the two servers every five seconds, if both are up: SIGKILL, which nothing can catch."""
    nodes = box.gateway.pool.nodes
    while not stop.is_set():
        name = "ab"[len(killed) % 2]
        if all(node.up for node in nodes.values()) and (process := nodes[name].process):
            process.kill()
            killed.append(name)
        stop.wait(KILL_EVERY_S)


@pytest.mark.heavy
@pytest.mark.timeout(3600)
def test_nothing_is_lost_while_one_of_two_servers_is_killed_every_five_seconds(tmp_path: Path) -> None:
    changes = {"cache": "off", "requests_per_minute": 0, "tokens_per_day": 0, "slots": CALLERS, "wait": 60.0}
    with running(tmp_path / "state", *BACKENDS, **changes) as box:
        calm = asyncio.run(send(box.url))
        stop, killed = threading.Event(), list[str]()
        killer = threading.Thread(target=kill_in_turn, args=(box, stop, killed))
        killer.start()
        try:
            storm = asyncio.run(send(box.url))
        finally:
            stop.set()
            killer.join()
    p99 = [float(np.percentile([fate.seconds for fate in run], 99)) for run in (calm, storm)]
    ends = Counter(fate.end for fate in storm)
    print(f"\n{len(killed)} kills: {dict(ends)}")
    print(f"p99 {p99[0]:.2f} s calm, {p99[1]:.2f} s under fire: × {p99[1] / p99[0]:.2f} (Reach ≤ 3)")
    assert Counter(fate.end for fate in calm) == {"ok": REQUESTS}
    assert killed and ends.total() == REQUESTS and set(ends) <= {"ok", "error", "broken and flagged"}
    answered = [fate.id for fate in calm + storm if fate.id]
    assert len(set(answered)) == len(answered)  # nobody got the answer of another, and none came twice
    lines = [
        json.loads(line) for line in (tmp_path / "state" / "audit.jsonl").read_text("utf-8").splitlines()
    ]
    chats = [line for line in lines if line["route"] == "/v1/chat/completions"]
    assert len(chats) == len({line["id"] for line in chats}) == 2 * REQUESTS
    good = {fate.id for fate in calm + storm if fate.end == "ok"}
    assert {line["id"] for line in chats if line["status"] == 200} == good
