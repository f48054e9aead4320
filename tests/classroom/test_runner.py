"""A lab runs in a kernel of its own, and what came out becomes one HTML file."""

import re
from pathlib import Path

import nbformat
import pytest

from labkit.classroom.runner import find_lab, labs_folder, run_lab, write_html
from labkit.errors import NotebookFailed

PICTURE = (
    'from IPython.display import SVG\nSVG(\'<svg xmlns="http://www.w3.org/2000/svg"><g id="dot"/></svg>\')'
)
WIDGET = """from IPython.display import display
view = {"application/vnd.jupyter.widget-view+json": {"model_id": "0"}, "text/html": "<b>a slider</b>"}
display(view, raw=True)"""


def write_lab(folder: Path, *cells: str, name: str = "01_trial") -> Path:
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# Trial: $x^2$"), *map(nbformat.v4.new_code_cell, cells)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return path


def test_run_reports_progress_and_seconds_and_leaves_the_lab_alone(tmp_path: Path) -> None:
    lab = write_lab(tmp_path, "import time; time.sleep(0.2)", "open('here.txt').read()")
    (tmp_path / "here.txt").write_text("read from the lab's own folder")
    before, seen = lab.read_bytes(), []
    run = run_lab(lab, progress=lambda done, total: seen.append((done, total)))
    assert run.ok and run.problem is None
    assert len(run.seconds) == 2 and run.seconds[0] >= 0.2
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert "own folder" in run.notebook.cells[2].outputs[0].data["text/plain"]
    assert lab.read_bytes() == before
    assert "2 cells" in repr(run)


def test_html_needs_no_network(tmp_path: Path) -> None:
    run = run_lab(write_lab(tmp_path, "print('plain text')", PICTURE, WIDGET))
    path = write_html(run, tmp_path / "out")
    text = path.read_text(encoding="utf-8")
    assert path == tmp_path / "out" / "01_trial.html"
    assert "plain text" in text and 'id="dot"' in text and "<b>a slider</b>" in text
    fetched = re.findall(
        r"""(?:src|href)=["']?(?:https?:)?//|url\(["' ]*https?:|@import|import\(|fetch\(""", text
    )
    assert fetched == []
    assert [p.name for p in path.parent.iterdir()] == ["01_trial.html"]


def test_failing_cell_is_named_and_ends_the_run(tmp_path: Path) -> None:
    lab = write_lab(tmp_path, "a = 1", "\nb = a / 0\nb", "print('never')")
    run = run_lab(lab)
    assert not run.ok and len(run.seconds) == 2
    assert "01_trial.ipynb stopped at cell 3: b = a / 0" in str(run.problem)
    assert "ZeroDivisionError: division by zero" in str(run.problem)
    html = write_html(run, tmp_path).read_text(encoding="utf-8")
    assert "ZeroDivisionError" in html, "the page shows how far it came"


def test_cell_that_does_not_end_is_stopped(tmp_path: Path) -> None:
    run = run_lab(write_lab(tmp_path, "import time; time.sleep(60)"), timeout=1)
    assert run.problem and "no end after 1 s" in run.problem.what
    assert "--timeout" in run.problem.fix


def test_kernel_that_dies_is_reported(tmp_path: Path) -> None:
    run = run_lab(write_lab(tmp_path, "import os; os._exit(1)"))
    assert run.problem and "its Python died" in run.problem.what


def test_strict_reaches_the_kernel(tmp_path: Path) -> None:
    lab = write_lab(tmp_path, "import os\nassert os.environ['LABKIT_STRICT'] == '1'")
    assert run_lab(lab, strict=True).ok


@pytest.mark.parametrize("text", ["", "{}", '{"cells": 3, "nbformat": 4}', "not json"])
def test_file_that_is_no_notebook_is_refused(tmp_path: Path, text: str) -> None:
    lab = tmp_path / "01_bad.ipynb"
    lab.write_text(text)
    with pytest.raises(NotebookFailed, match="01_bad.ipynb cannot be read"):
        run_lab(lab)


@pytest.fixture
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_lab(tmp_path / "labs", name="01_first")
    write_lab(tmp_path / "labs", name="12_last")
    write_lab(tmp_path / "labs", name="my notes")
    write_lab(tmp_path / "labs" / "solutions", name="01_first")
    monkeypatch.delenv("LABKIT_LABS", raising=False)
    return tmp_path / "labs"


@pytest.mark.parametrize("name", ["1", "01", "01_first", "01_first.ipynb"])
def test_lab_is_found_by_number_or_name(labs: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("LABKIT_LABS", str(labs))
    assert find_lab(name) == labs / "01_first.ipynb"
    assert find_lab(name, solution=True) == labs / "solutions" / "01_first.ipynb"


def test_lab_is_found_by_path(labs: Path) -> None:
    assert find_lab(str(labs / "my notes.ipynb")) == labs / "my notes.ipynb"


def test_labs_are_looked_for_here_and_in_labs(labs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (labs, labs.parent):
        monkeypatch.chdir(folder)
        assert labs_folder() == labs


@pytest.mark.parametrize("name", ["99", "1*", "../01_first", ""])
def test_unknown_lab_names_those_that_exist(labs: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("LABKIT_LABS", str(labs))
    with pytest.raises(NotebookFailed, match="01_first, 12_last"):
        find_lab(name)


def test_folder_without_labs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_LABS", str(tmp_path / "nowhere"))
    with pytest.raises(NotebookFailed, match="nowhere"):
        labs_folder()
