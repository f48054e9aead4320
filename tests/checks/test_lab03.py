"""Lab 03's checks accept every right answer and explain the wrong ones."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from judging import verdict

from labkit.agents.routing import Attempt, invalid_call, no_call
from labkit.checks.core import Exercise
from labkit.checks.lab03 import q1, q2, q3, q4, q5
from labkit.models.sizes import SHAPES, memory


def judge(
    exercise: Exercise,
    capsys: pytest.CaptureFixture[str],
    given: tuple[Any, ...],
    right: list[Any],
    wrong: list[tuple[Any, str]],
) -> None:
    assert verdict(exercise, capsys, *given, ...)[0] == "not attempted"
    for answer in right:
        assert verdict(exercise, capsys, *given, answer)[0] == "right", answer
    for answer, said in wrong:
        state, text = verdict(exercise, capsys, *given, answer)
        assert (state, said in text) == ("wrong", True), text


def test_q1(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = [
        (0.1, "question's share"),
        (90, "percent"),
        (9.0, "divide by all"),
        (360, "how many tokens"),
        (0.5, "(with − without) / with"),
        (math.nan, "(with − without) / with"),
        ("90 %", "a number"),
        (True, "a number"),
    ]
    judge(q1, capsys, ([40, 100, 400],), [0.9, 0.9001, np.float64(0.9), Fraction(9, 10)], wrong)


def test_q2(capsys: pytest.CaptureFixture[str]) -> None:
    need = memory(SHAPES["7B"], "Q4_K_M", 1)
    right = need.weights / need.kv
    wrong = [
        (1 / right, "turned over"),
        (2 * right, "a key and a value"),
        (right / 7, "only KV heads"),
        (right / 3, "weights / bytes"),
        (None, "a number"),
    ]
    judge(q2, capsys, (), [right, round(right), int(right), round(right, -3)], wrong)


def test_q3(capsys: pytest.CaptureFixture[str]) -> None:
    start, slope, tpot = 2.0, 0.1, 0.5
    right = 2 + 60 + 39 * 0.5
    wrong = [
        (right / 1000, "milliseconds"),
        (62.0, "time to first token"),
        (19.5, "writing alone"),
        (2 + 64.0, "costs tpot"),
        (2 + 300 + 4.0, "slope is for a token read"),
        (1000, "start + reading + writing"),
    ]
    judge(q3, capsys, (start, slope, tpot), [right, right + tpot, np.float64(right), round(right)], wrong)
    for start in (-0.3, -200):  # what is fitted on a busy machine may be below zero
        assert verdict(q3, capsys, start, slope, tpot, start + 60 + 19.5)[0] == "right"


def by_the_kit(attempt: Attempt) -> str:
    return no_call(attempt) or invalid_call(attempt)


def true_or_none(attempt: Attempt) -> Any:
    return True if by_the_kit(attempt) else None


def blind_to_roles(attempt: Attempt) -> str:
    return "no call" if attempt.tools and not attempt.reply.tool_calls else invalid_call(attempt)


def blind_to_tools(attempt: Attempt) -> str:
    spoke = attempt.messages[-1]["role"] == "user"
    return "no call" if spoke and not attempt.reply.tool_calls else invalid_call(attempt)


def blind_to_names(attempt: Attempt) -> str:
    reason = invalid_call(attempt)
    return no_call(attempt) or ("" if "no tool" in reason else reason)


def blind_to_arguments(attempt: Attempt) -> str:
    reason = invalid_call(attempt)
    return no_call(attempt) or (reason if "no tool" in reason else "")


def solution() -> Callable[[Attempt], str]:
    found: dict[str, Any] = {}
    exec(q4.code, found)
    rule: Callable[[Attempt], str] = found["doubt"]
    return rule


def test_q4(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = [
        (lambda attempt: "", "prose where the user spoke last"),
        (lambda attempt: "no", "a call that fits wants"),
        (blind_to_roles, "prose after a tool's result"),
        (blind_to_tools, "prose where no tool is offered"),
        (blind_to_names, "not offered"),
        (blind_to_arguments, "lacks an argument"),
        (lambda: "", "checking it raised TypeError"),
        ("no tool call", "not callable"),
    ]
    judge(q4, capsys, (), [solution(), by_the_kit, true_or_none], wrong)


def test_q5(capsys: pytest.CaptureFixture[str]) -> None:
    right = [
        lambda ratio, handed_over: 1 / (1 / ratio + handed_over),
        lambda r, h: r / (1 + r * h),
        lambda r, h: Fraction(1) / (Fraction(1, int(r)) + Fraction(h)),
    ]
    wrong = [
        (lambda r, h: 1 / r + h, "turned over"),
        (lambda r, h: 1 / ((1 - h) / r + h), "has paid for the small model"),
        (lambda r, h: (1 - h) * r + h, "factors may not"),
        (lambda r, h: r, "1/ratio + handed_over"),
        (lambda r, h: "3.3", "a number"),
        (lambda r, h: None, "a number"),
        (3.3, "not callable"),
    ]
    judge(q5, capsys, (), right, wrong)
