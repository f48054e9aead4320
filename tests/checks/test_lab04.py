"""Lab 04's checks accept every right answer and explain the wrong ones."""

import math
from typing import Any

import numpy as np
import pytest
from judging import verdict

from labkit.checks.lab04 import q1, q2, q3, q4, q5
from labkit.metrics.agent_eval import Share
from labkit.metrics.levels import Level, LevelTable
from labkit.models.numpy_llama import NumpyLlama, nano_folder
from labkit.models.quantize_math import quantize_q8_0
from labkit.models.quantize_simulated import gptq, round_int4
from labkit.models.sizes import SHAPES, file_bytes, weight_bytes

BLOCK = NumpyLlama.read(nano_folder()).weights["model.layers.3.mlp.up_proj.weight"][0, :32]
SPEED = 20e9


@pytest.mark.parametrize("right", ["8B", "8b", " 8B ", SHAPES["8B"]])
def test_q1_right(capsys: pytest.CaptureFixture[str], right: Any) -> None:
    assert verdict(q1, capsys, right)[0] == "right"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("7B", "larger one"),
        ("14B", "11.0 GB"),
        ("9B", "one of nano"),
        (8, "as a string"),
        (["7B", "8B"], "as a string"),
    ],
)
def test_q1_wrong(capsys: pytest.CaptureFixture[str], wrong: Any, said: str) -> None:
    state, text = verdict(q1, capsys, wrong)
    assert (state, said in text) == ("wrong", True), text


def q2_answers() -> tuple[float, Any]:
    step = np.abs(BLOCK).max() / 127
    return step, np.round(BLOCK / step)


def test_q2_right(capsys: pytest.CaptureFixture[str]) -> None:
    step, codes = q2_answers()
    packed = quantize_q8_0(BLOCK[None])[0]
    for answer in (
        (step, codes),
        (float(step), codes.astype(np.int8)),
        (np.float16(step), codes.astype(int).tolist()),
        (step, codes.reshape(1, 32)),
        (packed[:2].view(np.float16)[0], packed[2:].view(np.int8)),
        (np.array([step]), codes),
    ):
        assert verdict(q2, capsys, BLOCK, *answer)[0] == "right", answer
    assert verdict(q2, capsys, BLOCK, ..., ...)[0] == "not attempted"


def test_q2_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    step, codes = q2_answers()
    other = codes.copy()
    other[5] += 1
    for answer, said in (
        ((np.abs(BLOCK).max() / 128, codes), "127"),
        (((BLOCK.max() - BLOCK.min()) / 255, codes), "symmetric"),
        ((1 / step, codes), "turned over"),
        ((math.nan, codes), "largest size"),
        ((step, codes[:31]), "32 codes"),
        ((BLOCK, codes), "one number"),
        ((step, BLOCK / step), "whole numbers"),
        ((step, np.trunc(BLOCK / step)), "cut off"),
        ((step, other), "code 5 is"),
        (("step", codes), "checking it raised"),
    ):
        state, text = verdict(q2, capsys, BLOCK, *answer)
        assert (state, said in text) == ("wrong", True), text
    negative = -np.abs(BLOCK)
    assert "np.abs" in verdict(q2, capsys, negative, negative.max() / 127, codes)[1]


def made(*shares: tuple[str, int, float]) -> LevelTable:
    calls = Share(10, 5, 0.5, 0.2, 0.8)
    rows = [
        Level(name, size, 8, 0.01, 100, 50e6, 20, 0.1, same, calls, {"same_top": 0.007})
        for name, size, same in shares
    ]
    return LevelTable("made up", tuple(rows), (), (), ())


TABLE = made(("F16", 16, 1), ("Q8_0", 8, 0.99), ("Q6_K", 6, 0.97), ("Q5_1", 7, 0.96), ("Q4_0", 4, 0.92))


def test_q3(capsys: pytest.CaptureFixture[str]) -> None:
    for right in ("Q6_K", "q6_k ", TABLE.rows[2]):
        assert verdict(q3, capsys, TABLE, right)[0] == "right"
    for wrong, said in (
        ("Q5_1", "smaller"),
        ("F16", "smaller"),
        ("Q4_0", "92.0%"),
        ("Q9", "one of F16"),
        (6, "as a string"),
        (TABLE.rows, "as a string"),
    ):
        state, text = verdict(q3, capsys, TABLE, wrong)
        assert (state, said in text) == ("wrong", True), text


def test_q3_goes_by_the_students_own_table(capsys: pytest.CaptureFixture[str]) -> None:
    poor, close = made(("F16", 16, 1), ("Q8_0", 8, 0.9)), made(("F16", 16, 1), ("Q4_0", 4, 0.951))
    assert verdict(q3, capsys, poor, "F16")[0] == "right"
    assert "less than two standard errors" in verdict(q3, capsys, close, "Q4_0")[1]


def test_q4(capsys: pytest.CaptureFixture[str]) -> None:
    right = SPEED / weight_bytes(SHAPES["7B"], "Q4_K_M")
    for answer in (right, round(right, 1), SPEED / file_bytes(SHAPES["7B"], "Q4_K_M"), right * 1.07):
        assert verdict(q4, capsys, SPEED, answer)[0] == "right"
    for wrong, said in (
        (1 / right, "seconds per token"),
        (right / 8, "no 8"),
        (right * 8, "no 8"),
        (SPEED / weight_bytes(SHAPES["7B"], "F16"), "F16"),
        (SPEED, "reads all weights once"),
        (math.nan, "reads all weights once"),
    ):
        state, text = verdict(q4, capsys, SPEED, wrong)
        assert (state, said in text) == ("wrong", True), text


def test_q5(capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    mixed = random.normal(size=(8, 32))  # inputs that go together are what GPTQ makes use of
    seen, x = ((random.normal(size=(256, 8)) @ mixed).astype(np.float32) for _ in range(2))
    weight = random.normal(size=(16, 32)).astype(np.float32)
    errors = plain, planned = round_int4(weight) - weight, gptq(weight, seen) - weight
    norm = np.linalg.norm
    weights = norm(planned) / norm(plain)
    outputs = norm(x @ planned.T) / norm(x @ plain.T)
    for answer in ((weights, outputs), (float(weights), round(float(outputs), 3))):
        assert verdict(q5, capsys, errors, x, *answer)[0] == "right"
    for wrong, said in (
        ((1 / weights, outputs), "weight_ratio is turned over"),
        ((weights, 1 / outputs), "output_ratio is turned over"),
        ((weights, outputs**2), "squared"),
        ((planned / plain, outputs), "an array of shape (16, 32)"),
        ((weights, 0.001), "divide"),
        ((weights, math.nan), "divide"),
    ):
        state, text = verdict(q5, capsys, errors, x, *wrong)
        assert (state, said in text) == ("wrong", True), text
