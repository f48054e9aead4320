"""Make notebooks from their percent-format sources: `labs/source/NN_name.py` → `labs/*.ipynb`.

Three builds from one source, with nbgrader's markers. The student's has `...` between `### BEGIN SOLUTION`
and `### END SOLUTION`, and no `### BEGIN HIDDEN TESTS` regions. The solution's keeps both and loses only the
markers. The instructor's keeps the markers too, carries nbgrader's cell metadata, and has each check in a locked
cell of its own.

The same source always gives the same bytes: no outputs, no times, cell ids made from the content.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

from labkit.classroom import translations
from labkit.errors import NotebookFailed

CELL = re.compile(r"# %%(?P<markdown> \[markdown\])?(?: tags=(?P<tags>\[.*\]))?\s*$")
MARKER = re.compile(r"\s*### (?P<edge>BEGIN|END) (?P<what>SOLUTION|HIDDEN TESTS)\s*$")
LAB = re.compile(r"(\d\d|appendix)_\w+\.ipynb")
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


@dataclass(frozen=True, slots=True)
class Cell:
    """Hold one cell as its source has it: markers in, comment signs of markdown out."""

    kind: str
    text: str
    tags: tuple[str, ...]
    id: str
    line: int


def release(root: Path, instructor: Path | None = None) -> list[Path]:
    """Write all student and solution notebooks under `root/labs`, or the instructor's into a folder."""
    written = []
    for path, text in _notebooks(root, instructor).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
        written.append(path)
    return written


def check(root: Path) -> list[str]:
    """Say what is stale, missing or left over in `root/labs`; an empty list means nothing is."""
    expected = _notebooks(root)
    problems = []
    for path, text in expected.items():
        name = path.relative_to(root).as_posix()
        if not path.exists():
            problems.append(f"{name} is missing: run `labkit release`")
        elif path.read_text(encoding="utf-8") != text:
            problems.append(f"{name} differs from its source: run `labkit release`")
    problems += [p for path, source in _translations(root) for p in translations.stale(read(source), path)]
    for folder in sorted({path.parent for path in expected}):
        for path in sorted(folder.glob("*.ipynb")):
            # A notebook of the student's own, under any other name, is nobody's business.
            if LAB.fullmatch(path.name) and path not in expected:
                problems.append(f"{path.relative_to(root).as_posix()} has no source: delete it")
    return problems


def _notebooks(root: Path, instructor: Path | None = None) -> dict[Path, str]:
    made = {}
    for source in sorted((root / "labs" / "source").glob("*.py")):
        cells = read(source)
        name = f"{source.stem}.ipynb"
        if instructor:
            made[instructor / name] = _render(cells, str, nbgrader=True)
        else:
            made[root / "labs" / name] = _render(cells, student)
            made[root / "labs" / "solutions" / name] = _render(cells, solution)
    for path, source in [] if instructor else _translations(root):
        language = path.parent.name
        cells = translations.translate(read(source), path)
        made[root / "labs" / language / f"{source.stem}.ipynb"] = _render(cells, student, language=language)
    return made


def untranslated(root: Path) -> Iterator[str]:
    """Yield what a translator has to do: ids and new English texts of all cells that changed or are missing."""
    for path, source in _translations(root):
        yield from filter(None, [translations.todo(read(source), path)])


def _translations(root: Path) -> list[tuple[Path, Path]]:
    return [pair for folder in translations.folders(root) for pair in translations.sources(root, folder)]


def read(source: Path) -> list[Cell]:
    """Split a percent-format file into cells; what stands above the first `# %%` belongs to no cell."""
    cells: list[Cell] = []
    lines = source.read_text(encoding="utf-8").splitlines()
    starts = [(n, m) for n, line in enumerate(lines) if (m := CELL.match(line))]
    ends = [n for n, _ in starts[1:]] + [len(lines)]
    for (start, match), end in zip(starts, ends, strict=True):
        body = lines[start + 1 : end]
        kind = "markdown" if match["markdown"] else "code"
        if kind == "markdown":
            body = [re.sub(r"^# ?", "", line) for line in body]
        text = "\n".join(body).strip("\n").rstrip()
        tags = tuple(json.loads(match["tags"] or "[]"))
        cells.append(Cell(kind, text, tags, _id(kind, text, cells), start + 1))
        _check_markers(source, cells[-1])
    return cells


