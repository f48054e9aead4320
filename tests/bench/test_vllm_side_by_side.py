"""`labkit load` beside `vllm bench serve`: one server, the same prompts, lengths and callers, in turn.

    make bench, or: pytest tests/bench/test_vllm_side_by_side.py -s       BENCH_REQUESTS=200 requests a run

Both measure TTFT and TPOT as the client sees them and by the same formulas, so they should agree within 3 %. Prints;
gates nothing. Needs vLLM: labkit engines install vllm.
"""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from labkit import load
from labkit.engines.environments import python_of
from labkit.engines.vllm import Vllm, model_folder
from labkit.metrics.cases import data_folder, read_cases
from labkit.metrics.load import measure
from labkit.models.catalog import find

REQUESTS = int(os.environ.get("BENCH_REQUESTS", "200"))
CALLERS, TOKENS, ROUNDS = 4, 64, 3
BENCH = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
FIGURES = {"TTFT, median [ms]": "ttft", "TPOT, median [ms]": "tpot", "output tokens/s": "throughput"}


def texts() -> list[str]:
    """Return first questions of evaluation cases; vLLM's benchmark leaves out the shortest."""
    asked = [case.messages[-1]["content"] for case in read_cases(data_folder() / "seen.jsonl")]
    long = [text for text in asked if isinstance(text, str) and len(text.split()) >= 8]
    return [long[at % len(long)] for at in range(REQUESTS)]


def by_labkit(url: str, prompts: Sequence[str]) -> dict[str, float]:
    messages = [[{"role": "user", "content": text}] for text in prompts]
    record = measure(
        url, messages, concurrency=CALLERS, requests=REQUESTS, max_tokens=TOKENS, ignore_eos=True
    )
    assert record.figures["ok"] == REQUESTS
    times = {name: median(record.samples[name]) * 1e3 for name in ("ttft", "tpot")}
    return {**times, "throughput": record.figures["throughput"]}


def by_vllm(url: str, prompts: Sequence[str], folder: Path) -> dict[str, float]:
    dataset, result = folder / "prompts.json", folder / "result.json"
    turns = [{"conversations": [{"value": text}, {"value": text}]} for text in prompts]
    dataset.write_text(json.dumps(turns), "utf-8")
    options = {
        "backend": "openai-chat",
        "base-url": url.removesuffix("/v1"),
        "endpoint": "/v1/chat/completions",
        "model": model_folder(find("nano")),
        "served-model-name": "nano",
        "dataset-name": "sharegpt",
        "dataset-path": dataset,
        "sharegpt-output-len": TOKENS,
        "num-prompts": REQUESTS,
        "max-concurrency": CALLERS,
        "num-warmups": 1,
        "temperature": 0,
        "result-dir": folder,
        "result-filename": result.name,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    switches = ("--ignore-eos", "--disable-shuffle", "--disable-tqdm", "--save-result")
    done = subprocess.run(
        [python_of("vllm"), "-I", "-c", BENCH, *words, *switches],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(result.read_text("utf-8"))
    assert found["completed"] == REQUESTS
    times = {"ttft": found["median_ttft_ms"], "tpot": found["median_tpot_ms"]}
    return {**times, "throughput": found["output_throughput"]}


def test_load_agrees_with_vllms_own_benchmark(tmp_path: Path) -> None:
    if not Vllm.available().installed:
        pytest.skip("needs vLLM: labkit engines install vllm")
    prompts = texts()
    ours, theirs = [], []
    # Without the prefix cache: what one of the two has sent would be quicker for the other. One thread: the client
    # needs a core of its own.
    with load("nano", engine="vllm", enable_prefix_caching=False, threads=1, start_timeout=1200) as model:
        url = model.engine.url  # type: ignore[attr-defined]
        for _ in range(ROUNDS):
            ours.append(by_labkit(url, prompts))
            theirs.append(by_vllm(url, prompts, tmp_path))
    print(f"\n{REQUESTS} requests of {TOKENS} tokens, {CALLERS} callers, medians of {ROUNDS} runs in turn")
    print(f"{'':20}{'labkit load':>14}{'vllm bench':>14}{'ratio':>9}{'spread of runs':>24}")
    for label, name in FIGURES.items():
        a, b = ([run[name] for run in runs] for runs in (ours, theirs))
        spread = " / ".join(f"{(max(runs) - min(runs)) / median(runs):.1%}" for runs in (a, b))
        ratio = median(a) / median(b)
        print(f"{label:20}{median(a):>14,.2f}{median(b):>14,.2f}{ratio:>9.3f}{spread:>24}")
