"""The book's pages hold what they should, and its link check finds what it is for."""

import shutil
import sys
from pathlib import Path

import nbformat
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "book"))
from links import problems
from reference import packages

from book import fingerprint, gather

ROOT = Path(__file__).parents[1]
GOOD = {
    "index.html": '<a href="labs/a.html#one">a</a> <a href="https://example.org/x">out</a> <img src="p.png">',
    "labs/a.html": '<h2 id="one">1</h2> <a href="#one">up</a> <a href="../index.html">home</a>',
    "p.png": "",
    "_static/s.css": "body { background: url(p.png) }",
}


def site(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


def test_a_good_site_has_no_problems(tmp_path: Path) -> None:
    assert problems(site(tmp_path, GOOD)) == []


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("index.html", '<a href="labs/b.html">b</a>', "index.html: labs/b.html is not there"),
        ("index.html", '<img src="q.png">', "index.html: q.png is not there"),
        (
            "index.html",
            '<a href="labs/a.html#two">',
            "index.html: labs/a.html#two: the page has no such place",
        ),
        ("labs/a.html", '<b id="one"></b><a href="#up">', "labs/a.html: #up: the page has no such place"),
        (
            "index.html",
            '<script src="https://cdn.example/x.js">',
            "index.html would load https://cdn.example/x.js",
        ),
        (
            "index.html",
            '<link rel="stylesheet" href="//cdn.example/x.css">',
            "index.html would load //cdn.example/x.css",
        ),
        ("_static/s.css", "@import 'https://fonts.example/f'", "_static/s.css would load from another host"),
    ],
)
def test_a_broken_site_has_one(tmp_path: Path, name: str, text: str, problem: str) -> None:
    assert problems(site(tmp_path, GOOD | {name: text})) == [problem]


def test_the_reference_has_every_public_module() -> None:
    text = "\n".join(packages(ROOT / "labkit").values())
    parts = (path.relative_to(ROOT).with_suffix("").parts for path in (ROOT / "labkit").rglob("*.py"))
    public = {".".join(p) for p in parts if p[1] != "cli" and not any(part.startswith("_") for part in p)}
    assert sorted(name for name in public if f".. automodule:: {name}\n" not in text) == []


LAB = "01_meet_your_machine.ipynb"


@pytest.fixture
def labs(tmp_path: Path) -> Path:
    """A folder with lab 01, and an Arabic one of other words and the same code."""
    for name in ("source/01_meet_your_machine.py", f"solutions/{LAB}", f"ar/{LAB}"):
        (tmp_path / "labs" / name).parent.mkdir(parents=True)
    shutil.copy(ROOT / "labs" / "source" / "01_meet_your_machine.py", tmp_path / "labs" / "source")
    shutil.copy(ROOT / "labs" / "solutions" / LAB, tmp_path / "labs" / "solutions")
    arabic = nbformat.read(ROOT / "labs" / LAB, as_version=4)
    arabic.cells[0].source = '<div dir="rtl">\n\n# جهازك\n\n</div>'
    nbformat.write(arabic, tmp_path / "labs" / "ar" / LAB)
    return tmp_path / "labs"


def run_of(labs: Path, runs: Path) -> None:
    """Write what a run leaves: a bar, a widget with its picture, and who ran it when."""
    notebook = nbformat.read(labs / "solutions" / LAB, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    bundle = {
        "application/vnd.jupyter.widget-view+json": {},
        "text/html": "<b>picture</b>",
        "text/plain": "words",
    }
    first.outputs = [
        nbformat.v4.new_output("stream", name="stdout", text="\r 50%|█    | 1/2\r100%|█████| 2/2"),
        nbformat.v4.new_output("display_data", data=bundle),
        nbformat.v4.new_output("stream", name="stdout", text="done 5%\n"),
    ]
    mark = {
        "fingerprint": fingerprint(labs / "solutions" / LAB),
        "day": "2026-01-01",
        "version": "1",
        "machine": "m",
    }
    notebook.metadata["labkit_run"] = {**mark, "seconds": 3}
    runs.mkdir()
    nbformat.write(notebook, runs / LAB)


def test_a_page_has_the_outputs_of_its_run(labs: Path, tmp_path: Path) -> None:
    run_of(labs, tmp_path / "runs")
    gather(tmp_path / "pages", labs, tmp_path / "runs")
    for folder in (tmp_path / "pages" / "labs", tmp_path / "pages" / "labs" / "ar"):
        page = nbformat.read(folder / LAB, as_version=4)
        first = next(cell for cell in page.cells if cell.cell_type == "code")
        assert [o.get("data") or o.text for o in first.outputs] == [
            {"text/html": "<b>picture</b>"},
            "done 5%\n",
        ]
        assert "took 3 s" in page.cells[1].source
        folded = [cell.source for cell in page.cells if "hide-input" in cell.metadata.get("tags", [])]
        assert len(folded) == 4 and not any("# YOUR CODE HERE" in source for source in folded)
    assert page.cells[0].source == "# جهازك"
    index = (tmp_path / "pages" / "index.md").read_text(encoding="utf-8")
    assert f"[01 · Meet your machine](labs/{LAB})\n  - 25" in index and "labs/ar/index" in index


def test_outputs_of_another_version_of_the_lab_are_not_shown(labs: Path, tmp_path: Path) -> None:
    run_of(labs, tmp_path / "runs")
    with (labs / "solutions" / LAB).open("a") as solution:
        solution.write("\n")
    gather(tmp_path / "pages", labs, tmp_path / "runs")
    page = nbformat.read(tmp_path / "pages" / "labs" / LAB, as_version=4)
    assert "has no outputs" in page.cells[1].source
    assert not any(cell.get("outputs") for cell in page.cells)
