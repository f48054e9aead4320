"""Lab 11's checks accept every right answer and explain the wrong ones."""

import math
import statistics
from typing import Any

import numpy as np
import pytest
from judging import explains, verdict

from labkit.checks.lab11 import SITES, q1, q2, q3, q4
from labkit.metrics.agreement import lead
from labkit.metrics.race import Race, Row
from labkit.metrics.records import Record

RECORD = Record("race", {"engine": "mlx"}, {"tpot": [0.002, 0.001, 0.0011, 0.05, 0.0012]}, {})
SPEED = 1 / 0.0012


def test_q1(capsys: pytest.CaptureFixture[str]) -> None:
    for right in (SPEED, round(SPEED), np.float64(SPEED)):
        assert verdict(q1, capsys, RECORD, right)[0] == "right"
    assert "mlx writes 833 tokens/s" in verdict(q1, capsys, RECORD, SPEED)[1]
    assert verdict(q1, capsys, RECORD, ...)[0] == "not attempted"
    for wrong, said in (
        (0.0012, "turn it over"),
        (1000 * SPEED, "no 1000"),
        (1 / statistics.mean(RECORD.samples["tpot"]), "take the median"),
        (math.nan, "is not it"),
        (7, "is not it"),
        ("fast", "give a number"),
    ):
        explains(q1, capsys, said, RECORD, wrong)


def scores() -> tuple[Any, Any]:
    random = np.random.default_rng(3)
    ours = random.normal(size=(400, 50)).astype(np.float32)
    return ours, ours + random.uniform(-0.05, 0.05, ours.shape).astype(np.float32)


def test_q2(capsys: pytest.CaptureFixture[str]) -> None:
    ours, others = scores()
    noise = np.abs(ours - others).max()
    count = (lead(ours) < 2 * noise).sum()
    assert count > (lead(ours) < noise).sum() > 0
    for right in ((noise, count), (float(noise), int(count)), (round(float(noise), 5), float(count))):
        assert verdict(q2, capsys, ours, others, *right)[0] == "right"
    for (given, number), said in (
        ((np.abs(ours - others).mean(), count), "that is the mean"),
        ((2 * noise, count), "largest |a - b|"),
        ((noise, (lead(ours) < noise).sum()), "while the second rises"),
        ((noise, len(ours)), "count the tokens"),
        ((noise, lead(ours) < 2 * noise), "one number each"),
        ((np.abs(ours - others), count), "one number each"),
    ):
        explains(q2, capsys, said, ours, others, given, number)


def test_q2_counts_what_flipped(capsys: pytest.CaptureFixture[str]) -> None:
    ours, others = scores()
    noise = np.abs(ours - others).max()
    flipped = (ours.argmax(1) != others.argmax(1)).sum()
    text = verdict(q2, capsys, ours, others, noise, (lead(ours) < 2 * noise).sum())[1]
    assert f"{flipped} really did" in text


def test_q3(capsys: pytest.CaptureFixture[str]) -> None:
    right = {"A": "rounding", "B": "template", "C": "stop"}
    for answer in (right, {k: v.upper() for k, v in right.items()}, dict(reversed(right.items()))):
        assert verdict(q3, capsys, answer)[0] == "right"
    for wrong, said in (
        ({**right, "B": "rounding"}, "B: rounding moves"),
        ({**right, "A": "stop"}, "A is something else"),
        ({**right, "C": "template"}, "did not know the token"),
        ({**right, "C": "magic"}, "choose from"),
        ({"A": "rounding"}, "a cause for each"),
        (["rounding", "template", "stop"], "a dict"),
    ):
        explains(q3, capsys, said, wrong)


def race(*rows: Row) -> Race:
    return Race("made up", rows, (), {}, ())


def row(engine: str, start: float, memory: float, decode: float, concurrent: bool, constrained: bool) -> Row:
    return Row(engine, start, memory * 1e6, 0.01, 900.0, decode, 1.0, concurrent, constrained)


TABLE = race(
    row("llamacpp", 0.5, 120, 2000, False, True),
    row("llamaserver", 0.9, 200, 1500, True, True),
    row("onnx", 0.3, 180, 1000, False, False),
    row("vllm", 60, 2500, 1900, True, True),
)


def test_q4(capsys: pytest.CaptureFixture[str]) -> None:
    right = {"till": "onnx", "help desk": "vllm", "field laptop": "llamacpp"}
    assert set(right) == set(SITES)
    assert verdict(q4, capsys, TABLE, right)[0] == "right"
    for wrong, said in (
        ({**right, "till": "vllm"}, "till: vllm does not"),
        ({**right, "till": "llamacpp"}, "till: llamacpp fits (start 0.50 s, number 2 of 3"),
        ({**right, "help desk": "llamacpp"}, "one caller at a time"),
        ({**right, "field laptop": "onnx"}, "hold a tool call"),
        ({**right, "field laptop": "vllm"}, "none for Windows"),
        ({**right, "till": None}, "there is one that fits"),
        ({**right, "till": "ollama"}, "not in your table"),
        ({"till": "onnx"}, "a dict with an engine"),
        ("onnx", "a dict with an engine"),
    ):
        explains(q4, capsys, said, TABLE, wrong)


def test_q4_goes_by_the_students_own_table(capsys: pytest.CaptureFixture[str]) -> None:
    alone = race(row("onnx", 0.3, 180, 1000, False, False))
    answer = {"till": "onnx", "help desk": None, "field laptop": None}
    assert verdict(q4, capsys, alone, answer)[0] == "right"
    close = race(row("llamacpp", 0.31, 100, 1, True, True), row("onnx", 0.3, 110, 1, True, True))
    for name in ("llamacpp", "onnx"):  # a tie: either will do
        assert verdict(q4, capsys, close, dict.fromkeys(SITES, name))[0] == "right"