def _id(kind: str, text: str, earlier: list[Cell]) -> str:
    repeats = sum(cell.kind == kind and cell.text == text for cell in earlier)
    return hashlib.sha256(f"{kind}\n{text}\n{repeats}".encode()).hexdigest()[:12]


def _check_markers(source: Path, cell: Cell) -> None:
    opened = ""
    for number, line in enumerate(cell.text.splitlines(), cell.line + 1):
        if not (marker := MARKER.match(line)):
            continue
        if (marker["edge"] == "BEGIN") == bool(opened) or (opened and marker["what"] != opened):
            raise NotebookFailed(
                f"{source.name}, near line {number}: {line.strip()} is out of place",
                fix="pair every ### BEGIN with an ### END in the same cell",
            )
        opened = marker["what"] if marker["edge"] == "BEGIN" else ""
    if opened:
        raise NotebookFailed(
            f"{source.name}, line {cell.line}: a cell has ### BEGIN {opened} without its END",
            fix="add the END line to that cell",
        )


def student(text: str) -> str:
    """Return a cell as students get it: solutions replaced, hidden tests removed."""
    kept = []
    for what, lines in _regions(text):
        if what == "SOLUTION":
            kept += _placeholder("\n".join(lines))
        elif not what:
            kept += lines
    return "\n".join(kept).strip("\n")


def solution(text: str) -> str:
    """Return a cell with its code kept and its markers gone."""
    return "\n".join(line for line in text.splitlines() if not MARKER.match(line)).strip("\n")


def _regions(text: str) -> Iterator[tuple[str, list[str]]]:
    what = ""
    lines: list[str] = []
    for line in text.splitlines():
        if marker := MARKER.match(line):
            yield what, lines
            what, lines = (marker["what"] if marker["edge"] == "BEGIN" else ""), []
        else:
            lines.append(line)
    yield what, lines


def _placeholder(code: str) -> list[str]:
    """Put `name = ...` for every name the solution binds, so that cells below still run unsolved."""
    margin = code[: len(code) - len(code.lstrip())].rpartition("\n")[2]
    names = _bound(dedent(code)) if not margin else []
    body = "\n".join(["# YOUR CODE HERE", *([f"{name} = ..." for name in names] or ["..."])])
    return indent(body, margin).splitlines()


def _bound(code: str) -> list[str]:
    names = []
    for node in ast.parse(code).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names += [n.id for t in targets if t for n in ast.walk(t) if isinstance(n, ast.Name)]
        names += [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
    return list(dict.fromkeys(names))


def _parts(cell: Cell) -> list[Cell]:
    """Cut a solution from the check below it: nbgrader then locks the check and counts it by itself."""
    before, end, after = cell.text.rpartition("### END SOLUTION\n")
    if not end or ".check(" not in after:
        return [cell]
    check = replace(cell, text=after.strip("\n"), id=_id(cell.kind, f"{cell.id} check", []))
    return [replace(cell, text=(before + end).rstrip()), check]


def _render(
    cells: list[Cell], build: Callable[[str], str], nbgrader: bool = False, language: str = ""
) -> str:
    if nbgrader:
        cells = [part for cell in cells for part in _parts(cell)]
    metadata: dict[str, Any] = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    notebook = {
        "cells": [_json(c, build(c.text), nbgrader) for c in cells if build(c.text)],
        "metadata": metadata | ({"labkit": {"language": language}} if language else {}),
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _json(cell: Cell, text: str, nbgrader: bool) -> dict[str, Any]:
    metadata: dict[str, Any] = {"tags": list(cell.tags)} if cell.tags else {}
    if nbgrader:
        metadata["nbgrader"] = _nbgrader(cell)
    made = {"cell_type": cell.kind, "id": cell.id, "metadata": metadata, "source": text.splitlines(True)}
    return made | ({"execution_count": None, "outputs": []} if cell.kind == "code" else {})


def _nbgrader(cell: Cell) -> dict[str, Any]:
    # A cell that holds a check is worth a point. Autograding runs it with LABKIT_STRICT=1, so that it raises.
    is_code = cell.kind == "code"
    solved = is_code and "### BEGIN SOLUTION" in cell.text
    graded = is_code and (".check(" in cell.text or "### BEGIN HIDDEN TESTS" in cell.text)
    flags = {"grade": graded, "solution": solved, "locked": not solved, "task": False}
    return flags | {"grade_id": f"cell-{cell.id}", "schema_version": 3} | ({"points": 1} if graded else {})
