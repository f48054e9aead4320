"""A student's first minutes: lab 01 in a real JupyterLab, in a real browser."""

import shutil
from pathlib import Path

import pytest
from jupyter_app import ROOT, TOKEN, browser_page, run_notebook, serving, shoot

pytestmark = pytest.mark.heavy

LAB = "01_meet_your_machine.ipynb"


def test_lab_01_runs_from_top_to_bottom(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "labs", tmp_path / "labs")
    with serving(tmp_path) as url, browser_page() as page:
        page.goto(f"{url}/lab/tree/labs/{LAB}?token={TOKEN}&reset")
        try:
            run_notebook(page)
        finally:
            shoot(page, "lab01")
        assert page.locator(".jp-Dialog").count() == 0
