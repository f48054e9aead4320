"""Grade notebooks one by one: a jail for the student's, a jail for the judge, and one wire between the two."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from labkit.classroom.grading import hidden, jail
from labkit.classroom.grading.submissions import Lab, Submission, find, plan, read_lab
from labkit.errors import NotebookFailed

State = Literal["right", "wrong", "by hand", "not attempted", "not reached"]
GRACE_S = 10  # for the judge to notice that its student is gone


@dataclass(slots=True)
class Graded:
    """Hold the verdicts on one notebook: a state and a sentence for each question, and what went wrong besides."""

    submission: Submission
    states: dict[str, State]
    texts: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    end: str = ""


def read_labs(folder: Path) -> dict[str, Lab]:
    """Return the published labs of a folder that ask something, by file stem."""
    labs = {path.stem: read_lab(path) for path in sorted(folder.glob("*.ipynb"))}
    if not any(lab.questions for lab in labs.values()):
        raise NotebookFailed(f"no lab in {folder} asks anything", fix="labkit grade DIR --labs FOLDER")
    return {stem: lab for stem, lab in labs.items() if lab.questions}


def grade(
    folder: Path,
    labs: dict[str, Lab],
    limits: jail.Limits | None = None,
    jobs: int = 1,
    progress: Callable[[Graded], object] = lambda graded: None,
) -> list[Graded]:
    """Grade every notebook in `folder`, `jobs` at a time; return the verdicts by student and lab.

    Raises `NotebookFailed` where nothing can be shut in, and `OptionInvalid` for hidden checks that are none.
    """
    found, cover = _prepare(folder, labs)
    jail.probe(limits := limits or jail.Limits(), cover)
    slots: SimpleQueue[int] = SimpleQueue()
    for slot in range(jobs):
        slots.put(slot)

    def one(submission: Submission) -> Graded:
        slot = slots.get()
        try:
            graded = _grade(submission, limits, cover, slot)
        finally:
            slots.put(slot)
        progress(graded)
        return graded

    if jobs == 1:  # without a thread, Ctrl-C ends the notebook that runs
        return [one(submission) for submission in found]
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, found))


def _prepare(folder: Path, labs: dict[str, Lab]) -> tuple[list[Submission], list[Path]]:
    """Return what was handed in, and what a notebook must not see; refuse what would give it away."""
    if jail.visible(folder):
        raise NotebookFailed(
            f"{folder} is among the files that a notebook sees", fix="move it to a folder of its own"
        )
    for lab in labs.values():
        strange = hidden.hidden_checks(lab.key).keys() - {question.name for question in lab.questions}
        if strange:
            what = f"hidden checks name {min(strange)}, which lab {lab.key} does not ask"
            raise NotebookFailed(what, fix="rename it in the package that hides it")
    return list(find(folder, labs)), [path for path in hidden.covered() if jail.visible(path)]


def _grade(submission: Submission, limits: jail.Limits, cover: Sequence[Path], slot: int) -> Graded:
    graded = Graded(submission, {question.name: "not attempted" for question in submission.lab.questions})
    try:
        planned = plan(submission)
    except NotebookFailed:
        graded.end = "no notebook"
        return graded
    for cell in planned["cells"]:
        graded.states |= {question["name"]: "not reached" for question in cell["questions"]}
    ended = False
    for line in _talk(planned, limits, cover, slot, graded):
        if "question" in line:
            graded.states[line["question"]], graded.texts[line["question"]] = line["state"], line["text"]
        elif "cell" in line:
            graded.errors.append(f"code cell {line['cell']} raised {line['error']}")
        else:
            ended, graded.end = True, graded.end or line["end"]
    graded.end = graded.end or ("" if ended else "its checks broke off")
    return graded


def _talk(
    planned: dict[str, Any], limits: jail.Limits, cover: Sequence[Path], slot: int, graded: Graded
) -> list[dict[str, Any]]:
    """Let the two processes talk until they are done or out of time; return the judge's lines."""
    ours, theirs = socket.socketpair()
    until = time.monotonic() + limits.seconds
    with ours, theirs, tempfile.TemporaryFile() as plan_file, tempfile.TemporaryFile() as said:
        plan_file.write(json.dumps(planned).encode())
        plan_file.seek(0)
        judge = _start("checker", ours, jail.command(limits, (), hidden.shown(), 2 * slot), plan_file, said)
        student = _start("student", theirs, jail.command(limits, cover, (), 2 * slot + 1), subprocess.DEVNULL)
        ours.close()
        theirs.close()
        # Should the judge end first, nobody is left for the student to talk to.
        threading.Thread(target=_end_after, args=(judge, student), daemon=True).start()
        try:
            graded.end = jail.watch(student, limits, until)
            slow = jail.watch(judge, limits, max(until, time.monotonic() + GRACE_S))
            graded.end = graded.end or (slow and f"{slow} of a check")
        finally:
            jail.end(student)
            jail.end(judge)
        said.seek(0)
        return [json.loads(line) for line in said.read().splitlines() if line.endswith(b"}")]


def _end_after(judge: subprocess.Popen[bytes], student: subprocess.Popen[bytes]) -> None:
    judge.wait()
    jail.end(student)


def _start(
    name: str, wire: socket.socket, words: list[str], stdin: Any, stdout: Any = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*words, f"labkit.classroom.grading.{name}", str(wire.fileno())],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        pass_fds=(wire.fileno(),),
        start_new_session=True,
    )
