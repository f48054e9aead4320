"""A school without torch: it repeats what was recorded, says so, and has all that lab 17 asks for."""

import json
from pathlib import Path

import pytest

from labkit.errors import OptionInvalid
from labkit.training import school
from labkit.training.school import RECORDING, SHORT, Exam, School
from labkit.training.stage import LEVELS, played

ASKED = (
    "nano llamacpp F16",
    *(f"stage {where}" for where in ("llamacpp F16", "llamacpp Q8_0", "llamacpp Q4_K_M")),
)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> School:
    monkeypatch.setattr(school, "HERE", False)
    return School("three tools")


def test_the_recording_has_what_the_lab_shows(recorded: School) -> None:
    assert recorded.level in LEVELS and "recorded (20" in recorded.about and "`train`" in recorded.about
    exams = [recorded.examine(*name.split(" ")) for name in (*ASKED, "stage onnx int4", "stage onnx fp32")]
    first = exams[0]
    for exam in exams:
        assert len(exam.stage) == len(first.stage) >= 60 and set(exam.stage) <= {0, 1} and exam.mb > 1
        assert {skill: len(marks) for skill, marks in exam.others.items()} == {
            skill: len(marks) for skill, marks in first.others.items()
        }
        assert len(exam.all_others()) >= 80
    for name in ("stage", "long"):
        seen: list[object] = []
        log = recorded.teach(name, played, seen.append)
        assert seen == log == recorded.teach(name, played)
        assert [entry["step"] for entry in log] == list(range(len(log)))
        assert sum("success" in entry for entry in log) >= 2 and log[-1]["seconds"] > 0
    recorded.to_onnx("stage")
    assert RECORDING.stat().st_size < 50_000


def test_it_says_whose_weights_were_recorded(recorded: School, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = json.loads(RECORDING.read_text("utf-8"))["weights"]
    for told, earlier in ((weights, False), ("0" * 64, True)):
        monkeypatch.setattr(school, "weights_hash", lambda folder, told=told: told)
        assert ("earlier weights of nano" in recorded.about) is earlier


def test_what_nobody_recorded_is_said(recorded: School) -> None:
    with pytest.raises(OptionInvalid, match="nobody recorded 'stage llamacpp Q2_K'"):
        recorded.examine("stage", "llamacpp", "Q2_K")
    with pytest.raises(OptionInvalid, match="nobody recorded 'other'"):
        recorded.teach("other", played)
    with pytest.raises(OptionInvalid, match="no level 'hard'"):
        School("hard")


def test_in_ci_the_budget_is_small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(school, "HERE", True)
    monkeypatch.setenv("CI", "true")
    small = School("one tool", tmp_path)
    assert small.budget is SHORT and small.about == "measured here: 6 steps, 40 tasks in an exam"
    monkeypatch.delenv("CI")
    assert School("one tool", tmp_path).budget.steps > SHORT.steps


def test_an_exam_adds_up_the_other_skills() -> None:
    assert Exam([1], {"a": [1, 0], "b": [0]}, 8.4).all_others() == [1, 0, 0]
