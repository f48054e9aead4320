"""Lab 10's checks accept every right answer and explain the wrong ones."""

import math
from typing import Any

import pytest
from judging import verdict

from labkit.checks.lab10 import q1, q2, q3, q4, q5
from labkit.engines.vllm import VllmMetrics
from labkit.engines.vllm_templates import TEMPLATES
from labkit.metrics.cases import data_folder
from labkit.metrics.records import Record

PAGE = (data_folder("vllm") / "metrics.txt").read_text("utf-8")
SEEN = VllmMetrics.read(PAGE)
RATE, COMPUTED = SEEN.prefix_hits / SEEN.prefix_queries, SEEN.prompt_tokens - SEEN.prefix_hits


def run(throughput: float, *tpot: float) -> Record:
    return Record("load", {}, {"tpot": list(tpot)}, {"throughput": throughput})


RUNS = {1: run(100, 0.01, 0.01, 0.02), 8: run(350, 0.02, 0.025, 0.03)}


@pytest.mark.parametrize("right", [(16457, 261), (16457.0, 261.0), (16458, 261)])
def test_q1_right(capsys: pytest.CaptureFixture[str], right: tuple[float, float]) -> None:
    assert verdict(q1, capsys, *right)[0] == "right"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ((263322, 261), "a block has 16"),
        ((32915, 522), "a key and a value"),
        ((8228, 130), "2 bytes"),
        ((16457, 263), "whole blocks"),
        ((16457, 16457), "each takes 63 blocks"),
        ((math.nan, 261), "16 tokens"),
        ((math.inf, 261), "16 tokens"),
        (("many", 261), "give a number"),
    ],
)
def test_q1_wrong(capsys: pytest.CaptureFixture[str], wrong: tuple[Any, Any], said: str) -> None:
    state, text = verdict(q1, capsys, *wrong)
    assert (state, said in text) == ("wrong", True), text


@pytest.mark.parametrize("right", [(3.5, 2.5), (3.51, 2.49), ("3.5", "2.5")])
def test_q2_right(capsys: pytest.CaptureFixture[str], right: tuple[Any, Any]) -> None:
    assert verdict(q2, capsys, RUNS, *right)[0] == "right"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ((100 / 350, 2.5), "gain is turned over"),
        ((3.5, 0.4), "slower is turned over"),
        ((350, 2.5), "gain is 350"),
        ((3.5, 15.0), "slower is 15"),
        ((math.nan, 2.5), "gain is nan"),
        ((3.5, [1, 2]), "checking it raised"),
    ],
)
def test_q2_wrong(capsys: pytest.CaptureFixture[str], wrong: tuple[Any, Any], said: str) -> None:
    state, text = verdict(q2, capsys, RUNS, *wrong)
    assert (state, said in text) == ("wrong", True), text


def test_q3(capsys: pytest.CaptureFixture[str]) -> None:
    for right in ((RATE, COMPUTED), (round(RATE, 2), int(COMPUTED))):
        assert verdict(q3, capsys, PAGE, *right)[0] == "right"
    for wrong, said in (
        ((100 * RATE, COMPUTED), "from 0 to 1"),
        ((1 - RATE, COMPUTED), "divide prefix_hits"),
        ((SEEN.prefix_hits, COMPUTED), "divide prefix_hits"),
        ((math.nan, COMPUTED), "divide prefix_hits"),
        ((RATE, SEEN.prefix_hits), "out of the cache"),
        ((RATE, SEEN.prompt_tokens), "no prefix_hits"),
        ((RATE, None), "checking it raised"),
    ):
        state, text = verdict(q3, capsys, PAGE, *wrong)
        assert (state, said in text) == ("wrong", True), text


def test_q4(capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict(q4, capsys, 4)[0] == "right"
    for wrong, said in (
        (1, "more give more"),
        (3, "more give more"),
        (5, "fewer give more"),
        (0, "from 1 to 16"),
        (10**9, "from 1 to 16"),
        (4.0, "whole number"),
        (True, "whole number"),
        ("4", "whole number"),
    ):
        state, text = verdict(q4, capsys, wrong)
        assert (state, said in text) == ("wrong", True), text


@pytest.mark.parametrize(
    "right", ["production-high", "Production_High", " production-high ", TEMPLATES["production-high"]]
)
def test_q5_right(capsys: pytest.CaptureFixture[str], right: Any) -> None:
    assert verdict(q5, capsys, right)[0] == "right"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("development", "2,048 tokens"),
        ("staging", "4,096 tokens"),
        ("production-low", "4,096 tokens"),
        (TEMPLATES["enterprise"], "8 GPUs"),
        ("production", "one of development"),
        (2, "one of development"),
    ],
)
def test_q5_wrong(capsys: pytest.CaptureFixture[str], wrong: Any, said: str) -> None:
    state, text = verdict(q5, capsys, wrong)
    assert (state, said in text) == ("wrong", True), text


def test_absent_answers_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for exercise in (q1, q2, q3, q4, q5):
        assert verdict(exercise, capsys, ...)[0] == "not attempted"
        for _ in exercise.hints:
            exercise.hint()
        exercise.solution()
        said = capsys.readouterr().out
        assert exercise.code in said and all(hint in said for hint in exercise.hints)
