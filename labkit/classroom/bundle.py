"""What a class needs, on a USB stick: wheels, labs, data sets, models, and one script that installs it all offline.

Wheels are those for the Python and the system on which the bundle is made: make one for each kind of machine. nano and
pico are inside labkit's own wheel.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labkit.errors import LabkitError, ModelNotFound, NotebookFailed, OptionInvalid
from labkit.models import store

SCRIPT = Path(__file__).with_name("install_bundle.py")
LEFT_OUT = shutil.ignore_patterns("solutions", "source", ".ipynb_checkpoints", "__pycache__", "Untitled*")


@dataclass(frozen=True, slots=True)
class Bundle:
    """Say where a bundle is, and how large its parts are, in bytes."""

    folder: Path
    parts: dict[str, int]

    def __str__(self) -> str:
        lines = [f"{size / 1e6:8,.0f} MB  {name}" for name, size in self.parts.items()]
        return "\n".join([*lines, f"{sum(self.parts.values()) / 1e6:8,.0f} MB  in all"])


def bundle(
    root: Path,
    folder: Path,
    extras: str,
    models: tuple[str, ...] = (),
    solutions: bool = False,
    own: tuple[Path, ...] = (),
) -> Bundle:
    """Make a bundle from a clone at `root`: needs the network once, and no compiler on the students' side.

    `own` are wheels to take as they are, such as one of llama-cpp-python that need not be compiled then.
    Raises `LabkitError` where pip cannot get or build a wheel, `ModelNotFound` for a model that is not on this disk.
    """
    if not (root / "pyproject.toml").is_file():
        raise NotebookFailed(f"{root} is no clone of the repository", fix="run this in one")
    if folder.exists() and any(folder.iterdir()):
        raise OptionInvalid(f"{folder} is not empty", fix="give a new folder")
    for name in models:  # found out before anything is downloaded
        if not any(one.alias == name for one in store.local_models()):
            raise ModelNotFound(f"{name} is not on this disk", fix=f"labkit models pull {name}")
    with store.storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "wheels").mkdir()
        for wheel in own:
            shutil.copy(wheel, folder / "wheels")
        wheels(root, folder / "wheels", extras)
        shutil.copytree(root / "labs", folder / "labs", ignore=None if solutions else LEFT_OUT)
        shutil.copytree(root / "datasets", folder / "datasets", ignore=LEFT_OUT)
        shutil.copy(root / "constraints.txt", folder)
        for name in models:
            shutil.copytree(store.path_of(name), folder / "models" / name)
        shutil.copy(SCRIPT, folder / "install.py")
        return _seal(folder, extras)


def wheels(root: Path, folder: Path, extras: str) -> None:
    """Collect wheels of labkit and all it needs, at the versions of constraints.txt; build those that have none."""
    if "llamacpp" in extras.split(",") and not any(folder.glob("llama_cpp_python-*.whl")):
        # Compiled for any processor of this kind: what pip has kept may be for this machine's alone, and stop others.
        portable = {"CMAKE_ARGS": "-DGGML_NATIVE=OFF", **os.environ}
        _pip(root, folder, "--no-cache-dir", "--no-deps", "llama-cpp-python", env=portable)
    _pip(root, folder, "--find-links", str(folder), f".[{extras}]" if extras else ".")


def _pip(root: Path, folder: Path, *words: str, env: Mapping[str, str] | None = None) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    asked = ["--wheel-dir", str(folder), "-c", "constraints.txt", *words]
    found = subprocess.run([*command, *asked], cwd=root, text=True, stderr=subprocess.PIPE, env=env)
    if found.returncode:
        errors = [line for line in found.stderr.splitlines() if "ERROR" in line]
        raise LabkitError(
            f"pip could not collect the wheels: {' '.join(errors)[:500] or found.stderr[-500:]}",
            fix="look at the network and the compiler, or take less: --extras widgets,llamaserver",
        )


def _seal(folder: Path, extras: str) -> Bundle:
    """Write down every file's hash: sticks lose bits, and the script looks before it installs."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    manifest = {
        **{"extras": extras, "python": version, "platform": sys.platform},
        "sha256": {name: _sha256(path) for name, path in names.items() if name != "install.py"},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    sizes: dict[str, int] = {}
    for name, path in names.items():
        part = name.partition("/")[0]
        sizes[part] = sizes.get(part, 0) + path.stat().st_size
    return Bundle(folder, sizes)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
