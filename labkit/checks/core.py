"""Exercises that answer at once and never stop a notebook.

    q1.check(answer)   says right, wrong (with a reason) or not attempted
    q1.hint()          one hint more at each call
    q1.solution()      the code that solves it

`check` displays and returns; it raises only in strict mode (`LABKIT_STRICT=1`), in which the solution notebooks run.
An answer that is still `...` counts as not attempted. A test says what is wrong by raising `Wrong`.
"""

from __future__ import annotations

import html
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from labkit.checks.journal import note
from labkit.errors import LabkitError, NotebookFailed
from labkit.testing import watch

State = Literal["not attempted", "wrong", "right"]
SIGNS = {"not attempted": "○", "wrong": "✗", "right": "✓", "hint": "?", "solution": "="}
GREY, RED, GREEN, BLUE = "#7f7f7f", "#D55E00", "#009E73", "#0072B2"  # Okabe–Ito, but for the grey
FUNCTION = "give the function itself, without brackets: {}"
COLOURS = {"not attempted": GREY, "wrong": RED, "right": GREEN, "hint": BLUE, "solution": BLUE}


class Wrong(Exception):
    """Say, in words a student can act on, what is not right yet."""


def number(value: Any, what: str = "a number") -> float:
    """Return an answer as a number; raise `Wrong` for what is none."""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise Wrong(f"give {what}, not {value!r:.60}")
    return float(value)


def require_function(value: Any, name: str) -> None:
    """Raise `Wrong` for an answer that is no function."""
    if not callable(value):
        raise Wrong(FUNCTION.format(name))


def compare(value: Any, right: float, reasons: Mapping[Any, str], formula: str, within: float = 0.01) -> None:
    """Raise `Wrong` unless a number is right within a share; one near a value of `reasons` is told why it is wrong."""
    given = number(value)
    if not abs(given - right) <= within * abs(right):  # written so that NaN is wrong, too
        near = (why for other, why in reasons.items() if abs(given - other) <= min(within, 0.01) * abs(other))
        raise Wrong(next(near, f"{given:,.4g} is not it: {formula}"))


@dataclass(frozen=True, slots=True)
class Feedback:
    """Hold what an exercise said, as text and as (escaped) HTML."""

    name: str
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{SIGNS[self.kind]} {self.name} {self.kind}: {self.text}"

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        # role=status: read aloud when it appears. The verdict is a word; sign and colour only repeat it.
        tag = "pre" if self.kind == "solution" else "span"
        body = f'<{tag} dir="auto">{html.escape(self.text)}</{tag}>'
        sign = f'<span aria-hidden="true">{SIGNS[self.kind]}</span>'
        edge = f"border-inline-start:4px solid {COLOURS[self.kind]}"
        return (
            f'<div role="status" aria-live="polite" style="{edge};padding:.3em .8em;margin:.3em 0">'
            f"<b>{sign} {html.escape(self.name)} {self.kind}:</b> {body}</div>"
        )


@dataclass(slots=True)
class Exercise:
    """Check one question. `test` gets the answers and raises `Wrong`, or returns a sentence of praise."""

    name: str
    test: Callable[..., str | None]
    hints: tuple[str, ...]
    code: str
    lab: str = ""
    state: State = "not attempted"
    hints_given: int = field(default=0, repr=False)

    def check(self, *answers: Any) -> None:
        """Judge the answers and display the verdict."""
        self.state, text = self._judge(answers)
        _show(Feedback(self.name, self.state, text))
        note(self.lab, self.name, self.state)
        if self.state != "right" and os.environ.get("LABKIT_STRICT") == "1":
            raise NotebookFailed(f"{self.name} is {self.state}: {text}", fix=f"{self.name}.hint()")

    def hint(self) -> None:
        """Display the next hint; after the last one, begin again."""
        place = self.hints_given % len(self.hints)
        self.hints_given += 1
        _show(Feedback(self.name, "hint", f"({place + 1} of {len(self.hints)}) {self.hints[place]}"))
        note(self.lab, self.name, "hint")

    def solution(self) -> None:
        """Display the code that solves the exercise."""
        _show(Feedback(self.name, "solution", self.code))
        note(self.lab, self.name, "solution")

    def _judge(self, answers: tuple[Any, ...]) -> tuple[State, str]:
        if not answers or any(answer is ... for answer in answers):
            return "not attempted", f"replace the ... and run the cell again; {self.name}.hint() helps"
        try:
            return "right", self.test(*answers) or "well done"
        except Wrong as wrong:
            return "wrong", str(wrong)
        except LabkitError as error:
            return "wrong", error.what
        except Exception as error:  # an answer of an unexpected kind may break a test in any way
            return "wrong", f"checking it raised {type(error).__name__}: {error}"


class Exercises:
    """Collect a lab's exercises: `lab = Exercises("01")`, then `q1 = lab.add(…)`."""

    def __init__(self, lab: str) -> None:
        self.lab = lab
        self.all: list[Exercise] = []
        _LABS[lab] = self
        watch()
        note(lab, "", "opened")

    def add(self, test: Callable[..., str | None], *, hints: tuple[str, ...], code: str) -> Exercise:
        """Register the next question, named q1, q2, … in this order."""
        exercise = Exercise(f"q{len(self.all) + 1}", test, hints, code, self.lab)
        self.all.append(exercise)
        return exercise


_LABS: dict[str, Exercises] = {}


def unfinished() -> list[str]:
    """Return the exercises that are not right yet, as "01 q2", of every lab in this kernel."""
    return [f"{name} {q.name}" for name, lab in _LABS.items() for q in lab.all if q.state != "right"]


def _show(feedback: Feedback) -> None:
    ipython = sys.modules.get("IPython")
    if ipython and ipython.get_ipython():
        from IPython.display import display

        display(feedback)  # type: ignore[no-untyped-call]
    else:
        print(feedback)
