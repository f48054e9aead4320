"""Every lab has exercises enough, each with hints and a solution."""

from importlib import import_module
from pathlib import Path

import pytest

import labkit.checks
from labkit.checks.core import Exercise

LABS = sorted(path.stem for path in Path(labkit.checks.__path__[0]).glob("lab[0-9][0-9].py"))


@pytest.mark.parametrize("name", LABS)
def test_every_exercise_has_hints_and_a_solution(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = import_module(f"labkit.checks.{name}")
    exercises = [value for value in vars(module).values() if isinstance(value, Exercise)]
    assert len(exercises) >= 3
    for exercise in exercises:
        for _ in exercise.hints:
            exercise.hint()
        exercise.solution()
        said = capsys.readouterr().out
        assert exercise.hints and exercise.code in said
        assert all(hint in said for hint in exercise.hints)
