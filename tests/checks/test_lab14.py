"""Lab 14's checks accept every right answer and explain the wrong ones."""

import math
from collections.abc import Callable

import pytest

pytest.importorskip("agent_framework")

from judging import explains, verdict

from labkit import LabkitError
from labkit.agents.intents import SPECIALISTS, by_keywords, requests
from labkit.checks.lab14 import q1, q2, q3, q4
from labkit.metrics.trace import Event


def test_q1(capsys: pytest.CaptureFixture[str]) -> None:
    for right in (
        lambda answer: answer.strip() if answer.strip() in SPECIALISTS else None,
        lambda answer: next((name for name in SPECIALISTS if name == answer.strip()), ""),
    ):
        assert verdict(q1, capsys, right)[0] == "right"
    assert verdict(q1, capsys, ...)[0] == "not attempted"
    for wrong, said in (
        (
            lambda answer: "customer_service" if "customer" in answer else "technical",
            "your function says 'technical'",
        ),
        (
            lambda answer: next((n for n in SPECIALISTS if n in answer), None),
            "'not customer_service' is no label",
        ),
        (lambda answer: answer if answer in SPECIALISTS else None, "is the label 'scheduling'"),
        (lambda answer: answer.strip(), "is no label"),
        (lambda answer: None, "is the label 'technical'"),
        ("technical", "the function itself"),
    ):
        explains(q1, capsys, said, wrong)


def test_q2(capsys: pytest.CaptureFixture[str]) -> None:
    cases, route = requests(100), by_keywords()
    hits = sum(route(case.text) == case.specialist for case in cases)
    silent = sum(not route(case.text) for case in cases)
    right = (hits + silent / 3) / 100
    for answer in (right, round(right, 3)):
        assert verdict(q2, capsys, cases, answer)[0] == "right"
    assert verdict(q2, capsys, cases, ...)[0] == "not attempted"
    for wrong, said in (
        (hits / 100, "the keywords alone"),
        ((hits + silent) / 100, "not always right"),
        ((hits + silent / 2) / 100, "three labels"),
        (silent / 300, "the guesses alone"),
        (100 * right, "not percent"),
        (math.nan, "a third of the requests"),
        (0.99, "a third of the requests"),
    ):
        explains(q2, capsys, said, cases, wrong)


def test_q3(capsys: pytest.CaptureFixture[str]) -> None:
    runs = tuple(Event("run", name, 0.01, seconds) for name, seconds in (("a", 0.3), ("b", 0.4), ("c", 0.5)))
    both = Event("run", "all runs", 0.0, 0.52, children=runs)
    for right in (0.68, 1.2 - 0.52, 0.679):
        assert verdict(q3, capsys, both, right)[0] == "right"
    assert verdict(q3, capsys, both, ...)[0] == "not attempted"
    for wrong, said in (
        (1.2, "one after another"),
        (0.52, "took together"),
        (-0.68, "turn it over"),
        (680, "not milliseconds"),
        (math.nan, "less the seconds"),
        (0.1, "less the seconds"),
    ):
        explains(q3, capsys, said, both, wrong)


def safe(route: Callable[[str], str]) -> Callable[[str], str]:
    def tried(text: str) -> str:
        try:
            return route(text)
        except LabkitError:
            return ""

    return tried


def hides_all(route: Callable[[str], str]) -> Callable[[str], str]:
    def tried(text: str) -> str:
        try:
            return route(text)
        except Exception:
            return ""

    return tried


def says_technical(route: Callable[[str], str]) -> Callable[[str], str]:
    def tried(text: str) -> str:
        try:
            return route(text)
        except LabkitError:
            return "technical"

    return tried


def test_q4(capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict(q4, capsys, safe)[0] == "right"
    assert verdict(q4, capsys, ...)[0] == "not attempted"
    for wrong, said in (
        (hides_all, "a KeyError is a mistake"),
        (says_technical, "so that the next can be asked"),
        (lambda route: route, "came through"),
        (lambda route: lambda text: "", "should be left as it is"),
        (lambda route: lambda text: "technical", "hand the text on"),
        (lambda route: "", "should return a function"),
        ("safe", "the function itself"),
    ):
        explains(q4, capsys, said, wrong)
