"""Install the labs from this folder, without the network: python3 install.py [FOLDER].

Needs nothing but Python itself. It checks that every file arrived whole, makes an environment, installs the wheels
into it, and copies labs, data sets and models into the folder (labkit-labs in your home folder, unless you name one).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main(target: Path) -> None:
    """Install everything into one folder; what is there already from students' work stays."""
    told = json.loads((HERE / "manifest.json").read_text("utf-8"))
    fits(told)
    whole(told["sha256"])
    print(f"Installing into {target} …")
    environment = target / ".venv"
    venv.create(environment, with_pip=True, clear=True)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / ("python.exe" if os.name == "nt" else "python")
    extras = f"[{told['extras']}]" if told["extras"] else ""
    pip: list[str | Path] = [python, *"-m pip --disable-pip-version-check install --quiet --no-index".split()]
    found = subprocess.run([*pip, "--find-links", HERE / "wheels", f"labkit{extras}"])
    if found.returncode:
        sys.exit("pip could not install: what it said is above")
    shutil.copy(HERE / "constraints.txt", target)
    for name in ("labs", "datasets"):
        copy_new(HERE / name, target / name)
    if (HERE / "models").is_dir():
        ask = "from labkit.models.store import home; print(home())"
        home = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()
        copy_new(HERE / "models", Path(home) / "models")
    print(f"Done. To begin:\n  cd {target}\n  {scripts / 'labkit'} start")


def fits(told: dict[str, str]) -> None:
    """End with a sentence if the wheels are for another Python or another system."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if (here, sys.platform) != (told["python"], told["platform"]):
        sys.exit(
            f"These wheels are for Python {told['python']} on {told['platform']}; this is {here} on {sys.platform}."
        )


def whole(hashes: dict[str, str]) -> None:
    """End with a sentence if a file is missing or has changed on its way."""
    for name, wanted in hashes.items():
        path = HERE / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
            sys.exit(f"{name} is missing or damaged: copy the bundle again.")


def copy_new(source: Path, target: Path) -> None:
    """Copy files that are not there yet: a lab that a student has worked on is never overwritten."""
    for path in sorted(source.rglob("*")):
        there = target / path.relative_to(source)
        if path.is_file() and not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, there)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "~/labkit-labs").expanduser().absolute())
