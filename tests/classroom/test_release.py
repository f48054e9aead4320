"""One source, three notebooks."""

import json
from pathlib import Path

import nbformat
import pytest

from labkit.classroom.release import check, read, release
from labkit.errors import NotebookFailed

SOURCE = '''"""Notes for authors: above the first cell, so in no notebook."""
# %% [markdown]
# # A trial
#
# - one bullet

# %% tags=["setup"]
x = 1

# %%
### BEGIN SOLUTION
share = 0.5
label: str = "half"
### END SOLUTION
q1.check(share)

# %%
def double(n):
    """Return n twice."""
    ### BEGIN SOLUTION
    twice = 2 * n
    return twice
    ### END SOLUTION

# %%
### BEGIN HIDDEN TESTS
assert double(4) == 8
### END HIDDEN TESTS

# %%
x = 1
'''


@pytest.fixture
def root(tmp_path: Path) -> Path:
    source = tmp_path / "labs" / "source" / "01_trial.py"
    source.parent.mkdir(parents=True)
    source.write_text(SOURCE, encoding="utf-8")
    release(tmp_path)
    return tmp_path


def sources(path: Path) -> list[str]:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return [cell.source for cell in notebook.cells]


def test_student_gets_no_solution_and_no_hidden_test(root: Path) -> None:
    assert sources(root / "labs" / "01_trial.ipynb") == [
        "# A trial\n\n- one bullet",
        "x = 1",
        "# YOUR CODE HERE\nshare = ...\nlabel = ...\nq1.check(share)",
        'def double(n):\n    """Return n twice."""\n    # YOUR CODE HERE\n    ...',
        "x = 1",
    ]


def test_solution_keeps_the_code_and_loses_the_markers(root: Path) -> None:
    cells = sources(root / "labs" / "solutions" / "01_trial.ipynb")
    assert cells[2] == 'share = 0.5\nlabel: str = "half"\nq1.check(share)'
    assert cells[4] == "assert double(4) == 8"
    assert not any("###" in cell for cell in cells)


def test_instructor_build_is_ready_for_nbgrader(root: Path, tmp_path: Path) -> None:
    [path] = release(root, tmp_path / "instructor")
    cells = nbformat.read(path, as_version=4).cells
    assert cells[2].source.endswith("### END SOLUTION") and cells[3].source == "q1.check(share)"
    assert "### BEGIN HIDDEN TESTS" in cells[5].source
    flags = [
        (c.metadata.nbgrader.grade, c.metadata.nbgrader.solution, c.metadata.nbgrader.locked) for c in cells
    ]
    graded, solution = (True, False, True), (False, True, False)
    assert flags[2:6] == [solution, graded, solution, graded]
    assert len({c.metadata.nbgrader.grade_id for c in cells}) == len(cells)


def test_notebooks_are_clean_and_name_their_kernel(root: Path) -> None:
    text = (root / "labs" / "01_trial.ipynb").read_text(encoding="utf-8")
    notebook = json.loads(text)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["cells"][1]["metadata"] == {"tags": ["setup"]}
    assert all(not c.get("outputs") and c.get("execution_count") is None for c in notebook["cells"])
    assert text.endswith("}\n") and not text.endswith("\n\n")


def test_the_same_source_gives_the_same_bytes(root: Path) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*.ipynb")}
    release(root)
    assert before == {path: path.read_bytes() for path in root.rglob("*.ipynb")}
    ids = [cell.id for cell in read(root / "labs" / "source" / "01_trial.py")]
    assert len(set(ids)) == len(ids), "two equal cells need two ids"


def test_check_names_what_is_stale_missing_or_left_over(root: Path) -> None:
    assert check(root) == []
    labs = root / "labs"
    (labs / "01_trial.ipynb").write_text("{}")
    (labs / "solutions" / "01_trial.ipynb").unlink()
    (labs / "02_gone.ipynb").write_text("{}")
    (labs / "my notes.ipynb").write_text("{}")
    assert check(root) == [
        "labs/01_trial.ipynb differs from its source: run `labkit release`",
        "labs/solutions/01_trial.ipynb is missing: run `labkit release`",
        "labs/02_gone.ipynb has no source: delete it",
    ]


@pytest.mark.parametrize(
    "cell",
    [
        "### BEGIN SOLUTION\nx = 1",
        "### END SOLUTION",
        "### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION",
        "### BEGIN SOLUTION\n### END HIDDEN TESTS",
    ],
)
def test_markers_out_of_place_are_refused(tmp_path: Path, cell: str) -> None:
    source = tmp_path / "01_bad.py"
    source.write_text(f"# %%\n{cell}\n")
    with pytest.raises(NotebookFailed, match="01_bad.py"):
        read(source)
