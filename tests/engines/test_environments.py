"""Environments: real ones, made by venv and pip from a package made here."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from labkit.cli import app
from labkit.engines import environments
from labkit.engines.environments import Recipe, find_python, install, python_of, remove, version_of
from labkit.errors import DownloadFailed, EngineUnavailable, LabkitError, StorageFailed
from labkit.models.hardware import Gpu

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="environments are for Linux")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(environments, "gpus", lambda: ())
    return tmp_path / "home"


def recipe(folder: Path, *steps: str, check: str = "import tiny; print(tiny.version)") -> Recipe:
    """Return a recipe that installs a package of one line."""
    with zipfile.ZipFile(folder / "tiny-1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "version = '1.2'\n")
        wheel.writestr("tiny-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.2\n")
        wheel.writestr("tiny-1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.2.dist-info/RECORD", "")
    return Recipe(steps or (f"install --no-index --find-links {folder} tiny",), 1000, check)


def test_an_environment_is_made_used_and_removed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(environments.RECIPES, "vllm", recipe(tmp_path))
    assert version_of("vllm") == ""
    done = CliRunner().invoke(app, ["engines", "install", "vllm"])
    assert done.exit_code == 0, done.output
    assert "step 1 of 1: pip install" in done.output and "vllm 1.2 is ready" in done.output
    told = subprocess.run([python_of("vllm"), "-c", "import tiny; print(tiny.__file__)"], capture_output=True)
    assert str(home / "envs" / "vllm") in told.stdout.decode()
    seal = (home / "envs" / "vllm" / environments.SEAL).stat().st_mtime_ns
    assert install("vllm") == "1.2"
    assert (home / "envs" / "vllm" / environments.SEAL).stat().st_mtime_ns == seal, "it was there already"
    assert "freed" in CliRunner().invoke(app, ["engines", "remove", "vllm"]).output
    assert version_of("vllm") == "" and not (home / "envs" / "vllm").exists()


@pytest.mark.parametrize(
    ("steps", "check", "said"),
    [
        (("install --no-index no-such-package",), "print(1)", "no-such-package"),
        (("install --no-index --find-links {0} tiny",), "import absent", "absent"),
    ],
)
def test_one_that_fails_tells_why_and_is_never_ready(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: tuple[str], check: str, said: str
) -> None:
    broken = recipe(tmp_path, *(step.format(tmp_path) for step in steps), check=check)
    monkeypatch.setitem(environments.RECIPES, "vllm", broken)
    with pytest.raises(DownloadFailed, match=said) as caught:
        install("vllm")
    assert "labkit engines install vllm" in caught.value.fix
    assert version_of("vllm") == "" and not (home / "envs" / "vllm").exists()


def test_a_half_made_environment_is_not_ready(home: Path) -> None:
    folder = home / "envs" / "vllm"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    for seal in ("", "{", "[]", "null", '"x"', "{}"):
        (folder / environments.SEAL).write_text(seal)
        assert version_of("vllm") == ""
        with pytest.raises(EngineUnavailable) as caught:
            python_of("vllm")
        assert caught.value.fix == "labkit engines install vllm"


def test_one_by_an_older_recipe_still_serves(home: Path) -> None:
    folder = home / "envs" / "vllm"
    folder.mkdir(parents=True)
    (folder / environments.SEAL).write_text(json.dumps({"version": "0.1", "steps": ["install old"]}))
    assert version_of("vllm") == "0.1"


def test_without_room_nothing_is_begun(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(environments.RECIPES, "vllm", Recipe(("install x",), 10**18, ""))
    with pytest.raises(StorageFailed, match="1000000000.00 GB are needed"):
        install("vllm")
    assert not (home / "envs" / "vllm").exists()


def test_a_gpu_gets_the_recipe_for_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "gpus", lambda: (Gpu("GPU", 1, 1),))
    of_gpu = recipe(tmp_path, "install --no-index the-one-for-gpus")
    monkeypatch.setitem(environments.RECIPES, "vllm", Recipe(("install x",), 1, "", of_gpu))
    with pytest.raises(DownloadFailed, match="the-one-for-gpus"):
        install("vllm")


@pytest.mark.parametrize("name", ["llamacpp", "../models", "", "/"])
def test_only_what_has_a_recipe_is_touched(home: Path, name: str) -> None:
    (home / "models").mkdir(parents=True)
    for use in (install, remove, version_of, python_of):
        with pytest.raises(EngineUnavailable) as caught:
            use(name)
        assert "vllm" in caught.value.fix
    assert (home / "models").is_dir()


def test_removing_frees_what_is_there(home: Path) -> None:
    assert remove("vllm") == 0
    (home / "envs" / "vllm").mkdir()
    (home / "envs" / "vllm" / "half").write_bytes(b"x" * 5000)
    assert remove("vllm") == 5000


def test_other_systems_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(LabkitError, match="no packages for win32") as caught:
        install("vllm")
    assert "WSL" in caught.value.fix


def program(folder: Path, name: str, *lines: str) -> None:
    """Put a program on a PATH that has nothing else."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join(["#!/bin/sh", *lines, ""]))
    (folder / name).chmod(0o755)


HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("python9.8", ["echo /there/python9.8 9.8"]),
        (
            "python9.8",
            ['[ "$PYENV_VERSION" = 9.8 ] || exit 127', "echo /there/python9.8 9.8"],
        ),  # pyenv's switch
        ("uv", ['[ "$4" = 9.8 ] && echo "$0-python"']),
    ],
)
def test_a_python_is_found_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, lines: list[str]
) -> None:
    program(tmp_path / "bin", name, *lines)
    program(tmp_path / "bin", "uv-python", "echo /there/python9.8 9.8")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert find_python(("9.9", "9.8")) == "/there/python9.8"
    assert find_python(("9.9", HERE)).startswith(str(Path(sys.executable).parent)), "this one will do"


@pytest.mark.parametrize("lines", [["exit 1"], ["echo no python"], ["echo /there 3.1"], []])
def test_without_a_python_it_tells_ways_to_get_one(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    program(tmp_path / "bin", "python9.9", *lines)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    wanted = Recipe(("install x",), 1, "", pythons=("9.9",))
    monkeypatch.setitem(environments.RECIPES, "agentlightning", wanted)
    with pytest.raises(EngineUnavailable, match="no Python 9.9") as caught:
        install("agentlightning")
    assert "uv python install 9.9" in caught.value.fix and version_of("agentlightning") == ""
    assert not (home / "envs" / "agentlightning").exists()
