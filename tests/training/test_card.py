"""The shipped models' cards say what their training and evaluation recorded."""

import json
from pathlib import Path

import pytest

import labkit

LEVELS = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_1", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")
MODELS = Path(labkit.__file__).parent / "models"


@pytest.mark.parametrize("name", ["nano", "pico"])
def test_a_card_says_what_was_recorded(name: str) -> None:
    folder = MODELS / name
    training = json.loads((folder / "training.json").read_text("utf-8"))
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    runs = [json.loads(line) for line in (folder / "evaluation.jsonl").read_text("utf-8").splitlines()]
    card = (folder / "README.md").read_text("utf-8")
    assert 0 <= training["steps"] - log[-1]["steps"] < 20
    assert len(training["data_sha256"]) == 64
    assert f"{training['tokens']:,} tokens" in card
    *runs, levels = runs
    base = next(run for run in runs if run["variant"] == "F16")["by"][""]["all"]
    assert base["n"] == 2112 and levels["n"] >= 400
    assert set(levels["shares"]) == set(LEVELS) == {run["variant"] for run in runs}
    shares = [f"{100 * levels['shares'][level]['**all**']:.1f}" for level in LEVELS]
    assert f"| **all** | {' | '.join(shares)} |" in card


def test_both_models_have_the_same_tokenizer_and_template() -> None:
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (MODELS / "nano" / file).read_bytes() == (MODELS / "pico" / file).read_bytes()


def test_four_bits_cost_nano_less_than_two_points() -> None:
    lines = (MODELS / "nano" / "evaluation.jsonl").read_text("utf-8").splitlines()
    full = [
        run for run in map(json.loads, lines) if run["kind"] == "run" and run["by"][""]["all"]["n"] == 2112
    ]
    share = {run["variant"]: run["by"][""]["all"]["share"] for run in full}
    assert share["F16"] - share["Q4_K_M"] < 0.02
