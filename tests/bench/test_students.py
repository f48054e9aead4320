"""How many students one box bears: thirty for ten minutes, then twice as many until the knee. Prints; gates nothing.

    make bench, or: pytest tests/bench/test_students.py -s
    LABKIT_LONG=1 takes the full ten minutes; LABKIT_SECONDS=150, say, takes as long as there is time for

A student asks once in 30 seconds, at a moment drawn by chance, for a chat with a tool described in its prompt, and gets
150 tokens. labkit's gateway runs with keys, quotas, audit log and metrics before llama.cpp's server on nano.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labkit.engines.process import free_port
from labkit.engines.toolschema import tool_schemas
from labkit.metrics.load import knee, measure, saturate
from labkit.metrics.load_table import steps_table
from labkit.metrics.request import Server
from labkit.serving.endpoint import start_gateway
from labkit.serving.keys import Keys
from labkit.serving.simulation import replay
from labkit.serving.sizing import class_trace
from labkit.serving.speed import Speed

SECONDS = int(os.environ.get("LABKIT_SECONDS") or (600 if os.environ.get("LABKIT_LONG") == "1" else 60))
STUDENTS, EVERY_S, TOKENS, TARGET_S = 30, 30.0, 150, 1.0
CHAT: dict[str, Any] = {"max_tokens": TOKENS, "ignore_eos": True, "timeout": 300.0}


def get_weather(city: str) -> str:
    """Get the current weather in a city."""
    return city


TOOLS = json.dumps(tool_schemas([get_weather]))
PROMPTS = [
    [
        {"role": "system", "content": f"You may call these tools: {TOOLS}"},
        {"role": "user", "content": f"What is the weather in {city}?"},
    ]
    for city in ("Paris", "Kyoto", "Lagos", "Quito", "Oslo", "Perth", "Cairo")
]


def test_thirty_students_and_then_more(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="llamaserver is not installed: pip install 'labkit[llamaserver]'")
    keys = Keys(tmp_path / "keys.sqlite")
    key = keys.add("a class", requests=10**6, tokens=10**9)[1]
    keys.close()
    settings = {
        "port": free_port(),
        "state": tmp_path,
        "keys": True,
        "cache": "off",
        "queue": 1000,
        "wait": 120,
    }
    gateway, url = start_gateway("box=llamaserver;model=nano;slots=8", **settings)
    try:
        box, rate = Server(f"{url}/v1", "nano", key), STUDENTS / EVERY_S
        runs = [measure(box, PROMPTS, concurrency=n, requests=6 * n, **CHAT) for n in (1, 2, 4, 8)]
        seen = measure(box, PROMPTS, rate=rate, requests=round(rate * SECONDS), **CHAT)
        steps = list(saturate(box, PROMPTS, rate=2 * rate, requests=60, target_ttft=TARGET_S, **CHAT))
    finally:
        gateway.stop()
    speed, p95 = Speed.of(runs), float(np.percentile(seen.samples["ttft"], 95))
    simulated = replay(class_trace(STUDENTS, EVERY_S, SECONDS), speed).p95
    met = "met" if p95 <= TARGET_S else "NOT MET"
    print(f"\n{STUDENTS} students for {SECONDS} s: TTFT p95 {p95:.3f} s, simulated {simulated:.3f} s")
    print(f"Reach ≤ {TARGET_S:g} s: {met}")
    print(steps_table(steps, knee(steps)))
    last = knee(steps)
    if last:
        print(f"That is a class of {last.about['settings']['rate'] * EVERY_S:,.0f} students.")
