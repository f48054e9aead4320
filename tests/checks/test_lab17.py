"""Lab 17's checks accept every right answer and explain the wrong ones."""

import math
from statistics import fmean, pstdev, stdev
from typing import Any

import pytest
from judging import explains, verdict

from labkit.checks.lab17 import q1, q2, q3, q4, q5, replies, team
from labkit.metrics.intervals import paired
from labkit.training.rollouts import Rollout, examples, only
from labkit.training.stage import outcome, played, stage_tasks, thorough


def test_q1(capsys: pytest.CaptureFixture[str]) -> None:
    def by_steps(task: Any, reply: Any) -> int:
        return 1 if outcome(task, reply) == task.goal else 0

    for right in (played, by_steps, lambda task, reply: outcome(task, reply) == task.goal):
        assert verdict(q1, capsys, right)[0] == "right"
    assert verdict(q1, capsys, ...)[0] == "not attempted"
    for wrong, said in (
        (lambda task, reply: float(bool(reply.tool_calls)), "a call with a wrong value is paid 1"),
        (lambda task, reply: float(outcome(task, reply) is not None), "a call with a wrong value is paid 1"),
        (
            lambda task, reply: 1.0 if "Done" in reply.text else played(task, reply),
            "talk that says it is done",
        ),
        (lambda task, reply: float("nan"), "a finite number, always"),
        (lambda task, reply: None, "a finite number, always"),
        (lambda task, reply: 2 * played(task, reply), "the right call is paid 2, not 1"),
        (lambda task, reply: 1 - played(task, reply), "is paid 0, not 1"),
        (lambda task, reply: task.goals, "checking it raised AttributeError"),
        (0.5, "without brackets"),
    ):
        explains(q1, capsys, said, wrong)


def test_what_replies_are_is_what_they_are_called() -> None:
    for task in stage_tasks(20, 3, "one tool"):
        paid = {what: played(task, reply) for what, reply in replies(task).items()}
        assert [what for what, reward in paid.items() if reward] == ["the right call"]


def test_q2(capsys: pytest.CaptureFixture[str]) -> None:
    def other_order(rollouts: list[Rollout]) -> Any:
        return only_first(rollouts)

    def only_first(rollouts: list[Rollout]) -> Any:
        return examples([r for r in only(rollouts, "router") if r.reward == 1])

    for right in (lambda r: examples(only(r, "router")), other_order):
        assert verdict(q2, capsys, right)[0] == "right"
    assert verdict(q2, capsys, ...)[0] == "not attempted"
    for wrong, said in (
        (examples, "the specialist's answers are in it"),
        (lambda r: examples(only(r, "router"), at_least=0), "'sales' is in it"),
        (lambda r: only(r, "router"), "a list of examples"),
        (lambda r: examples(only(r, "routers")), "the router's lessons are 2"),
        (lambda r: None, "a list of examples"),
        (team(), "without brackets"),
    ):
        explains(q2, capsys, said, wrong)


def test_q3(capsys: pytest.CaptureFixture[str]) -> None:
    def by_formula(rewards: Any) -> Any:
        mean, spread = fmean(rewards), pstdev(rewards)
        return [(reward - mean) / (spread or 1) for reward in rewards]

    def nearly(rewards: Any) -> Any:
        mean = sum(rewards) / len(rewards)
        return tuple((r - mean) / (pstdev(rewards) + 1e-9) for r in rewards)

    for right in (by_formula, nearly):
        assert verdict(q3, capsys, right)[0] == "right"
    assert verdict(q3, capsys, ...)[0] == "not attempted"
    for wrong, said in (
        (lambda r: [(x - fmean(r)) / pstdev(r) for x in r], "divides by 0"),
        (lambda r: [x - fmean(r) for x in r], "divide it by the standard deviation"),
        (lambda r: [(x - fmean(r)) / (stdev(r) or 1) for x in r], "pstdev, not stdev"),
        (lambda r: r, "you make 1.00"),
        (lambda r: [0.0], "have 4 advantages, not 1"),
        (lambda r: [math.nan for _ in r], "you make nan"),
        (lambda r: None, "checking it raised TypeError"),
        ([0.0], "without brackets"),
    ):
        explains(q3, capsys, said, wrong)


def test_q4(capsys: pytest.CaptureFixture[str]) -> None:
    def right(before: Any, after: Any) -> str:
        _, low, high = paired(before, after)
        return "learned" if low > 0 else "unlearned" if high < 0 else "unclear"

    assert verdict(q4, capsys, right)[0] == "right"
    assert verdict(q4, capsys, ...)[0] == "not attempted"

    def by_mean(before: Any, after: Any) -> str:
        return (
            "learned" if sum(after) > sum(before) else "unlearned" if sum(after) < sum(before) else "unclear"
        )

    for wrong, said in (
        (by_mean, "6 tasks, +17 points"),
        (lambda b, a: "learned", "and you say 'learned'"),
        (lambda b, a: "learned" if paired(b, a)[1] > 0 else "unclear", "are 'unlearned'"),
        (lambda b, a: paired(b, a)[1] > 0, "and you say True"),
        ("learned", "without brackets"),
    ):
        explains(q4, capsys, said, wrong)


def test_q5(capsys: pytest.CaptureFixture[str]) -> None:
    for right in (
        lambda task, reply: played(task, reply) * (1 + thorough(task, reply)),
        lambda task, reply: thorough(task, reply) if played(task, reply) else -1.0,
        lambda task, reply: 10 * played(task, reply) + thorough(task, reply),
    ):
        assert verdict(q5, capsys, right)[0] == "right"
    assert verdict(q5, capsys, ...)[0] == "not attempted"
    for wrong, said in (
        (thorough, "a long story is paid 1.00"),
        (lambda task, reply: 0.5 * played(task, reply) + thorough(task, reply), "can be gamed"),
        (played, "more words should pay more"),
        (
            lambda task, reply: played(task, reply) * thorough(task, reply) - 5 * thorough(task, reply),
            "gamed",
        ),
        (lambda task, reply: math.inf, "a finite number, always"),
        (1.0, "without brackets"),
    ):
        explains(q5, capsys, said, wrong)
