"""Grading as an instructor does it, from an empty folder, offline: thirty students, half of them up to no good."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from course import ENGINE, HANG, TRIAL, hand_in, students

import labkit

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is for Linux"),
]
SECONDS = 60
SECRETS = {
    "trial_secrets/__init__.py": "from labkit.checks.core import Wrong\n\n\ndef exact(estimate):\n"
    "    if estimate((0, 0)) != 32:\n        raise Wrong('SECRET: 32 steps are left at the start')\n\n\n"
    "CHECKS = {'q2': exact}\n",
    "trial_secrets-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: trial-secrets\nVersion: 1.0\n",
    "trial_secrets-1.0.dist-info/entry_points.txt": "[labkit.hidden_checks]\n01 = trial_secrets:CHECKS\n",
}


@dataclass(frozen=True)
class Class:
    """A class whose work is graded: the folder, what was reached from within, and what the grader printed."""

    folder: Path
    connections: int
    printed: str

    def states(self, student: str, lab: str = "01_trial") -> list[str]:
        with (self.folder / "grades" / "questions.csv").open(newline="") as file:
            return [r["state"] for r in csv.DictReader(file) if (r["student"], r["lab"]) == (student, lab)]

    def note(self, student: str) -> str:
        with (self.folder / "grades" / "grades.csv").open(newline="") as file:
            return next(row["note"] for row in csv.DictReader(file) if row["student"] == student)


def run(folder: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{Path(labkit.__file__).parents[1]}:{folder / 'secrets'}"}
    command = [sys.executable, "-P", "-m", "labkit", *words]
    if words[0] == "grade" and os.geteuid() == 0 and shutil.which("unshare"):
        command = ["unshare", "--net", *command]  # no network for the grader, either
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def grade(folder: Path, *more: str) -> str:
    limits = ["--seconds", str(SECONDS), "--memory", "1.5", "--disk", "0.05"]
    return run(folder, "grade", "handed_in", "--labs", "labs", "--rubric", "rubric.toml", *limits, *more)


@pytest.fixture(scope="module")
def listening() -> Iterator[list[socket.socket]]:
    """Listen on this machine, by address and by an abstract name; nobody should come."""
    with socket.create_server(("127.0.0.1", 0)) as by_address, socket.socket(socket.AF_UNIX) as by_name:
        by_name.bind("\0labkit-trial")
        by_name.listen()
        for each in (by_address, by_name):
            each.setblocking(False)
        yield [by_address, by_name]


def came(listening: list[socket.socket]) -> int:
    count = 0
    for each in listening:
        try:
            each.accept()[0].close()
            count += 1
        except BlockingIOError:
            pass
    return count


def publish(folder: Path) -> None:
    """Write the course into an empty folder, with its hidden checks and its rubric, and release it."""
    files = {"labs/source/01_trial.py": TRIAL, "labs/source/02_engine.py": ENGINE}
    files |= {f"secrets/{name}": text for name, text in SECRETS.items()}
    files["rubric.toml"] = "[01]\nq2 = 2\nq3 = 0.5\n"
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    run(folder, "release")


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory, listening: list[socket.socket]) -> Class:
    folder = tmp_path_factory.mktemp("course")
    publish(folder)
    assert "Ready." in run(folder, "classroom", "preflight", "--quick")
    handed_in = folder / "handed_in"
    port = listening[0].getsockname()[1]
    for name, answers in students(handed_in, port, os.getpid(), folder / "secrets").items():
        hand_in(folder / "labs" / "01_trial.ipynb", handed_in, name, answers)
    hand_in(folder / "labs" / "02_engine.ipynb", handed_in, "right0", {"q2": 'my_word = "Zxqvwkyj42"'})
    hand_in(folder / "labs" / "02_engine.ipynb", handed_in, "wrong0", {"q2": 'my_word = "the"'})
    (handed_in / "absent").mkdir()
    (handed_in / "links").mkdir()
    (handed_in / "links" / "01_trial.ipynb").symlink_to(handed_in / "right0" / "01_trial.ipynb")
    (handed_in / "garbage").mkdir()
    (handed_in / "garbage" / "01_trial.ipynb").write_text('{"cells": ' + "[" * 100_000)
    labkit.load("nano", threads=1).close()  # as after any lab, its file is there
    printed = grade(folder)
    return Class(folder, came(listening), printed)


def test_honest_work_gets_what_it_earned(graded: Class) -> None:
    for n in range(5):
        assert graded.states(f"right{n}") == ["right"] * 3
    for n in range(3):
        assert graded.states(f"wrong{n}") == ["wrong"] * 3
    assert graded.states("half0") == ["right", "not attempted", "not attempted"]
    assert graded.states("half1") == ["right", "wrong", "not attempted"]
    assert graded.states("half2") == ["not attempted"] * 3
    assert graded.states("half3") == ["wrong", "right", "right"]
    assert graded.states("half4") == ["right", "wrong", "right"]
    assert graded.states("right0", "02_engine") == ["right"]
    assert graded.states("wrong0", "02_engine") == ["wrong"]


def test_a_hidden_check_finds_what_the_public_one_lets_pass(graded: Class) -> None:
    assert graded.states("sly") == ["right", "wrong", "right"]


@pytest.mark.parametrize(
    ("student", "states", "note"),
    [
        ("hangs", ["right", "not reached", "not reached"], "time limit"),
        ("eats", ["right", "wrong", "right"], ""),
        ("eats_by_many", ["right", "right", "not reached"], "memory limit"),
        ("forks", ["right", "not reached", "not reached"], "process limit"),
        ("quits", ["right", "not reached", "not reached"], "its Python ended in code cell 3"),
        ("floods", ["wrong", "right", "right"], ""),
        ("fills", ["wrong", "wrong", "wrong"], ""),
    ],
)
def test_what_takes_too_much_is_stopped_and_keeps_what_it_had(
    graded: Class, student: str, states: list[str], note: str
) -> None:
    assert (graded.states(student), graded.note(student)) == (states, note)


HOSTILE = "fills unseen_memory reads_others opens_sockets patches forges kills reads_hidden writes".split()


@pytest.mark.parametrize("student", HOSTILE)
def test_a_hostile_notebook_gains_nothing(graded: Class, student: str) -> None:
    assert len(graded.states(student)) == 3 and "right" not in graded.states(student)


def test_an_answer_that_agrees_with_everything_is_left_to_a_person(graded: Class) -> None:
    assert graded.states("'=agrees()") == ["by hand", "by hand", "wrong"]
    assert "look at q1, q2 by hand" in graded.note("'=agrees()")


def test_nothing_was_reached(graded: Class) -> None:
    feedback = (graded.folder / "grades" / "feedback.json").read_text()
    assert "Reached" not in feedback and graded.connections == 0
    assert not any("nbformat" in json.dumps(one["questions"]) for one in json.loads(feedback))
    errors = {one["student"]: one["errors"] for one in json.loads(feedback)}
    for student in ("reads_others", "opens_sockets", "reads_hidden", "writes", "unseen_memory"):
        assert errors[student] == [], "each trial was made, and each failed quietly"


def test_the_table_is_for_people(graded: Class) -> None:
    lines = {line.split()[0]: line.split()[1:] for line in graded.printed.splitlines() if line.strip()}
    assert lines["right0"] == ["3.5/3.5", "1/1", "4.5/4.5"] and lines["right1"] == ["3.5/3.5", "-", "3.5/3.5"]
    assert lines["hangs"] == ["1/3.5*", "-", "1/3.5*"]
    assert "hangs, lab 01: time limit" in graded.printed and "garbage, lab 01: no notebook" in graded.printed
    assert "absent handed in no lab" in graded.printed and "links handed in no lab" in graded.printed


def test_the_same_work_gets_the_same_bytes(graded: Class) -> None:
    grade(graded.folder, "--out", "again", "--jobs", "2")
    for name in ("grades.csv", "questions.csv", "grades.json", "report.txt"):
        assert (graded.folder / "again" / name).read_bytes() == (graded.folder / "grades" / name).read_bytes()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_grader_that_is_stopped_leaves_nothing_behind(tmp_path: Path, number: int, status: int) -> None:
    publish(tmp_path)
    hand_in(tmp_path / "labs" / "01_trial.ipynb", tmp_path / "handed_in", "ada", {"q1": HANG})
    words = [sys.executable, "-P", "-m", "labkit", "grade", "handed_in", "--labs", "labs"]
    environment = {**os.environ, "PYTHONPATH": str(Path(labkit.__file__).parents[1])}
    grader = subprocess.Popen(words, cwd=tmp_path, env=environment)
    below: list[psutil.Process] = []
    while sum("labkit.classroom.grading.student" in " ".join(_words(each)) for each in below) < 2:
        assert grader.poll() is None
        below = psutil.Process(grader.pid).children(recursive=True)
        time.sleep(0.2)
    grader.send_signal(number)
    assert grader.wait(60) == status
    assert not psutil.wait_procs(below, timeout=60)[1]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_published_notebook_says_nothing_of_solutions(graded: Class) -> None:
    text = (graded.folder / "labs" / "01_trial.ipynb").read_text()
    assert "8 * 3600" not in text and "YOUR CODE HERE" in text and "SECRET" not in text
