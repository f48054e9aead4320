"""The book's first page and its order: parts of labs by their numbers, then what else there is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat

# The number of the first lab of each part.
PARTS = {1: "Agents and machines", 4: "Models and engines", 12: "Agents at work", 18: "In production"}


def index(front: str, pages: Path, sections: Mapping[str, Sequence[str]]) -> str:
    """Return the first page: `front` with its table of labs and with the trees of all pages."""
    labs = sorted(path.stem for path in (pages / "labs").glob("*.ipynb"))
    rows = [_row(pages / "labs" / f"{lab}.ipynb") for lab in labs]
    parts: dict[str, list[str]] = {caption: [] for caption in PARTS.values()}
    for lab in labs:
        number = int(lab[:2]) if lab[:2].isdigit() else 99  # an appendix stands last
        parts[PARTS[max(first for first in PARTS if first <= number)]].append(f"labs/{lab}")
    trees = [_tree(caption, names) for caption, names in {**parts, **sections}.items() if names]
    return front.replace("@LABS@", "\n".join(rows)).replace("@TREES@", "\n\n".join(trees))


def _tree(caption: str, names: Sequence[str]) -> str:
    return f"```{{toctree}}\n:hidden:\n:caption: {caption}\n" + "\n".join(names) + "\n```"


def _row(lab: Path) -> str:
    opening = nbformat.read(lab, as_version=4).cells[0].source
    title = opening.splitlines()[0].lstrip("# ")
    minutes = re.search(r"(\d+) minutes", opening)
    return f"* - [{title}](labs/{lab.name})\n  - {minutes[1] if minutes else ''}"
