"""What an instructor reads: made from the labs and their checks, the same each time, and honest about its minutes."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from labkit.classroom import mistakes, pack, timing
from labkit.classroom.mistakes import questions
from labkit.classroom.slides import deck, slides
from labkit.errors import OptionInvalid

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "labs").glob("*.ipynb"))
CHECKS = """
from labkit.checks.core import Exercises, Wrong

lab = Exercises("99")
ASK = {"up": "a larger box costs more", "down": "a smaller box is enough"}


def _number(value):
    if not isinstance(value, int):
        raise Wrong(f"give a number, not {value!r}")


def _size(value):
    "Judge it by what it is."
    _number(value)
    near = {1: "that is seconds per token: turn it over"}
    if value in near:
        raise Wrong(near[value])
    if value > 7:
        raise Wrong(ASK["up"])
    return "well done, all of it"


q1 = lab.add(_size, hints=("count <them>", "once more"), code="a = 1")
"""


@pytest.fixture(scope="module")
def found() -> list[pack.Lab]:
    return pack.labs(ROOT / "labs")


def test_every_lab_says_what_a_pack_needs(found: list[pack.Lab]) -> None:
    assert [lab.path for lab in found] == FILES
    for lab in found:
        assert lab.minutes and lab.needs and lab.objectives and lab.title, lab.path
        assert sum(section.minutes for section in lab.sections) == pytest.approx(lab.minutes)
        asked = [name for section in lab.sections for name in section.exercises]
        assert sorted(asked) == sorted(question.name for question in questions(lab.number)), lab.path


def test_checks_tell_their_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab99.py").write_text(CHECKS)
    monkeypatch.setattr(mistakes.labkit.checks, "__path__", [str(tmp_path)])
    (one,) = questions("99")
    assert one == mistakes.Question(
        "q1",
        (
            "a larger box costs more",
            "a smaller box is enough",
            "that is seconds per token: turn it over",
            "give a number, not …",
        ),
        ("count <them>", "once more"),
        "a = 1",
    )
    assert questions("98") == []


def test_most_checks_have_something_to_say(found: list[pack.Lab]) -> None:
    asked = [question for lab in found for question in questions(lab.number)]
    silent = [question.name for question in asked if not question.mistakes]
    assert len(silent) <= len(asked) // 20
    assert all(question.hints and question.code for question in asked)


def test_the_same_labs_give_the_same_pack(tmp_path: Path, found: list[pack.Lab]) -> None:
    for name in ("a", "b"):
        written = pack.write(tmp_path / name, found[:2], {})
    texts = [
        [(tmp_path / name / p.relative_to(tmp_path / "b")).read_bytes() for p in written]
        for name in ("a", "b")
    ]
    assert texts[0] == texts[1]
    assert "not measured" in (tmp_path / "a" / "README.md").read_text()


def test_measured_seconds_are_shown_beside_the_estimate(found: list[pack.Lab]) -> None:
    lab = found[0]
    seconds = {section.title: 1.5 for section in lab.sections}
    row = {
        "lab": lab.path.stem,
        "build": "solution",
        "machine": "a box",
        "when": "2026-01-02",
        "sections": seconds,
    }
    times = {(lab.path.stem, "solution"): row}
    assert f"| {lab.minutes} | {1.5 * len(seconds):.0f} |" in pack.overview([lab], times)
    assert "Measured on: a box, 2026-01-02." in pack.overview([lab], times)
    assert pack.page(lab, times).count("| 1.5 |") == len(seconds)


@pytest.mark.parametrize(
    ("name", "most"), [("Half a day", 13 * 60), ("One day", 17 * 60), ("Two days", 17 * 60)]
)
def test_routes_fit_into_their_days(found: list[pack.Lab], name: str, most: int) -> None:
    known = {lab.number: lab for lab in found}
    for day in pack.ROUTES[name]:
        assert set(day) <= known.keys()
        lines = pack.timetable([known[number] for number in day])
        ends = [int(line[6:8]) * 60 + int(line[9:11]) for line in lines]
        assert ends == sorted(ends) and ends[-1] <= most
    assert f"## {name}" in pack.routes(found)


def test_text_does_not_become_markup() -> None:
    assert pack._plain("a <tool_call>\n  and *b*") == "a \\<tool\\_call> and \\*b\\*"


def test_slides_show_headings_and_code_and_keep_prose_for_the_speaker() -> None:
    cells = deck(FILES[0]).cells
    kinds = [cell.metadata.slideshow.slide_type for cell in cells]
    assert kinds[0] == "slide" and {"slide", "subslide", "notes", "skip"} == set(kinds)
    shown = [cell.source for cell, kind in zip(cells, kinds, strict=True) if kind in ("slide", "subslide")]
    assert not any("finish()" in text or text.startswith("# q1.hint()") for text in shown)
    assert len({cell.id for cell in cells}) == len(cells)


def test_slides_need_nothing_but_reveal_js() -> None:
    text = slides(FILES[0], reveal="reveal.js")
    assert 'src="reveal.js/dist/reveal.js"' in text and 'class="notes"' in text
    assert 'href="reveal.js/dist/theme/white.css"' in text
    assert 'src="http' not in text and 'href="http' not in text and "require(" not in text
    with pytest.raises(OptionInvalid):
        slides(FILES[0], reveal='"><script>')


@pytest.mark.timeout(600)
def test_nbmake_runs_are_timed_by_section(tmp_path: Path) -> None:
    cells = [
        nbformat.v4.new_code_cell("a = 1"),
        nbformat.v4.new_markdown_cell("# Title\n\n## One"),
        nbformat.v4.new_code_cell("import time; time.sleep(0.5)"),
        nbformat.v4.new_markdown_cell("## Two"),
        nbformat.v4.new_code_cell("a + 1"),
    ]
    (tmp_path / "solutions").mkdir()
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, tmp_path / "solutions" / "01_a.ipynb")
    plugins = ["-p", "no:warnings", "-p", "labkit.classroom.wakeup", "-p", "labkit.classroom.timing"]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, "--nbmake", "solutions/01_a.ipynb"]
    subprocess.run([*command, "-c", "/dev/null", "--rootdir", "."], cwd=tmp_path, check=True)
    path = tmp_path / timing.FILE
    row = timing.read(path)["01_a", "solution"]
    assert list(row["sections"]) == [timing.SETUP, "One", "Two"]
    assert 0.5 <= row["sections"]["One"] and row["sections"]["Two"] < row["sections"]["One"]
    with path.open("a") as file:
        file.write('{"cut o')
    assert json.dumps(timing.read(path)["01_a", "solution"]) == json.dumps(row)
    assert timing.read(tmp_path / "none") == {}
