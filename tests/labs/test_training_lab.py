"""Lab 17 where torch is installed: `make notebooks` runs it without, on its recording."""

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'labkit[train]'")

from labkit.classroom.runner import run_lab
from labkit.training.school import HERE

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]
LABS = Path(__file__).parents[2] / "labs"


@pytest.mark.parametrize("solved", [False, True], ids=["student", "solution"])
def test_it_trains_where_there_is_torch(solved: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert HERE, "the extra `train` is installed in part only"
    monkeypatch.setenv("CI", "true")  # the small budget
    lab = LABS / ("solutions" if solved else "") / "17_training_agents.ipynb"
    run = run_lab(lab, timeout=600, strict=solved)
    if run.problem:
        raise run.problem
    print(f"{lab.parent.name}: {sum(run.seconds):.0f} s, the slowest cell {max(run.seconds):.0f} s")
    said = [out["text"] for cell in run.notebook.cells for out in cell.get("outputs", ()) if "text" in out]
    text = "".join(said)
    assert "measured here: 6 steps" in text and "recorded" not in text
    assert "onnx      int4" in text and "stage: " in text
