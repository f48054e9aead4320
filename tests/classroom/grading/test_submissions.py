"""What is handed in is read as data; points and files follow from verdicts alone."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from course import TRIAL

from labkit.classroom.grading import hidden, jail
from labkit.classroom.grading.grade import Graded, grade, read_labs
from labkit.classroom.grading.report import read_rubric, rows, table, write
from labkit.classroom.grading.submissions import Lab, Submission, find, plan
from labkit.classroom.release import release
from labkit.errors import NotebookFailed, OptionInvalid


@pytest.fixture
def labs(tmp_path: Path) -> dict[str, Lab]:
    (tmp_path / "labs" / "source").mkdir(parents=True)
    (tmp_path / "labs" / "source" / "01_trial.py").write_text(TRIAL)
    release(tmp_path)
    return read_labs(tmp_path / "labs")


def notebook(path: Path, *cells: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [c if isinstance(c, dict) else {"cell_type": "code", "source": c} for c in cells]
    path.write_text(json.dumps({"cells": made}))
    return path


def submission(labs: dict[str, Lab], path: Path) -> Submission:
    return Submission("ada", labs["01_trial"], path)


def test_a_published_lab_tells_what_answers_its_questions(labs: dict[str, Lab]) -> None:
    lab = labs["01_trial"]
    assert (lab.stem, lab.key) == ("01_trial", "01")
    assert [(q.name, q.module, q.answers) for q in lab.questions] == [
        ("q1", "labkit.checks.lab18", ("speed", "share")),
        ("q2", "labkit.checks.lab02", ("estimate",)),
        ("q3", "labkit.checks.lab18", ("patient",)),
    ]


def test_every_lab_of_the_course_asks_at_least_three_questions() -> None:
    found = read_labs(Path(__file__).parents[3] / "labs")
    assert len(found) >= 22 and all(len(lab.questions) >= 3 for lab in found.values())


def test_a_question_is_found_by_its_cell_or_by_what_asks_it(labs: dict[str, Lab], tmp_path: Path) -> None:
    source = (tmp_path / "labs" / "01_trial.ipynb").read_text()
    same = tmp_path / "ada" / "01_trial.ipynb"
    same.parent.mkdir()
    same.write_text(source)
    placed = [[q["name"] for q in cell["questions"]] for cell in plan(submission(labs, same))["cells"]]
    assert placed == [[], ["q1"], ["q2"], ["q3"]]
    # Another program has given the cells new ids, a scratch cell asks q1 again, and q3 is lost.
    other = notebook(
        tmp_path / "bob" / "01_trial.ipynb",
        "q1.check(1, 2)",
        "# q1.check(3, 4)",
        "share = 2\nq1.check(speed, share) # mine",
        {"cell_type": "markdown", "source": "q2.check(x)"},
        ["def estimate(place):\n", "    ...\n", "q2.check(estimate)"],
    )
    placed = [[q["name"] for q in cell["questions"]] for cell in plan(submission(labs, other))["cells"]]
    assert placed == [[], [], ["q1"], ["q2"]]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cells": 3}', '{"cells": [3]}', "[" * 100_000, "\xff"])
def test_what_is_no_notebook_is_told(labs: dict[str, Lab], tmp_path: Path, text: str) -> None:
    path = tmp_path / "01_trial.ipynb"
    path.write_text(text, "latin-1")
    with pytest.raises(NotebookFailed, match="cannot be read as a notebook"):
        plan(submission(labs, path))


def test_links_and_other_files_are_left_alone(labs: dict[str, Lab], tmp_path: Path) -> None:
    handed = tmp_path / "handed"
    mine = notebook(handed / "ada" / "work" / "01_trial.ipynb")
    notebook(handed / "ada" / ".ipynb_checkpoints" / "01_trial.ipynb")
    notebook(handed / "ada" / "notes.ipynb")
    (handed / "bob").mkdir()
    (handed / "bob" / "01_trial.ipynb").symlink_to(mine)
    (handed / "cy").symlink_to(handed / "ada", target_is_directory=True)
    (handed / "dan").mkdir()
    (handed / "dan" / "work").symlink_to(mine.parent, target_is_directory=True)
    assert [(one.student, one.path) for one in find(handed, labs)] == [("ada", mine)]
    notebook(handed / "ada" / "copy" / "01_trial.ipynb")
    with pytest.raises(NotebookFailed, match="twice"):
        list(find(handed, labs))


def graded(labs: dict[str, Lab], student: str, *states: Any, end: str = "") -> Graded:
    work = Submission(student, labs["01_trial"], Path("x"))
    return Graded(work, dict(zip(("q1", "q2", "q3"), states, strict=True)), end=end)


def test_points_follow_the_rubric(labs: dict[str, Lab], tmp_path: Path) -> None:
    (tmp_path / "points.toml").write_text("[01]\nq2 = 2.5\n")
    rubric = read_rubric(tmp_path / "points.toml", labs)
    [row] = rows([graded(labs, "ada", "right", "right", "by hand")], rubric)
    assert (row.points, row.most) == ({"q1": 1, "q2": 2.5, "q3": 0}, {"q1": 1, "q2": 2.5, "q3": 1})
    assert row.note == "look at q3 by hand"
    assert "ada        3.5/4.5*   3.5/4.5*" in table([row])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[01", "is no rubric"),
        ("[07]\nq1 = 1", "choose from: 01"),
        ("01 = 3", "choose from: 01"),
        ("[01]\nq9 = 1", "for q1, q2, q3"),
        ("[01]\nq1 = -1", "from 0 up"),
        ("[01]\nq1 = true", "from 0 up"),
        ("[01]\nq1 = nan", "from 0 up"),
    ],
)
def test_a_wrong_rubric_is_explained(labs: dict[str, Lab], tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "points.toml").write_text(text)
    with pytest.raises(OptionInvalid, match=said):
        read_rubric(tmp_path / "points.toml", labs)


def test_files_hold_the_same_points_and_run_nothing(labs: dict[str, Lab], tmp_path: Path) -> None:
    states = ("right", "wrong", "not reached")
    results = rows(
        [graded(labs, "=cmd|' /C calc'!A0", *states, end="time limit"), graded(labs, "ü\n", *states)], {}
    )
    for folder in ("one", "two"):
        write(results, ["absent"], tmp_path / folder)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["feedback.json", "grades.csv", "grades.json", "questions.csv", "report.txt"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    text = (tmp_path / "one" / "grades.csv").read_text("utf-8")
    assert text.startswith("student,lab,points,of,note\n'=cmd|' /C calc'!A0,01_trial,1,3,time limit\n")
    assert json.loads((tmp_path / "one" / "grades.json").read_text())[0]["points"] == 1
    assert "ü?" in (tmp_path / "one" / "report.txt").read_text("utf-8")


def test_without_bubblewrap_nothing_is_graded(
    labs: dict[str, Lab], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook(tmp_path / "handed" / "ada" / "01_trial.ipynb", "open('/etc/passwd').read()")
    monkeypatch.setattr(jail.shutil, "which", lambda name: None)
    with pytest.raises(NotebookFailed, match="no bubblewrap") as caught:
        grade(tmp_path / "handed", labs)
    assert "apt install bubblewrap" in caught.value.fix


def test_students_work_may_not_lie_where_notebooks_see_it(labs: dict[str, Lab]) -> None:
    for place in (Path(sys.prefix), Path("/usr"), Path("/"), jail.LABKIT / "checks"):
        with pytest.raises(NotebookFailed, match="among the files that a notebook sees"):
            grade(place, {})


def packaged(folder: Path, value: str) -> None:
    about = folder / "secrets_of_ours-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: secrets-of-ours\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[labkit.hidden_checks]\n01 = {value}\n")


def test_hidden_checks_come_from_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged(tmp_path, "secrets_of_ours:CHECKS")
    (tmp_path / "secrets_of_ours.py").write_text("CHECKS = {'q2': print}\nLIST = []")
    monkeypatch.syspath_prepend(tmp_path)
    assert hidden.hidden_checks("01") == {"q2": print} and hidden.hidden_checks("02") == {}
    names = {path.name.partition(".")[0] for path in hidden.covered()}
    assert names == {"secrets_of_ours", "secrets_of_ours-1"}, (
        "the module, what Python kept of it, its metadata"
    )
    assert hidden.shown() == [tmp_path]


def test_hidden_checks_that_are_none_are_told(
    labs: dict[str, Lab], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged(tmp_path, "wrong_secrets:CHECKS")
    (tmp_path / "wrong_secrets.py").write_text("CHECKS = ['q2']")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(OptionInvalid, match="make it a dict"):
        hidden.hidden_checks("01")
    (tmp_path / "wrong_secrets.py").write_text("CHECKS = {'q9': print, 'q1': print}")
    sys.modules.pop("wrong_secrets")
    (tmp_path / "handed").mkdir()
    with pytest.raises(NotebookFailed, match="q9, which lab 01 does not ask"):
        grade(tmp_path / "handed", labs)
