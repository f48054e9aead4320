"""A crash in a child process becomes a sentence; nothing is left running."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from labkit.errors import ModelFileInvalid
from labkit.models.trial import run_in_child

MODULES = {
    "loads": "import sys; print('loaded', sys.argv[1:])",
    "crashes": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "aborts": "import os; print('terminate called', flush=True); os.abort()",
    "fails": "import sys; sys.exit('bad magic')",
    "hangs": "import time; time.sleep(600)",
    "floods": "import sys\nwhile True: print('x' * 100000)",
    "writes": "print('y' * 5_000_000)",
    "spawns": "import subprocess, sys, time\nnap = 'import time; time.sleep(600)'\n"
    "subprocess.Popen([sys.executable, '-c', nap, 'labkit-grandchild'])\ntime.sleep(600)",
}


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, code in MODULES.items():
        (tmp_path / f"trial_{name}.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def test_a_module_that_loads_reports_back() -> None:
    assert run_in_child("trial_loads", ["a.gguf", "b"], 20) == "loaded ['a.gguf', 'b']\n"


@pytest.mark.parametrize(
    ("name", "reason"), [("crashes", "SIGSEGV"), ("aborts", "SIGABRT"), ("fails", "bad magic")]
)
def test_a_crash_is_a_sentence(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileInvalid, match=reason) as caught:
        run_in_child(f"trial_{name}", ["a.gguf"], 20)
    assert "a.gguf" in str(caught.value) and caught.value.fix
    assert not list(tmp_path.glob("core*"))


def test_a_hang_ends_at_the_deadline() -> None:
    start, before = time.monotonic(), psutil.Process().children()
    with pytest.raises(ModelFileInvalid, match="longer than 0.5 s"):
        run_in_child("trial_hangs", ["a.gguf"], 0.5)
    assert time.monotonic() - start < 2
    assert psutil.Process().children() == before


def test_a_flood_of_output_costs_no_memory() -> None:
    memory = psutil.Process().memory_info().rss
    with pytest.raises(ModelFileInvalid):
        run_in_child("trial_floods", ["a.gguf"], 0.5)
    assert len(run_in_child("trial_writes", ["a.gguf"], 20)) == 2**20
    assert psutil.Process().memory_info().rss - memory < 64 * 2**20


def test_what_the_child_started_ends_with_it() -> None:
    with pytest.raises(ModelFileInvalid):
        run_in_child("trial_spawns", ["a.gguf"], 2)
    time.sleep(0.2)
    left = [
        p
        for p in psutil.process_iter(["cmdline", "status"])
        if "labkit-grandchild" in (p.info["cmdline"] or [])
    ]
    assert all(p.info["status"] == psutil.STATUS_ZOMBIE for p in left)


def test_a_file_in_the_working_directory_shadows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "student"
    folder.mkdir()
    (folder / "runpy.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(folder)
    assert run_in_child("trial_loads", ["x"], 20)
