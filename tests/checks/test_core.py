"""An exercise answers, and never stops a student's notebook."""

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from labkit.checks.core import Exercise, Exercises, Feedback, Wrong, unfinished
from labkit.errors import NotebookFailed, OptionInvalid


def even(number: int) -> str:
    if number == 13:
        raise OptionInvalid("13 is unlucky")
    if number % 2:
        raise Wrong(f"{number} is odd")
    return f"half of it is {number // 2}"


@pytest.fixture
def q1(monkeypatch: pytest.MonkeyPatch) -> Exercise:
    monkeypatch.delenv("LABKIT_STRICT", raising=False)
    return Exercises("99").add(even, hints=("add one", "or take one"), code="number = 4")


@pytest.mark.parametrize(
    ("answers", "state", "said"),
    [
        ((4,), "right", "half of it is 2"),
        ((3,), "wrong", "3 is odd"),
        ((13,), "wrong", "13 is unlucky"),
        (("x",), "wrong", "TypeError"),
        ((), "not attempted", "q1.hint()"),
        ((...,), "not attempted", "q1.hint()"),
    ],
)
def test_check_says_what_is_what(
    q1: Exercise, capsys: pytest.CaptureFixture[str], answers: tuple[Any, ...], state: str, said: str
) -> None:
    q1.check(*answers)
    assert q1.state == state
    assert said in capsys.readouterr().out
    assert ("99 q1" in unfinished()) == (state != "right")


@pytest.mark.parametrize("answers", [(3,), (...,), ("x",)])
def test_strict_mode_raises(q1: Exercise, monkeypatch: pytest.MonkeyPatch, answers: tuple[Any, ...]) -> None:
    monkeypatch.setenv("LABKIT_STRICT", "1")
    with pytest.raises(NotebookFailed):
        q1.check(*answers)
    q1.check(2)


def test_hints_come_one_by_one_and_the_solution_is_code(
    q1: Exercise, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        q1.hint()
    q1.solution()
    said = capsys.readouterr().out.splitlines()
    assert [line.split(") ")[1] for line in said[:3]] == ["add one", "or take one", "add one"]
    assert said[3].endswith("number = 4")


def test_feedback_is_escaped() -> None:
    page = Feedback("q1", "wrong", "<script>alert(1)</script>")._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("kind", ["not attempted", "wrong", "right", "hint", "solution"])
def test_feedback_is_read_aloud_and_says_its_kind_in_words(kind: str) -> None:
    page = ET.fromstring(Feedback("q1", kind, "because")._repr_html_())
    assert (page.get("role"), page.get("aria-live")) == ("status", "polite")
    signs = page.findall("b/span[@aria-hidden='true']")
    assert "".join(page.itertext()).removeprefix(signs[0].text or "") == f" q1 {kind}: because"
