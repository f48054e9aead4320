"""What watching costs: tokens/s with LiveMetrics attached, over tokens/s without, and messages a second on the wire.

    make bench, or: pytest tests/bench/test_live_metrics_cost.py -s

In a real kernel, whose every message to a browser is counted; nano on one thread, in turn watched and not. Prints;
gates nothing.
"""

import json
import queue
import statistics

import pytest
from jupyter_client.manager import start_new_kernel

pytest.importorskip("llama_cpp")

ROUNDS, TOKENS, HERTZ = 8, 4_000, (4, 10)  # 4 pictures a second is the default, 10 the most
CODE = f"""
import json, time
from labkit import load
from labkit.widgets import LiveMetrics

m = load("nano", "llamacpp", threads=1)

def speed():
    began, written = time.perf_counter(), 0
    while written < {TOKENS}:
        written += sum(c.tokens for c in m.stream("Tell me about the sea.", max_tokens=500, ignore_eos=True))
    return written / (time.perf_counter() - began)

speed()
found = {{hertz: [] for hertz in {HERTZ}}}
for _ in range({ROUNDS}):
    for hertz, ratios in found.items():
        alone = speed()
        with LiveMetrics(m, hertz=hertz):
            ratios.append(speed() / alone)
print(json.dumps(found))
"""


def test_watching_costs_little() -> None:
    manager, client = start_new_kernel()
    try:
        client.execute(CODE)
        printed, sent = "", list[float]()
        while True:
            try:
                message = client.get_iopub_msg(timeout=120)
            except queue.Empty:
                pytest.fail("the kernel said nothing for two minutes")
            assert message["msg_type"] != "error", message["content"]["traceback"]
            if message["msg_type"] == "comm_msg":
                sent.append(message["header"]["date"].timestamp())
            if message["msg_type"] == "stream":
                printed += message["content"]["text"]
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    busiest = max(sum(at <= other < at + 1 for other in sent) for at in sent)
    print(f"\nnano, one thread, {ROUNDS} rounds of {TOKENS} tokens")
    for hertz, ratios in json.loads(printed.splitlines()[-1]).items():
        ratio = statistics.median(ratios)
        met = "met" if ratio >= 0.95 else "NOT MET"
        print(f"tokens/s watched / alone, {hertz} pictures a second: {ratio:.3f} (Reach ≥ 0.95: {met})")
    print(f"messages in the busiest second: {busiest} (Reach ≤ 25: {'met' if busiest <= 25 else 'NOT MET'})")
