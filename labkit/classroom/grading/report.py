"""Turn verdicts into points and files: the same verdicts always give the same bytes.

`grades.csv` has a line for each notebook, `questions.csv` one for each question, `grades.json` both, `report.txt` a
table for people. `feedback.json` says why; figures that a machine measured stand in it, so it differs from run to run.
"""

from __future__ import annotations

import csv
import io
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.classroom.grading.grade import Graded
from labkit.classroom.grading.submissions import Lab
from labkit.errors import OptionInvalid
from labkit.models.store import atomic_file, storage_errors

Rubric = Mapping[str, Mapping[str, float]]
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run


def read_rubric(path: Path, labs: Mapping[str, Lab]) -> Rubric:
    """Read points by lab and question, as in `[01]` and `q3 = 2`; what is not named is worth one point.

    Raises `OptionInvalid` for a file that is no such table, or that names what no lab asks.
    """
    asked = {lab.key: {question.name for question in lab.questions} for lab in labs.values()}
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise OptionInvalid(
            f"{path} is no rubric ({exc})", fix="write TOML: a line [01], then q3 = 2"
        ) from exc
    for lab, points in table.items():
        if lab not in asked or not isinstance(points, dict):
            raise OptionInvalid(f"{path} names lab {lab!r}", fix=f"choose from: {', '.join(sorted(asked))}")
        for name, value in points.items():
            good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e6
            if name not in asked[lab] or not good:
                raise OptionInvalid(
                    f"{path} gives {lab} {name} {value!r:.40} points",
                    fix=f"points from 0 up, for {', '.join(sorted(asked[lab]))}",
                )
    return table


@dataclass(frozen=True, slots=True)
class Row:
    """Hold one notebook's points."""

    graded: Graded
    points: dict[str, float]
    most: dict[str, float]

    @property
    def note(self) -> str:
        """Return what a person should know: how it ended, and what to look at by hand."""
        by_hand = [name for name, state in self.graded.states.items() if state == "by hand"]
        look = f"look at {', '.join(by_hand)} by hand" if by_hand else ""
        return "; ".join(filter(None, (self.graded.end, look)))


def rows(graded: Iterable[Graded], rubric: Rubric) -> list[Row]:
    """Give each question its points: all of them if it is right, else none."""
    made = []
    for one in graded:
        worth = rubric.get(one.submission.lab.key, {})
        most = {name: worth.get(name, 1) for name in one.states}
        points = {name: most[name] if state == "right" else 0 for name, state in one.states.items()}
        made.append(Row(one, points, most))
    return made


def write(results: Sequence[Row], silent: Sequence[str], folder: Path) -> str:
    """Write all files into `folder` and return the table for people; `silent` are students who handed in nothing."""
    text = table(results, silent)
    files = {"grades.csv": _grades(results), "questions.csv": _questions(results), "report.txt": text}
    files |= {"grades.json": _json(results), "feedback.json": _feedback(results)}
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        with atomic_file(folder / name) as unfinished:
            unfinished.write_bytes(content.encode("utf-8", "replace"))
    return text


def _grades(results: Sequence[Row]) -> str:
    lines = [
        [*_who(row), f"{sum(row.points.values()):g}", f"{sum(row.most.values()):g}", row.note]
        for row in results
    ]
    return _csv([["student", "lab", "points", "of", "note"], *lines])


def _questions(results: Sequence[Row]) -> str:
    lines = [
        [*_who(row), name, state, f"{row.points[name]:g}", f"{row.most[name]:g}"]
        for row in results
        for name, state in row.graded.states.items()
    ]
    return _csv([["student", "lab", "question", "state", "points", "of"], *lines])


def _who(row: Row) -> list[str]:
    return [row.graded.submission.student, row.graded.submission.lab.stem]


def _csv(lines: Iterable[Sequence[str]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([f"'{cell}" if cell.startswith(FORMULA) else cell for cell in line] for line in lines)
    return out.getvalue()


def _json(results: Sequence[Row]) -> str:
    made = [
        {
            "student": row.graded.submission.student,
            "lab": row.graded.submission.lab.stem,
            "points": sum(row.points.values()),
            "of": sum(row.most.values()),
            "note": row.note,
            "questions": {
                name: {"state": state, "points": row.points[name], "of": row.most[name]}
                for name, state in row.graded.states.items()
            },
        }
        for row in results
    ]
    return json.dumps(made, indent=1, ensure_ascii=True) + "\n"


def _feedback(results: Sequence[Row]) -> str:
    made: list[dict[str, Any]] = []
    for row in results:
        student, lab = _who(row)
        said = {"questions": row.graded.texts, "errors": row.graded.errors}
        made.append({"student": student, "lab": lab, **said})
    return json.dumps(made, indent=1, ensure_ascii=True) + "\n"


def table(results: Sequence[Row], silent: Sequence[str] = ()) -> str:
    """Return points by student and lab, and under the table what a person should look at."""
    labs = sorted({row.graded.submission.lab.key for row in results})
    cells: dict[str, dict[str, Row]] = {}
    for row in results:
        cells.setdefault(row.graded.submission.student, {})[row.graded.submission.lab.key] = row
    width = max([7, *(len(_plain(name)) for name in cells)])
    lines = [f"{'student':{width}} " + "".join(f"{lab:>11}" for lab in labs) + f"{'all':>11}"]
    for student, by_lab in cells.items():
        marks = "".join(f"{_mark([by_lab[lab]] if lab in by_lab else []):>11}" for lab in labs)
        lines.append(f"{_plain(student):{width}} {marks}{_mark(list(by_lab.values())):>11}")
    notes = [
        f"{_plain(row.graded.submission.student)}, lab {row.graded.submission.lab.key}: {row.note}"
        for row in results
        if row.note
    ]
    notes += [f"{_plain(student)} handed in no lab" for student in silent]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def _mark(found: Sequence[Row]) -> str:
    points = sum(sum(row.points.values()) for row in found)
    most = sum(sum(row.most.values()) for row in found)
    sign = "*" if any(row.note for row in found) else ""
    return f"{points:g}/{most:g}{sign}" if found else "-"


def _plain(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name)[:40]
