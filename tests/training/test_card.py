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
    assert {run["settings"]["constrained"] for run in runs} == {False, True, "copy"}
    free = [run for run in runs if not run["settings"]["constrained"]]
    base = max(run["by"][""]["all"]["n"] for run in free if run["variant"] == "F16")
    assert base == 2112 and levels["n"] >= 400
    assert set(levels["shares"]) == set(LEVELS) == {run["variant"] for run in free}
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


def test_a_trained_models_card_shows_what_it_learned_and_what_it_forgot(tmp_path: Path) -> None:
    from labkit.training.card import write_trained_card

    training = {"base": "nano", "steps": 4, "settings": {"rate": 0.001, "steps": 4}}
    (tmp_path / "training.json").write_text(json.dumps(training))
    log = [
        {"step": 0, "success": 0.25, "score": 0.25},
        {"step": 3, "reward": 0.5, "kl": 0.01},
        {"step": 4, "reward": 0.6, "kl": 0.0213, "success": 0.75, "score": 0.75},
    ]
    results = {"stage": ([1, 0, 0, 0], [1, 1, 1, 0]), "others": ([1, 1, 0, 0], [1, 0, 1, 0])}
    path = write_trained_card(tmp_path, log, results, data="made up", reward="played", learned=["stage"])
    text = path.read_text("utf-8")
    assert "Trained from nano" in text and "rate 0.001, steps 4" in text and "| reward | played |" in text
    assert "| 4 | 0.6 | 0.75 | 0.0213 |" in text and "| 3 |" not in text
    assert "| stage | 4 | 25 % | 75 % | +50.0 (-6.6 to +106.6) |" in text
    assert "- others: 1 of 4 cases were right before and are wrong now; +0.0" in text
    assert "- stage" not in text
