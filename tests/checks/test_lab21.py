"""Lab 21's checks accept every right answer and explain the wrong ones."""

import math

import pytest
from judging import explains, verdict

from labkit.checks.lab21 import desired, judged, q1, q2, q3, q4
from labkit.deploy.settings import Deployment
from labkit.metrics.intervals import wilson

RIGHT = {"host": "ai.clinic.example", "replicas": 3, "grace": 60, "memory_gb": 4}


def test_q1(capsys: pytest.CaptureFixture[str]) -> None:
    for more in (
        {},
        {"replicas": 5},
        {"memory_gb": 4.5, "grace": 90},
        {"name": "clinic", "max_replicas": 20},
    ):
        assert verdict(q1, capsys, Deployment(**{**RIGHT, **more}))[0] == "right"
    assert verdict(q1, capsys, ...)[0] == "not attempted"
    for change, said in (
        ({"host": "agents.example.org"}, "theirs is"),
        ({"replicas": 2}, "drained"),
        ({"grace": 20}, "cut off"),
        ({"memory_gb": 2}, "needs 4"),
    ):
        explains(q1, capsys, said, Deployment(**{**RIGHT, **change}))
    explains(q1, capsys, "Deployment", RIGHT)


def test_q2(capsys: pytest.CaptureFixture[str]) -> None:
    def other_way(replicas: int, queue: float, cpu: float, d: Deployment) -> int:
        wishes = [-(-replicas * queue // d.queue_target), -(-replicas * cpu // d.cpu_target), d.replicas]
        return int(min(max(wishes), d.max_replicas))

    def wish(n: int, queue: float, cpu: float, d: Deployment) -> float:
        return max(n * queue / d.queue_target, n * cpu / d.cpu_target)

    def bounded(value: float, d: Deployment) -> int:
        return min(max(math.ceil(value), d.replicas), d.max_replicas)

    for right in (desired, other_way, lambda n, q, c, d: bounded(wish(n, q, c, d), d)):
        assert verdict(q2, capsys, right)[0] == "right"
    assert verdict(q2, capsys, ...)[0] == "not attempted"
    for wrong, said in (
        (lambda n, q, c, d: math.ceil(wish(n, q, c, d)), "outside of 2 to 8"),
        (lambda n, q, c, d: min(max(int(wish(n, q, c, d)), d.replicas), d.max_replicas), "round up"),
        (lambda n, q, c, d: bounded(n * c / d.cpu_target, d), "asks for more decides"),
        (lambda n, q, c, d: None, "yours for None"),
        (lambda n, q, c, d: 1 / 0, "ZeroDivisionError"),
        (4, "the function itself"),
    ):
        explains(q2, capsys, said, wrong)


def test_q3(capsys: pytest.CaptureFixture[str]) -> None:
    def in_order(here: dict, there: dict) -> dict:  # type: ignore[type-arg]
        found = {}
        for id, record in sorted([*here.items(), *there.items()], key=lambda item: item[1][0], reverse=True):
            found[id] = record
        return found

    def compact(here: dict, there: dict) -> dict:  # type: ignore[type-arg]
        return {id: min(x for x in (here.get(id), there.get(id)) if x) for id in {*here, *there}}

    for right in (in_order, compact):
        assert verdict(q3, capsys, right)[0] == "right"
    assert verdict(q3, capsys, ...)[0] == "not attempted"
    for wrong, said in (
        (lambda a, b: {**a, **b}, "disagree"),
        (lambda a, b: a, "is lost"),
        (
            lambda a, b: {id: max(x for x in (a.get(id), b.get(id)) if x) for id in {*a, *b}},
            "comes first remains",
        ),
        (lambda a, b: [*a, *b], "returns a ledger"),
        (lambda a, b: {**compact(a, b), "e": ("moon", "")}, "nobody wrote"),
        ("merge", "the function itself"),
    ):
        explains(q3, capsys, said, wrong)


def test_q4(capsys: pytest.CaptureFixture[str]) -> None:
    def judge(bad: int, n: int, canary_bad: int, canary_n: int) -> str:
        old, new = wilson(bad, n), wilson(canary_bad, canary_n)
        if new[0] > old[1]:
            return "go back"
        return "go on" if new[1] <= old[1] + 0.02 else "wait"

    for right in (judge, judged):
        assert verdict(q4, capsys, right)[0] == "right"
    assert verdict(q4, capsys, ...)[0] == "not attempted"
    for wrong, said in (
        (lambda b, n, cb, cn: "go back" if cb / cn > b / n else "go on", "wait, not go on"),
        (lambda b, n, cb, cn: "wait", "not wait"),
        (lambda b, n, cb, cn: True, "one of go on"),
        ("go on", "the function itself"),
    ):
        explains(q4, capsys, said, wrong)
