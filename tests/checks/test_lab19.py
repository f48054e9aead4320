"""Lab 19's checks accept every right answer and explain the wrong ones."""

import math
from typing import Any

import pytest
from judging import explains, verdict

from labkit.checks.lab19 import BLIPS, RUSH, q1, q2, q3, q4, q5
from labkit.metrics.alerts import Rule
from labkit.serving.figures import Figures

GROWN = Figures(
    (
        ("labkit_tokens_total", {"kind": "prompt", "hour": "10"}, 4000.0),
        ("labkit_tokens_total", {"kind": "completion", "hour": "10"}, 900.0),
        ("labkit_tokens_total", {"kind": "completion", "hour": "11"}, 100.0),
        ("labkit_ttft_seconds_sum", {}, 3.0),
        ("labkit_ttft_seconds_count", {}, 60.0),
    )
)
SPANS = [{"seconds": 0.100}, {"seconds": 0.080}]


@pytest.mark.parametrize("right", [(200.0, 0.05), (200, 0.0501), (199.5, 3 / 60)])
def test_q1_right(capsys: pytest.CaptureFixture[str], right: tuple[float, float]) -> None:
    assert verdict(q1, capsys, GROWN, 5.0, *right)[0] == "right"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ((1000.0, 0.05), "how many were written"),
        ((5.0, 0.05), "divide grown.by"),
        ((200.0, 20.0), "turned over"),
        ((200.0, 3.0), "by their number"),
        ((math.nan, 0.05), "divide grown.by"),
        ((200.0, math.nan), "by their number"),
        ((None, 0.05), "give a number"),
    ],
)
def test_q1_wrong(capsys: pytest.CaptureFixture[str], wrong: tuple[Any, Any], said: str) -> None:
    explains(q1, capsys, said, GROWN, 5.0, *wrong)


def test_q1_tells_a_number_from_a_rate(capsys: pytest.CaptureFixture[str]) -> None:
    explains(q1, capsys, "divide by the seconds", GROWN, 4.0, 1000.0, 0.05)
    explains(q1, capsys, "of all kinds", GROWN, 4.0, 1250.0, 0.05)


def test_what_looks_like_a_mistake_may_be_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict(q1, capsys, GROWN, 1.0, 1000.0, 0.05)[0] == "right", (
        "in one second, count and rate are the same"
    )
    assert verdict(q5, capsys, [{"seconds": 0.1}, {"seconds": 0.09999}], 1.0, 0.01, 900.0)[0] == "right"


@pytest.mark.parametrize("right", [0.8125, 0.81, 13 / 16])
def test_q2_right(capsys: pytest.CaptureFixture[str], right: float) -> None:
    assert verdict(q2, capsys, right)[0] == "right"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (1.0, "upper bound"),
        (0.5, "lower bound"),
        (0.75, "middle"),
        (812.5, "milliseconds"),
        (0.95, "pass 95 between"),
        (math.nan, "pass 95 between"),
        ("1", "give a number"),
    ],
)
def test_q2_wrong(capsys: pytest.CaptureFixture[str], wrong: Any, said: str) -> None:
    explains(q2, capsys, said, wrong)


@pytest.mark.parametrize("right", [(64, 19200), (64.0, 19200.0), (4 * 16, 64 * 300)])
def test_q3_right(capsys: pytest.CaptureFixture[str], right: tuple[float, float]) -> None:
    assert verdict(q3, capsys, *right)[0] == "right"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ((52, 19200), "more series than bounds"),
        ((16, 19200), "4 routes"),
        ((64, 364), "labels multiply"),
        ((64, 4800), "every combination"),
        ((64, 19264), "every combination"),
        ((64, 1), "300 times"),
        ((64, math.nan), "300 times"),
        (("64", 19200), "4 routes"),
    ],
)
def test_q3_wrong(capsys: pytest.CaptureFixture[str], wrong: tuple[Any, Any], said: str) -> None:
    explains(q3, capsys, said, *wrong)


@pytest.mark.parametrize(
    "right",
    [
        Rule("queue_share", limit=0.8, window=10, share=0.5),
        Rule("queue_share", limit=0.5, window=10, share=0.6),
        Rule("queue_share", limit=0.95, window=8, share=0.6, least=4),
        Rule("queue_share", limit=0.2, window=16, share=0.5),
    ],
)
def test_q4_right(capsys: pytest.CaptureFixture[str], right: Rule) -> None:
    assert verdict(q4, capsys, right)[0] == "right"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Rule("queue_share", limit=0.8, window=3, share=0.5, least=1), "fires in the blips"),
        (Rule("queue_share", limit=0.5, window=4, share=0.5), "fires in the blips"),
        (Rule("queue_share", limit=1.0, window=10), "never fires in the rush"),
        (Rule("queue_share", limit=0.8, window=60), "34 s after the rush began"),
        (Rule("queue_depth", limit=6, window=10), "the field is queue_share"),
        (0.8, "give a Rule"),
    ],
)
def test_q4_wrong(capsys: pytest.CaptureFixture[str], wrong: Any, said: str) -> None:
    explains(q4, capsys, said, wrong)


def test_the_two_stories_are_what_the_lab_says() -> None:
    assert sum(s["queue_share"] > 0.8 for s in BLIPS) == 3 and all(s["queue_share"] == 1 for s in RUSH[33:])
    assert all(s["queue_share"] == 0 for s in RUSH if s["at"] < 60)


@pytest.mark.parametrize("right", [(20.0, 10.0), (20.1, 9.95)])
def test_q5_right(capsys: pytest.CaptureFixture[str], right: tuple[float, float]) -> None:
    assert verdict(q5, capsys, SPANS, 0.110, *right)[0] == "right"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ((0.02, 0.01), "in seconds"),
        ((100.0, 10.0), "whole span"),
        ((-20.0, 10.0), "subtract the seconds"),
        ((20.0, 30.0), "not on the way"),
        ((20.0, -10.0), "less the gateway's span"),
        ((math.nan, 10.0), "subtract the seconds"),
        ((20.0, "10"), "give a number"),
    ],
)
def test_q5_wrong(capsys: pytest.CaptureFixture[str], wrong: tuple[Any, Any], said: str) -> None:
    explains(q5, capsys, said, SPANS, 0.110, *wrong)


def test_absent_answers(capsys: pytest.CaptureFixture[str]) -> None:
    for exercise in (q1, q2, q3, q4, q5):
        assert verdict(exercise, capsys, ...)[0] == "not attempted"
