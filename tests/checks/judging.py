"""What the tests of all labs' checks do: let an exercise judge an answer, and read what it says."""

from typing import Any

import pytest

from labkit.checks.core import Exercise


def verdict(exercise: Exercise, capsys: pytest.CaptureFixture[str], *answers: Any) -> tuple[str, str]:
    """Return the state after a check, and all that was shown."""
    exercise.check(*answers)
    return exercise.state, capsys.readouterr().out


def explains(exercise: Exercise, capsys: pytest.CaptureFixture[str], said: str, *answers: Any) -> None:
    """Expect a wrong answer to be found wrong for the reason `said`."""
    state, text = verdict(exercise, capsys, *answers)
    assert (state, said in text) == ("wrong", True), text
