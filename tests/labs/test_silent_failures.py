"""Failures that nbmake lets pass, with and without `labkit.testing.finish()` in the last cell.

Every notebook here is real and runs in a real kernel.
"""

import os
import subprocess
import sys
from pathlib import Path

from labkit.classroom.release import release

WATCH = "from labkit.testing import finish, watch\nwatch()"
IMPORTS = """
import asyncio, sys, threading
from ipywidgets import Output, interact
async def fail():
    raise ValueError("lost")
"""

SILENT = {
    "output widget: AssertionError: in with": "with Output():\n    assert 1 == 2, 'in with'",
    "output widget: ZeroDivisionError": "interact(lambda x: 1 / 0, x=3);",
    "thread worker: ZeroDivisionError": "threading.Thread(target=lambda: 1 / 0, name='worker').start()",
    "task nobody awaited: ValueError: lost": "asyncio.create_task(fail());",
    "task held, which nobody awaited: ValueError": "task = asyncio.create_task(fail(), name='held')",
}

FINE = [
    "caught = asyncio.create_task(fail())\ntry:\n    await caught\nexcept ValueError:\n    pass",
    "with Output():\n    try:\n        1 / 0\n    except ZeroDivisionError:\n        pass",
    "asyncio.create_task(asyncio.sleep(9)).cancel();",
    "threading.Thread(target=sys.exit).start()",
    "watch()",
]

STAND_IN = """
import sys, types
core = types.SimpleNamespace(unfinished=lambda: ["q2"])
sys.modules["labkit.checks.core"] = core
"""


def nbmake(folder: Path, *cells: str, **environment: str) -> tuple[int, str]:
    source = folder / "labs" / "source" / "01_trial.py"
    source.parent.mkdir(parents=True)
    source.write_text("".join(f"# %%\n{cell}\n\n" for cell in cells))
    release(folder)
    notebook = folder / "labs" / "solutions" / "01_trial.ipynb"
    pytest = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", folder]
    command = [*pytest, "-p", "labkit.classroom.wakeup", "--nbmake", notebook]
    settings = {k: v for k, v in os.environ.items() if k != "LABKIT_STRICT"} | environment
    done = subprocess.run(command, capture_output=True, text=True, env=settings, cwd=folder)
    return done.returncode, done.stdout + done.stderr


def test_jupyter_keeps_quiet(tmp_path: Path) -> None:
    code, output = nbmake(tmp_path, WATCH, IMPORTS, *SILENT.values(), "pass")
    assert code == 0, output


def test_finish_does_not(tmp_path: Path) -> None:
    code, output = nbmake(tmp_path, WATCH, IMPORTS, *SILENT.values(), "finish()")
    assert code == 1
    assert f"{len(SILENT)} silent failures" in output
    assert [name for name in SILENT if name not in output] == []


def test_what_is_no_failure_stays_green(tmp_path: Path) -> None:
    code, output = nbmake(tmp_path, WATCH, IMPORTS, *FINE, "finish()")
    assert code == 0, output


def test_strict_mode_fails_on_an_unsolved_exercise(tmp_path: Path) -> None:
    code, output = nbmake(tmp_path / "student", WATCH, STAND_IN, "finish()")
    assert code == 0, output
    code, output = nbmake(tmp_path / "strict", WATCH, STAND_IN, "finish()", LABKIT_STRICT="1")
    assert code == 1 and "q2 is not solved" in output


def test_a_cell_mended_and_run_again_no_longer_counts() -> None:
    script = """
from IPython.core.interactiveshell import InteractiveShell
run = InteractiveShell.instance().run_cell
run("from labkit.testing import finish, watch; watch(); import ipywidgets", cell_id="a")
run("with ipywidgets.Output(): 1 / 0", cell_id="b")
run("1 / 0", cell_id="c")  # an ordinary error is no silent one
assert "1 silent failure" in str(run("finish()", cell_id="d").error_in_exec)
run("with ipywidgets.Output(): 1 / 0", cell_id="b")
run("with ipywidgets.Output(): 1 / 1", cell_id="b")
assert run("finish()", cell_id="d").success
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
