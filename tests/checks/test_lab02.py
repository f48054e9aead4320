"""Lab 02's checks accept every right answer and explain the wrong ones."""

import math
from typing import Any

import numpy as np
import pytest
from judging import verdict

from labkit.agents.taxonomy.language import Row
from labkit.checks.lab02 import q1, q2, q3, q4

ROWS = (
    Row("wishes", "classical", 2, 32, 1e-5),
    Row("wishes", "model", 16, 32, 0.05, 300),
    Row("room", "classical", 24, 24, 1e-6),
)


@pytest.mark.parametrize("right", [1.0, 1, np.float64(0.9), np.array([1.0])])
def test_q1_right(capsys: pytest.CaptureFixture[str], right: Any) -> None:
    assert verdict(q1, capsys, right)[0] == "right"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (0, "wider"),
        (2.8, "narrower"),
        (-1, "wider"),
        (50, "narrower"),
        (math.nan, "one number"),
        ("1 K", "one number"),
        ([0.5, 1], "one number"),
    ],
)
def test_q1_wrong(capsys: pytest.CaptureFixture[str], wrong: Any, said: str) -> None:
    state, text = verdict(q1, capsys, wrong)
    assert (state, said in text) == ("wrong", True), text


def test_q2(capsys: pytest.CaptureFixture[str]) -> None:
    for right in (
        lambda p: abs(p[0] - 19) + abs(p[1] - 13),
        lambda p: 32 - sum(p),
        lambda p: math.dist(p, (19, 13)),
        lambda p: np.abs(np.subtract(p, (19, 13))).sum(),
    ):
        assert verdict(q2, capsys, right)[0] == "right"
    assert verdict(q2, capsys, ...)[0] == "not attempted"
    for wrong, said in (
        (lambda p: 0, "as many squares"),
        (lambda p: 2 * (32 - sum(p)), "too high"),
        (lambda p: (19 - p[0]) ** 2 + (13 - p[1]) ** 2, "too high"),
        (lambda p: p[0] + p[1], "too high"),
        (lambda p: math.nan, "one number"),
        (lambda p: None, "one number"),
        (32, "without brackets"),
    ):
        state, text = verdict(q2, capsys, wrong)
        assert (state, said in text) == ("wrong", True), text


def test_q3(capsys: pytest.CaptureFixture[str]) -> None:
    for right in (
        lambda estimate, reward, count: estimate + 0.1 * (reward - estimate),
        lambda estimate, reward, count: 0.8 * estimate + 0.2 * reward,
        lambda estimate, reward, count: estimate + max(1 / count, 0.08) * (reward - estimate),
        lambda estimate, reward, count: np.float64(estimate + (reward - estimate) / min(count, 12)),
    ):
        assert verdict(q3, capsys, right)[0] == "right"
    assert verdict(q3, capsys, ...)[0] == "not attempted"
    for wrong, said in (
        (lambda estimate, reward, count: estimate + (reward - estimate) / count, "hardly forgets"),
        (lambda estimate, reward, count: reward, "forgets too fast"),
        (lambda estimate, reward, count: 0.97 * estimate + 0.03 * reward, "faster"),
        (lambda estimate, reward, count: estimate, "must move"),
        (lambda estimate, reward, count: estimate + 2 * (reward - estimate), "not beyond"),
        (lambda estimate, reward, count: None, "one number"),
        (0.1, "without brackets"),
        (lambda estimate, reward: reward, "raised TypeError"),
    ):
        state, text = verdict(q3, capsys, wrong)
        assert (state, said in text) == ("wrong", True), text


def test_q4(capsys: pytest.CaptureFixture[str]) -> None:
    for right in (
        lambda row: row.seconds / 3600 * 0.02 + (1 - row.hits / row.n) * 0.04,
        lambda row: 0.02 * (row.seconds / 3600 + 2 * (row.n - row.hits) / row.n),
    ):
        state, text = verdict(q4, capsys, ROWS, right)
        assert state == "right"
        assert "room: classical" in text and "wishes: model" in text
    assert verdict(q4, capsys, ROWS, ...)[0] == "not attempted"
    for wrong, said in (
        (lambda row: row.seconds / 3600 * 0.02, "time alone"),
        (lambda row: row.seconds / 3600 * 0.02 + row.hits / row.n * 0.04, "right decisions"),
        (lambda row: row.seconds * 0.02 + (1 - row.hits / row.n) * 0.04, "3,600"),
        (lambda row: row.seconds / 3600 * 0.02 + 0.04, "should be 0.01"),
        (lambda row: 0.0, "should be 0.01"),
        (lambda row: "cheap", "one number"),
        (0.04, "without brackets"),
    ):
        state, text = verdict(q4, capsys, ROWS, wrong)
        assert (state, said in text) == ("wrong", True), text
