"""Lab 07's checks accept every right answer and explain the wrong ones."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from judging import verdict

from labkit.checks.lab07 import q1, q2, q3
from labkit.engines import mlx_arrays

CONFIG = {"num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64}


@pytest.fixture(params=["stand-in", pytest.param("mlx", marks=pytest.mark.heavy)])
def mx(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "stand-in":
        monkeypatch.setattr(mlx_arrays, "HERE", False)
    elif not mlx_arrays.HERE:
        pytest.skip("needs mlx: pip install 'labkit[mlx]'")
    return mlx_arrays.arrays()[0]


def test_q1(mx: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def made(start: float, *steps: float) -> Any:
        array = mx.array(start)
        for step in steps:
            array = array + step
        return array

    for right in (made(2, 1, 4, 7, 10, 18), mx.array(21.0) * 2.0 * 1.0 * 1.0 * 1.0 * 1.0):
        assert verdict(q1, capsys, right)[0] == "right"
    assert verdict(q1, capsys, ...)[0] == "not attempted"
    computed = made(2, 1, 4, 7, 10, 18)
    mx.eval(computed)
    for wrong, said in (
        (computed, "computed already"),
        (mx.array(42.0), "computed already"),
        (made(2, 40), "1 pending: Add"),
        (made(2, 1, 4, 7, 10, 17), "the value is 41"),
        (42, "that is a int"),
    ):
        state, text = verdict(q1, capsys, wrong)
        assert (state, said in text) == ("wrong", True), text


@pytest.mark.parametrize("right", [lambda b, g: b + 32 / g, lambda b, g: (b * g + 16 + 16) / g])
def test_q2_right(right: Callable[[int, int], float], capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict(q2, capsys, right)[0] == "right"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda b, g: b, "also has a scale"),
        (lambda b, g: b + 16 / g, "the offset"),
        (lambda b, g: b + 4 / g, "4 bytes"),
        (lambda b, g: b + 32, "divide"),
        (lambda b, g: (b + 32 / g) / 8, "bytes a weight"),
        (lambda b, g: math.nan, "not it"),
        (lambda b: b, "TypeError"),
        (4.5, "without brackets"),
    ],
)
def test_q2_wrong(wrong: Any, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    state, text = verdict(q2, capsys, wrong)
    assert (state, said in text) == ("wrong", True), text


def test_q3(capsys: pytest.CaptureFixture[str]) -> None:
    for right in (2048, 2048.0):
        assert verdict(q3, capsys, CONFIG, right)[0] == "right"
    for wrong, said in (
        (1024, "keys or values are missing"),
        (512, "one layer"),
        (4096, "float32"),
        (16384, "that is bits"),
        (17, "not it"),
        (math.nan, "not it"),
        ("2048", "a number"),
    ):
        state, text = verdict(q3, capsys, CONFIG, wrong)
        assert (state, said in text) == ("wrong", True), text
