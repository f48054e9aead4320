"""Find what was handed in, and what it is to be asked: notebooks are read as data, by their published originals.

A course's folder is `DIR/STUDENT/…/NN_name.ipynb`, where NN_name is a published lab. Only that file counts: what lies
beside it is not there when it is graded. Links are not followed.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.errors import NotebookFailed

MOST_BYTES = 20_000_000  # of a notebook handed in
MOST_CELLS = 2_000


@dataclass(frozen=True, slots=True)
class Question:
    """Name one question of a lab: its exercise, the cell that asks it, and the values that answer it."""

    name: str
    module: str
    exercise: str
    cell: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lab:
    """Hold a published lab: its file's stem, its key ("01"), and its questions in order."""

    stem: str
    key: str
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Submission:
    """Name one notebook that a student handed in."""

    student: str
    lab: Lab
    path: Path


def read_lab(path: Path) -> Lab:
    """Read a published notebook: each `name.check(answers)` on a line of its own, `name` from a module of checks."""
    origin: dict[str, tuple[str, str]] = {}
    questions = []
    for cell in code_cells(path):
        for node in _statements(cell["source"]):
            if isinstance(node, ast.ImportFrom) and node.module:
                origin |= {a.asname or a.name: (node.module, a.name) for a in node.names}
            if (call := _asks(node)) and (name := call.func.value.id) in origin:
                answers = tuple(ast.unparse(answer) for answer in call.args)
                questions.append(Question(name, *origin[name], cell["id"], answers))
    return Lab(path.stem, path.stem.partition("_")[0], tuple(questions))


def _statements(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(source).body
    except SyntaxError:  # a cell with a %magic asks nothing
        return []


def _asks(node: ast.stmt) -> Any:
    """Return the call in a line that is `name.check(…)`, else None."""
    call = node.value if isinstance(node, ast.Expr) else None
    function = call.func if isinstance(call, ast.Call) else None
    if (
        isinstance(function, ast.Attribute)
        and function.attr == "check"
        and isinstance(function.value, ast.Name)
    ):
        return call
    return None


def code_cells(path: Path) -> list[dict[str, str]]:
    """Return the id and source of a notebook's code cells; raise `NotebookFailed` if the file is no notebook."""
    try:
        if path.is_symlink() or path.stat().st_size > MOST_BYTES:
            raise ValueError("a link, or too large")
        cells = json.loads(path.read_text("utf-8"))["cells"][:MOST_CELLS]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        return [{"id": str(cell.get("id", "")), "source": "".join(cell["source"])} for cell in code]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise NotebookFailed(
            f"{path} cannot be read as a notebook ({exc})", fix="ask for the .ipynb file"
        ) from exc


def find(folder: Path, labs: dict[str, Lab]) -> Iterator[Submission]:
    """Yield what was handed in, by student and lab; a student has one notebook for each lab."""
    if not folder.is_dir():
        raise NotebookFailed(
            f"there is no folder {folder}", fix="labkit grade DIR, with DIR/STUDENT/NN_name.ipynb"
        )
    for home in sorted(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink()):
        seen: dict[str, Path] = {}
        for path in sorted(home.rglob("*.ipynb")):
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            if path.stem not in labs or hidden or not _inside(path, home):
                continue
            if path.stem in seen:
                raise NotebookFailed(
                    f"{home.name} has {path.name} twice: {seen[path.stem]} and {path}",
                    fix="delete one of them",
                )
            seen[path.stem] = path
            yield Submission(home.name, labs[path.stem], path)


def _inside(path: Path, home: Path) -> bool:
    return not path.is_symlink() and path.resolve().is_relative_to(home.resolve())


def plan(submission: Submission) -> dict[str, Any]:
    """Return the cells to run, each with the questions that are judged after it.

    A question's cell is known by its id; where a program has given cells new ids, by the last cell that asks it. A
    notebook that has lost the cell has not answered.
    """
    cells: list[dict[str, Any]] = [{**cell, "questions": []} for cell in code_cells(submission.path)]
    for question in submission.lab.questions:
        asks = re.compile(rf"^\s*{re.escape(question.name)}\.check\(", re.M)
        same = [cell for cell in cells if cell["id"] == question.cell]
        places = same or [cell for cell in cells if asks.search(cell["source"])]
        if places:
            places[-1]["questions"].append(
                {
                    "name": question.name,
                    "module": question.module,
                    "exercise": question.exercise,
                    "answers": question.answers,
                }
            )
    return {"lab": submission.lab.key, "cells": cells}
