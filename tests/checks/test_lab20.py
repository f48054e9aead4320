"""Lab 20's checks accept every right answer and explain the wrong ones."""

import math
from typing import Any

import pytest
from judging import explains, verdict

from labkit.checks.lab20 import q1, q2, q3, q4
from labkit.serving.simulation import Arrival, Autoscale
from labkit.serving.sizing import Window, class_trace, most_students
from labkit.serving.speed import Speed

BOX = Speed((1, 2, 4, 8), (1.0, 1.8, 3.0, 4.0), 0.2)
LESSONS = (20, 400, 600, 20, 20, 20, 300, 20, 20, 20)
DAY = [Arrival(a.at + 300 * n) for n, students in enumerate(LESSONS) for a in class_trace(students)]
SERVICES = {
    "library": (Window(seconds=60, answered=120, replicas=6), 0.5),
    "dictation": (Window(seconds=60, answered=12, replicas=4), 0.15),
    "exam": (Window(seconds=60, answered=480, waiting=300, replicas=2), 0.5),
    "homework": (Window(seconds=60, answered=60, replicas=1), 0.5),
}
MOVES = {"library": "down", "dictation": "up", "exam": "out", "homework": "stay"}


@pytest.mark.parametrize("right", [120, 120.0, 119, 121])
def test_q1_right(capsys: pytest.CaptureFixture[str], right: float) -> None:
    assert verdict(q1, capsys, BOX, right)[0] == "right"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (4.0, "that is requests/s"),
        (4 / 30, "not divided"),
        (30, "30 is not it"),
        (200, "200 is not it"),
        (math.nan, "is not it"),
        ("many", "give a number"),
    ],
)
def test_q1_wrong(capsys: pytest.CaptureFixture[str], wrong: Any, said: str) -> None:
    explains(q1, capsys, said, BOX, wrong)


def test_q2(capsys: pytest.CaptureFixture[str]) -> None:
    most = most_students(BOX)
    for right in (most, most - 1, most + 1):
        assert verdict(q2, capsys, BOX, right)[0] == "right"
    for wrong, said in (
        (120, "too many"),
        (10**9, "too many"),
        (most // 2, "more would be"),
        (0, "more would be"),
        (-1, "whole number"),
        (float(most), "whole number"),
        (True, "whole number"),
    ):
        explains(q2, capsys, said, BOX, wrong)


def test_q2_on_a_box_that_is_too_slow_for_anybody(capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict(q2, capsys, Speed((1,), (0.5,), 0.9), 0)[0] == "right"


@pytest.mark.parametrize("right", [MOVES, {name: f" {move.title()} " for name, move in MOVES.items()}])
def test_q3_right(capsys: pytest.CaptureFixture[str], right: Any) -> None:
    assert verdict(q3, capsys, SERVICES, BOX, right)[0] == "right"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({**MOVES, "library": "stay"}, "library: 'stay' is not it. How many requests/s came for each box"),
        ({**MOVES, "dictation": "out"}, "when it is alone"),
        ({**MOVES, "exam": "up"}, "those that still wait"),
        ({**MOVES, "homework": "down"}, "more than half idle"),
        ({"library": "down"}, "checking it raised KeyError"),
        (["down", "up"], "checking it raised"),
    ],
)
def test_q3_wrong(capsys: pytest.CaptureFixture[str], wrong: Any, said: str) -> None:
    explains(q3, capsys, said, SERVICES, BOX, wrong)


@pytest.mark.parametrize(
    "right",
    [
        Autoscale(least=1, most=10, ongoing=2, up_after=0, down_after=60, start=20),
        Autoscale(least=2, most=10, ongoing=2, up_after=0, down_after=60, start=20),
        Autoscale(least=1, most=10, ongoing=1.5, up_after=0, down_after=30, start=20),
    ],
)
def test_q4_right(capsys: pytest.CaptureFixture[str], right: Autoscale) -> None:
    state, text = verdict(q4, capsys, DAY, BOX, right)
    assert state == "right", text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Autoscale(least=1, most=10, ongoing=4, up_after=30, down_after=60, start=20), "boxes come too late"),
        (Autoscale(least=6, most=10, ongoing=2, up_after=0, down_after=60, start=20), "too dear"),
        (Autoscale(least=1, most=10, ongoing=2, up_after=0, down_after=60, start=1), "start stays 20"),
        (Autoscale(least=1, most=50, ongoing=2, up_after=0, down_after=60, start=20), "most 10"),
        ({"least": 1}, "give an Autoscale"),
    ],
)
def test_q4_wrong(capsys: pytest.CaptureFixture[str], wrong: Any, said: str) -> None:
    explains(q4, capsys, said, DAY, BOX, wrong)


def test_absent_answers(capsys: pytest.CaptureFixture[str]) -> None:
    for exercise, given in ((q1, (BOX,)), (q2, (BOX,)), (q3, (SERVICES, BOX)), (q4, (DAY, BOX))):
        assert verdict(exercise, capsys, *given, ...)[0] == "not attempted"
