"""Lab 16's checks accept every right answer and explain the wrong ones."""

import numpy as np
import pytest
from judging import explains, verdict

from labkit.checks.lab16 import decided, q1, q2, q3, q4, q5


def test_q1(capsys: pytest.CaptureFixture[str]) -> None:
    ranks = np.array([1, 1, 2, 3, 3, 5, np.inf, 9])
    recall, mrr = 5 / 8, float((1 / ranks).mean())
    for right in (
        (recall, mrr),
        (np.float64(recall), round(mrr, 3)),
        ((ranks <= 3).mean(), (1 / ranks).mean()),
    ):
        assert verdict(q1, capsys, ranks, *right)[0] == "right"
    assert verdict(q1, capsys, ranks, ..., ...)[0] == "not attempted"
    finite = np.array([1.0, 2, 3, 4])
    for given, answers, said in (
        (ranks, (62.5, mrr), "share from 0 to 1"),
        (ranks, (3 / 8, mrr), "place 3 counts"),
        (ranks, (0.9, mrr), "which share"),
        (ranks, (ranks <= 3, mrr), "one number each"),
        (ranks, (recall, 1 / ranks), "one number each"),
        (ranks, (recall, np.nan), "mean of 1 / rank"),
        (finite, (0.75, 1 / finite.mean()), "1 / the mean rank"),
    ):
        explains(q1, capsys, said, given, *answers)


def test_q2(capsys: pytest.CaptureFixture[str]) -> None:
    for right in (
        lambda v, q, k: np.argsort(-(v @ q))[:k],
        lambda v, q, k: np.argsort(v @ q)[::-1][:k].tolist(),
        lambda v, q, k: np.linalg.norm(v - q, axis=1).argsort()[:k],
        lambda v, q, k: sorted(range(len(v)), key=lambda at: -float(v[at] @ q))[:k],
    ):
        assert verdict(q2, capsys, right)[0] == "right"
    assert verdict(q2, capsys, ...)[0] == "not attempted"
    for wrong, said in (
        (lambda v, q, k: np.argsort(v @ q)[:k], "the farthest"),
        (lambda v, q, k: np.argsort(v @ q)[-k:], "best comes first"),
        (lambda v, q, k: np.sort(v @ q)[::-1][:k], "places"),
        (lambda v, q, k: np.argsort(-(v @ q)), "yours gave"),
        (lambda v, q, k: 1 / 0, "ZeroDivisionError"),
        (lambda v, q, k: None, "yours gave"),
        ([1, 2, 3], "the function itself"),
    ):
        explains(q2, capsys, said, wrong)


def test_q3(capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["one two three", "one two three four five", "one"]
    for right in (4, 4.0, np.int64(4)):
        assert verdict(q3, capsys, texts, right)[0] == "right"
    assert verdict(q3, capsys, texts, ...)[0] == "not attempted"
    for wrong, said in ((5, "one word more"), (2, "torn"), (0, "torn"), (40, "how long"), (-1, "how long")):
        explains(q3, capsys, said, texts, wrong)


def test_q4(capsys: pytest.CaptureFixture[str]) -> None:
    fit = np.array([0.9, 0.8, 0.7, 0.65, 0.6, 0.5, 0.4, 0.3])
    there = np.array([True, True, True, False, True, False, False, False])
    assert decided(fit, there, 0.6) == 7
    for right in (0.6, 0.55, 0.7, np.float64(0.66), 0.5):
        assert verdict(q4, capsys, fit, there, right)[0] == "right"
    assert verdict(q4, capsys, fit, there, ...)[0] == "not attempted"
    for wrong, said in (
        (0.0, "raise it"),
        (0.95, "lower it"),
        (0.85, "3 answerable"),
        ("0.6 or so", "checking it raised"),
    ):
        explains(q4, capsys, said, fit, there, wrong)


def test_q5(capsys: pytest.CaptureFixture[str]) -> None:
    here, there = {"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "9", "d": "4"}
    for right in (({"b", "d"}, {"c"}), (["d", "b"], ["c"]), (("b", "d"), {"c": "3"}.keys())):
        assert verdict(q5, capsys, here, there, *right)[0] == "right"
    assert verdict(q5, capsys, here, there, ..., ...)[0] == "not attempted"
    for wrong, said in (
        ((set(there), {"c"}), "need not travel"),
        (({"d"}, {"c"}), "has changed"),
        (({"b", "d", "c"}, {"c"}), "c does not belong"),
        (({"b"}, {"c"}), "d is missing"),
        (({"b", "d"}, set()), "c is missing"),
        (({"b", "d"}, {"c", "a"}), "a does not belong"),
        (("bd", {"c"}), "collections of names"),
    ):
        explains(q5, capsys, said, here, there, *wrong)
