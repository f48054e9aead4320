"""The USB stick: made here, damaged on its way, installed into a new environment with the network off."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from labkit.classroom import bundle as module
from labkit.classroom.bundle import bundle
from labkit.errors import ModelNotFound, NotebookFailed, OptionInvalid

ROOT = Path(__file__).parents[2]


def clone(folder: Path) -> Path:
    """Make what bundle() reads of a clone, with one small lab."""
    for name in ("labs/solutions", "labs/source", "datasets/cards"):
        (folder / name).mkdir(parents=True)
    for name in (
        "pyproject.toml",
        "constraints.txt",
        "labs/01_a.ipynb",
        "labs/solutions/01_a.ipynb",
        "datasets/cards/a",
    ):
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle without wheels: these are in the heavy test."""
    monkeypatch.setattr(module, "wheels", lambda root, folder, extras: None)
    bundle(clone(tmp_path / "clone"), tmp_path / "stick", "widgets")
    return tmp_path / "stick"


def install(stick: Path, target: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, stick / "install.py", target], capture_output=True, text=True)


def test_solutions_stay_at_home(small: Path) -> None:
    names = {path.relative_to(small).as_posix() for path in small.rglob("*") if path.is_file()}
    assert names == {"constraints.txt", "datasets/cards/a", "install.py", "labs/01_a.ipynb", "manifest.json"}


@pytest.mark.parametrize("change", ["damage", "remove"])
def test_a_damaged_stick_is_noticed(small: Path, change: str) -> None:
    lab = small / "labs" / "01_a.ipynb"
    lab.unlink() if change == "remove" else lab.write_text("labs/01_b.ipynb")
    found = install(small, small.parent / "target")
    assert found.returncode and "labs/01_a.ipynb is missing or damaged" in found.stderr
    assert not (small.parent / "target").exists()


def test_wheels_of_another_system_are_not_tried(small: Path) -> None:
    told = json.loads((small / "manifest.json").read_text())
    (small / "manifest.json").write_text(json.dumps({**told, "python": "3.9", "platform": "plan9"}))
    assert "for Python 3.9 on plan9" in install(small, small.parent / "target").stderr


def test_what_cannot_become_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(NotebookFailed, match="no clone"):
        bundle(tmp_path, tmp_path / "stick", "")
    root = clone(tmp_path / "clone")
    with pytest.raises(OptionInvalid, match="not empty"):
        bundle(root, root, "")
    with pytest.raises(ModelNotFound, match="labkit models pull no-such"):
        bundle(root, tmp_path / "stick", "", models=("no-such",))


def test_a_students_work_is_not_overwritten(tmp_path: Path) -> None:
    import runpy

    copy_new = runpy.run_path(str(module.SCRIPT))["copy_new"]
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    for name in ("a", "b"):
        (tmp_path / "from" / name).write_text("new")
    (tmp_path / "to" / "a").write_text("mine")
    copy_new(tmp_path / "from", tmp_path / "to")
    assert [(tmp_path / "to" / name).read_text() for name in ("a", "b")] == ["mine", "new"]


def test_llama_cpp_is_compiled_for_any_machine_of_its_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[tuple[str, ...], str]] = []

    def pip(root: Path, folder: Path, *words: str, env: Mapping[str, str] | None = None) -> None:
        asked.append((words, (env or {}).get("CMAKE_ARGS", "")))

    monkeypatch.delenv("CMAKE_ARGS", raising=False)
    monkeypatch.setattr(module, "_pip", pip)
    module.wheels(ROOT, tmp_path, "widgets,llamacpp")
    (words, flags), (rest, _) = asked
    assert words == ("--no-cache-dir", "--no-deps", "llama-cpp-python") and "GGML_NATIVE=OFF" in flags
    assert rest[-1] == ".[widgets,llamacpp]"
    (tmp_path / "llama_cpp_python-1-py3-none-any.whl").touch()
    module.wheels(ROOT, tmp_path, "widgets,llamacpp")
    assert len(asked) == 3  # one's own wheel is taken as it is


@pytest.mark.heavy
@pytest.mark.timeout(2400)
def test_a_bundle_installs_and_a_lab_runs_without_the_network(tmp_path: Path) -> None:
    if not shutil.which("unshare") or os.geteuid():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs root and unshare, to cut the network")
    # pip keeps what it has compiled for this machine: good enough for this machine, and minutes faster.
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "-c",
        ROOT / "constraints.txt",
        "-w",
        tmp_path,
    ]
    subprocess.run([*pip, "llama-cpp-python"], check=True)
    own = tuple(tmp_path.glob("llama_cpp_python-*.whl"))
    made = bundle(ROOT, tmp_path / "stick", "widgets,llamacpp", own=own)
    print(made)
    assert made.parts["wheels"] > made.parts["labs"] > 0
    target, home = tmp_path / "target", tmp_path / "home"
    # No variable of this environment may help: a new HOME, no PYTHONPATH, and a network with nothing in it.
    cut = [
        "unshare",
        "--net",
        "env",
        "-i",
        f"HOME={home}",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "OMP_NUM_THREADS=1",
    ]

    def offline(*words: str | Path) -> str:
        inside = ["sh", "-c", 'ip link set lo up 2>/dev/null; exec "$@"', "sh", *words]
        found = subprocess.run([*cut, *inside], cwd=tmp_path, capture_output=True, text=True)
        assert found.returncode == 0, found.stdout[-2000:] + found.stderr[-2000:]
        return found.stdout

    assert "Done." in offline(sys.executable, tmp_path / "stick" / "install.py", target)
    python = target / ".venv" / "bin" / "python"
    where = offline(python, "-c", "import labkit; print(labkit.__file__)")
    assert str(target / ".venv") in where
    assert "llamacpp" in offline(python, "-m", "labkit", "doctor")
    lab = target / "labs" / "01_meet_your_machine.ipynb"
    assert "01_meet_your_machine" in offline(python, "-m", "labkit", "run", lab)
