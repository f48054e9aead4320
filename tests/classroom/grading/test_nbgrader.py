"""The instructor's build in nbgrader itself: it makes the assignment, runs what comes back, and counts the points."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from course import RIGHT, TRIAL, WRONG

import labkit
from labkit.classroom.release import release

pytestmark = pytest.mark.heavy
# Not among the extras: it would put itself into the JupyterLab of whoever installs it.
PACKAGES = ["nbgrader==0.9.6", "alembic==1.20.1", "Mako==1.4.3", "RapidFuzz==3.14.6"]


def run(course: Path, *words: str) -> None:
    packages = course / "packages"
    environment = {**os.environ, "LABKIT_STRICT": "1", "PATH": f"{packages / 'bin'}:{os.environ['PATH']}"}
    environment["PYTHONPATH"] = f"{packages}:{Path(labkit.__file__).parents[1]}"
    done = subprocess.run(
        [sys.executable, *words], cwd=course, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(600)
def test_nbgrader_takes_the_instructors_build(tmp_path: Path) -> None:
    run(tmp_path, *f"-m pip install -q --no-deps --target {tmp_path / 'packages'}".split(), *PACKAGES)
    (tmp_path / "labs" / "source").mkdir(parents=True)
    (tmp_path / "labs" / "source" / "01_trial.py").write_text(TRIAL)
    release(tmp_path, tmp_path / "source" / "lab01")
    (tmp_path / "nbgrader_config.py").write_text("get_config().CourseDirectory.course_id = 'edge'\n")
    run(tmp_path, "-m", "nbgrader", "generate_assignment", "lab01")
    given = (tmp_path / "release" / "lab01" / "01_trial.ipynb").read_text("utf-8")
    assert "8 * 3600" not in given and "q1.check(speed, share)" in given
    half = {**RIGHT, "q3": WRONG["q3"]}
    for student, answers in {"ada": RIGHT, "bob": WRONG, "cy": half, "dan": {}}.items():
        path = tmp_path / "submitted" / student / "lab01" / "01_trial.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(answered(json.loads(given), answers)), "utf-8")
    run(tmp_path, "-m", "nbgrader", "autograde", "lab01")
    run(tmp_path, "-m", "nbgrader", "export", "--to", "grades.csv")
    with (tmp_path / "grades.csv").open(newline="") as file:
        points = {
            row["student_id"]: (float(row["score"]), float(row["max_score"])) for row in csv.DictReader(file)
        }
    assert points == {"ada": (3, 3), "bob": (0, 3), "cy": (2, 3), "dan": (0, 3)}


def answered(notebook: dict, answers: dict[str, str]) -> dict:  # type: ignore[type-arg]
    """Put each answer into the cell above its check."""
    cells = notebook["cells"]
    for above, cell in zip(cells, cells[1:], strict=False):
        for name, code in answers.items():
            if "".join(cell["source"]).startswith(f"{name}.check("):
                above["source"] = code
    return notebook
