"""What every lab has in common: its shape, its length, and notebooks that match their source."""

import json
import re
from pathlib import Path
from statistics import median

import pytest

from labkit.classroom.release import Cell, check, read, solution

ROOT = Path(__file__).parents[2]
LABS = sorted((ROOT / "labs" / "source").glob("[0-9][0-9]_*.py"))
NOTEBOOKS = sorted((ROOT / "labs").rglob("*.ipynb"))


def lines(cell: Cell) -> int:
    return sum(bool(line.strip()) for line in solution(cell.text).splitlines())


def bullets(text: str, after: str) -> list[str]:
    """Return the first bullet list below the phrase `after`."""
    parts = re.split(after, text, maxsplit=1, flags=re.IGNORECASE | re.MULTILINE)
    block = re.search(r"(?:^[-*] .*\n?(?:^  .*\n?)*)+", parts[-1] if len(parts) > 1 else "", re.MULTILINE)
    return re.split(r"^[-*] ", block[0], flags=re.MULTILINE)[1:] if block else []


def stems(text: str) -> set[str]:
    return {word[:5] for word in re.findall(r"[a-z]{4,}", text.lower())}


def text_problems(cells: list[Cell]) -> list[str]:
    text = "\n\n".join(c.text for c in cells if c.kind == "markdown")
    levels = [len(h) for h in re.findall(r"^(#+) ", text, re.MULTILINE)]
    able, recap = bullets(text, "you will be able to"), bullets(text, "^##+ Recap")
    rules = {
        "the first cell is the title": cells[0].text.startswith("# "),
        "one title": levels.count(1) == 1,
        "three sections at least": levels.count(2) >= 3,
        "no heading level is skipped": all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False)),
        "the opening gives the minutes": bool(re.search(r"\d+ minutes", cells[0].text + cells[1].text)),
        "one to four objectives": 1 <= len(able) <= 4,
        "the recap mirrors the objectives": len(able) == len(recap)
        and all(stems(a) & stems(b) for a, b in zip(able, recap, strict=True)),
    }
    return [rule for rule, holds in rules.items() if not holds]


def code_problems(cells: list[Cell]) -> list[str]:
    code = [c for c in cells if c.kind == "code"]
    text = "\n".join(c.text for c in code)
    solved = {
        name for c in code if "### BEGIN SOLUTION" in c.text for name in re.findall(r"(\w+)\.check\(", c.text)
    }
    rules = {
        "median cell of 4 lines at most": median(map(lines, code)) <= 4,
        "no cell over 12 lines": max(map(lines, code)) <= 12,
        "setup of 3 lines at most": lines(code[0]) <= 3,
        "three exercises with check()": len(set(re.findall(r"(\w+)\.check\(", text))) >= 3,
        "three solutions": text.count("### BEGIN SOLUTION") >= max(3, len(solved)),
        "no pip": not re.search(r"\bpip\b", text),
        "the last cell calls finish()": cells[-1].text.rstrip().endswith("finish()"),
    }
    return [rule for rule, holds in rules.items() if not holds]


@pytest.mark.parametrize("path", LABS, ids=[p.stem for p in LABS])
def test_lab_has_the_shape_of_a_lab(path: Path) -> None:
    cells = read(path)
    assert text_problems(cells) + code_problems(cells) == []


@pytest.mark.parametrize("path", LABS, ids=[p.stem for p in LABS])
def test_lab_has_its_checks(path: Path) -> None:
    assert (ROOT / "labkit" / "checks" / f"lab{path.stem[:2]}.py").is_file()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[p.relative_to(ROOT).as_posix() for p in NOTEBOOKS])
def test_notebook_is_committed_clean(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert "widgets" not in notebook["metadata"]
    code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    assert [c["id"] for c in code if c["outputs"] or c["execution_count"] is not None] == []


def test_notebooks_match_their_sources() -> None:
    assert check(ROOT) == []


GOOD = """# %% [markdown]
# # A lab
# *15 minutes.* You will be able to:
# - measure the speed of a model
# - name what
#   limits it
# ## One
# ## Two
# ## Three
# %%
q1, q2, q3 = begin("01")
# %%
### BEGIN SOLUTION
a = 1
### END SOLUTION
q1.check(a)
# %%
### BEGIN SOLUTION
b = 1
### END SOLUTION
q2.check(b)
# %%
### BEGIN SOLUTION
c = 1
### END SOLUTION
q3.check(c)
# %% [markdown]
# ## Recap
# - you measured its speed
# - you named the limit
# %%
finish()
"""


def problems(folder: Path, text: str) -> list[str]:
    path = folder / "01_trial.py"
    path.write_text(text)
    cells = read(path)
    return text_problems(cells) + code_problems(cells)


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("# ## One", "# # One", "one title"),
        ("# ## One", "# #### One", "no heading level is skipped"),
        ("15 minutes", "a while", "the opening gives the minutes"),
        ("# - you named the limit\n", "", "the recap mirrors the objectives"),
        ("q3.check(c)", "c", "three exercises with check()"),
        ("finish()", "pass", "the last cell calls finish()"),
        ("a = 1\n", "a = 1\n" * 13, "no cell over 12 lines"),
        ("q1.check(a)", "!pip install x", "no pip"),
    ],
)
def test_the_rules_themselves(tmp_path: Path, old: str, new: str, rule: str) -> None:
    assert problems(tmp_path, GOOD) == []
    assert rule in problems(tmp_path, GOOD.replace(old, new))
