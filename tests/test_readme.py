"""What README.md says is there, is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_path_in_the_tree_exists() -> None:
    tree = README.split("## What is where")[1].split("```")[1]
    folder, missing = "", []
    for line in tree.strip().splitlines():
        path = line.split()[0]
        if not line.startswith(" "):
            folder = path if path.endswith("/") else ""
        where = ROOT / (folder + path if line.startswith(" ") else path)
        missing += [] if where.exists() else [path]
    assert missing == []


def test_every_lab_is_in_the_table() -> None:
    named = set(re.findall(r"^\| `(\w+)`", README, re.MULTILINE))
    assert named == {p.stem for p in (ROOT / "labs" / "source").glob("*.py")}
