"""How exactly load recovers the times of a scripted server with 100 streams at once.

    make bench, or: pytest tests/bench/test_load_accuracy.py -s

The server runs in a process of its own and knows how late it was itself. `apart`: streams that speak at different
times. `together`: all speak at once, as those of a server that batches do. Prints; gates nothing.
"""

import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "metrics"))

from scripted_server import script, serving

from labkit.metrics.load import measure

STREAMS, TOKENS, TTFT, ITL, ROUNDS = 100, 64, 0.5, 0.05, 5


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("apart", {"rate": STREAMS / (TTFT + TOKENS * ITL)}),
        ("together", {"concurrency": STREAMS}),
    ],
)
def test_scripted_times_at_100_streams(name: str, plan: dict[str, Any]) -> None:
    with serving() as url:
        prompts = [script(ttft=TTFT, itl=ITL, tokens=TOKENS)]
        record = measure(url, prompts, requests=ROUNDS * STREAMS, warmup=STREAMS // 10, **plan)
        late = httpx.get(f"{url}/late").json()
    true = {"ttft": TTFT, "tpot": ITL, "itl": ITL, "e2el": TTFT + (TOKENS - 1) * ITL}
    print(f"\n{name}: {record.figures['ok']:.0f} requests of {TOKENS} tokens; errors in ms")
    print(f"{'':16}{'scripted':>10}{'median':>10}{'p1':>10}{'p99':>10}")
    for metric, value in true.items():
        errors = 1e3 * (np.array(record.samples[metric]) - value)
        cells = "".join(f"{x:>10.3f}" for x in (np.median(errors), *np.percentile(errors, [1, 99])))
        print(f"{metric:16}{1e3 * value:>10.1f}{cells}")
    for label, values in (("send lag", record.samples["lag"]), ("server's own lag", late)):
        if values:
            cells = "".join(f"{1e3 * x:>10.3f}" for x in np.percentile(values, [50, 1, 99]))
            print(f"{label:16}{'':>10}{cells}")
