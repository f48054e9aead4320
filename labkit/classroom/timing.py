"""Seconds that each section of a lab takes its machine, written down while nbmake runs the labs.

As a pytest plugin (`-p labkit.classroom.timing`) it appends a JSON line for each notebook that ran to its end, to
`build/lab_times.jsonl` or where `LABKIT_LAB_TIMES` says. How long people read and think is not measured here.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from labkit.models.hardware import cpu_name, usable_cores

FILE = "build/lab_times.jsonl"
SETUP = "Setup"
_running: list[Path] = []


def pytest_configure() -> None:
    """Look at every notebook that nbclient has executed."""
    from nbclient import NotebookClient

    before = NotebookClient.execute

    def execute(self: Any, *args: Any, **keywords: Any) -> Any:
        done = before(self, *args, **keywords)
        if _running:
            append(_running[-1], self.nb)
        return done

    NotebookClient.execute = execute


def pytest_runtest_setup(item: Any) -> None:
    """Remember which notebook is next."""
    _running[:] = [Path(item.path)]


def append(lab: Path, notebook: Any) -> None:
    """Write one lab's sections with their seconds."""
    path = Path(os.environ.get("LABKIT_LAB_TIMES", FILE))
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {
        "lab": lab.stem,
        "build": "solution" if lab.parent.name == "solutions" else "student",
        "when": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": f"{cpu_name()}, {usable_cores()} cores",
        "sections": {name: round(seconds, 2) for name, seconds in sections(notebook).items()},
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(told) + "\n")


def sections(notebook: Any) -> dict[str, float]:
    """Add up the seconds of the code cells below each heading of the second level."""
    seconds, name = {SETUP: 0.0}, SETUP
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            name = heading(cell.source) or name
            seconds.setdefault(name, 0.0)
        else:
            times = cell.metadata.get("execution", {})
            ends = [times.get(key) for key in ("iopub.execute_input", "shell.execute_reply")]
            if all(ends):
                began, ended = (datetime.fromisoformat(end) for end in ends)
                seconds[name] += (ended - began).total_seconds()
    return seconds


def heading(text: str) -> str:
    """Return the last heading of the second level in a cell, "" without one."""
    found: list[str] = re.findall(r"^## (.+)$", text, re.MULTILINE)
    return found[-1].strip() if found else ""


def read(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the newest line of each lab and build; none where nothing was measured."""
    try:
        lines: Iterable[str] = path.read_text("utf-8").splitlines()
    except OSError:
        return {}
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    return {(row["lab"], row["build"]): row for row in rows}
