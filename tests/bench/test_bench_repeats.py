"""Does the interval that `labkit compare` prints hold what chance does? The same bench 41 times, each beside the next.

    make bench, or: pytest tests/bench/test_bench_repeats.py -s

Nothing differs between two runs, so a ratio of 1 should lie within the 95 % interval in about 95 % of the 40 pairs, and
in 90 % at least. Each run is a process of its own, as two runs of `labkit bench` are. The last column says how many
times as much the means of runs differ as the samples within a run let one expect. Prints; gates nothing.
"""

import statistics
from itertools import pairwise

import pytest

pytest.importorskip("llama_cpp")

from labkit.metrics.probes import loaded_machine
from labkit.metrics.records import Record, compare
from labkit.metrics.sweep import run_point

PAIRS, REACH = 40, 0.9
POINT = {
    "name": "nano", "engine": "llamacpp", "variant": "Q4_K_M", "prompt": 128, "generate": 32, "repeat": 5, "threads": 1,
}  # fmt: skip
TIMED = ("pp", "tg", "ttft", "tpot", "itl", "e2el")


def test_two_runs_differ_by_less_than_the_interval() -> None:
    found = [run_point(POINT) for _ in range(PAIRS + 1)]
    runs = [run for run in found if isinstance(run, Record)]
    assert len(runs) == len(found), [why for why in found if isinstance(why, str)][0]
    lines = [{line.metric: line for line in compare(a, b)} for a, b in pairwise(runs)]
    busy = loaded_machine()
    print(f"\n{PAIRS} pairs of the same bench" + (f" (not to be trusted: {busy})" if busy else ""))
    print(f"{'':8}{'1 inside':>10}{'Reach':>8}{'':9}{'median width':>14}{'runs differ by':>16}")
    for name in TIMED:
        share = sum(line[name].low <= 1 <= line[name].high for line in lines) / PAIRS
        width = statistics.median(line[name].high - line[name].low for line in lines)
        cells = (
            f"{share:>10.0%}{f'≥ {REACH:.0%}':>8}{'  met' if share >= REACH else '  NOT MET':9}{width:>14.1%}"
        )
        print(f"{name:8}{cells}{excess([run.samples[name] for run in runs]):>14.1f} ×")


def excess(runs: list[list[float]]) -> float:
    """Return the standard deviation of the runs' means, over what the spread within runs explains."""
    expected = statistics.fmean(statistics.variance(run) / len(run) for run in runs)
    return float(statistics.stdev(map(statistics.fmean, runs)) / expected**0.5)
