"""How exactly load recovers the times of a scripted server at 1, 10 and 100 streams, and how it counts broken ones.

    make bench, or: pytest tests/bench/test_load_accuracy.py -s

The server runs in a process of its own, follows an absolute schedule from each request's arrival, and notes when it
really wrote. `apart`: streams that speak at different times. `together`: all are sent, and speak, at once, as with a
server that batches. An error is what load found - what the server wrote. Prints; gates nothing.
"""

import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "metrics"))

from scripted_server import script, serving

from labkit.metrics.load import FATES, measure
from labkit.metrics.request import Server

TOKENS, TTFT, ITL, REACH = 64, 0.5, 0.05, 1e-3
FATE_OF = {
    "": "ok",
    "hang up": "lost",
    "503": "failed",
    "error event": "failed",
    "cut": "cut",
    "end early": "cut",
}


@pytest.mark.parametrize("streams", [1, 10, 100])
@pytest.mark.parametrize("name", ["apart", "together"])
def test_scripted_times(name: str, streams: int) -> None:
    plan: dict[str, Any] = (
        {"rate": streams / (TTFT + TOKENS * ITL)} if name == "apart" else {"concurrency": streams}
    )
    with serving() as url:
        prompts = [script(ttft=TTFT, itl=ITL, tokens=TOKENS)]
        record = measure(url, prompts, requests=max(4, 3 * streams), warmup=0, **plan)
        wrote = httpx.get(f"{url}/wrote").json()
    print(f"\n{name}, {streams} streams: {record.figures['ok']:.0f} requests of {TOKENS} tokens; times in ms")
    print(f"{'':12}{'script':>10}{'written':>10}{'found':>10}{'error':>10}   Reach ± {1e3 * REACH:g}")
    for metric, scripted in {"ttft": TTFT, "itl": ITL}.items():
        for label, percent in (("median", 50), ("p95", 95)):
            true, found = (
                float(np.percentile(many, percent)) for many in (wrote[metric], record.samples[metric])
            )
            cells = "".join(f"{1e3 * x:>10.3f}" for x in (scripted, true, found, found - true))
            met = abs(found - true) <= REACH and abs(found - scripted) <= REACH
            print(
                f"{metric:5}{label:7}{cells}   {'met, also against the script' if met else _verdict(found, true)}"
            )
    if record.samples["lag"]:
        print(f"{'send lag':12}{1e3 * float(np.percentile(record.samples['lag'], 95)):>40.3f}   (p95)")


def _verdict(found: float, true: float) -> str:
    return "met; the server itself was late" if abs(found - true) <= REACH else "NOT MET"


def test_streams_that_break_are_counted() -> None:
    asked = [do for do in FATE_OF for _ in range(50)]
    with serving() as url:
        prompts = [script(do=do, ttft=0.1, itl=0.02, tokens=8) for do in asked]
        record = measure(url, prompts, requests=len(asked), concurrency=100, warmup=0)
    with socket.socket() as taken:  # bound, so that nobody else answers there; not listening
        taken.bind(("127.0.0.1", 0))
        nobody = Server.find(f"http://127.0.0.1:{taken.getsockname()[1]}", "nobody")
        refused = measure(nobody, prompts[:1], requests=100, concurrency=100, warmup=0)
    sent = Counter(FATE_OF[do] for do in asked)
    print(f"\n{'':12}{'ok':>8}{'lost':>8}{'failed':>8}{'cut':>8}     100 streams at once")
    for label, want, seen in (("mixed", sent, record), ("refused", Counter(lost=100), refused)):
        counted = Counter({fate: int(seen.figures[fate]) for fate in FATES})
        cells = "".join(f"{want[fate]:>4}→{counted[fate]:<3}" for fate in FATES)
        print(f"{label:12}{cells}     {'met' if +counted == want else 'NOT MET'}")
