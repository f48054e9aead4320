"""What Binder would build, as repo2docker's own detection sees it (nothing is built, no Docker needed)."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Binder's own JupyterLab is kept, because its classic notebook server depends on that version.
BINDER_HAS = {"jupyterlab", "nbclient", "nbconvert", "nbformat"}


def name(requirement: str) -> str:
    return re.split(r"[<>=\[; ]", requirement.strip())[0].lower().replace("_", "-")


def pins(lines: list[str]) -> dict[str, str]:
    return {name(line): line.split("==")[1].split(";")[0].strip() for line in lines if "==" in line}


@pytest.fixture(scope="module")
def dockerfile() -> str:
    done = subprocess.run(
        [sys.executable, "-m", "repo2docker", "--no-build", "--debug", ROOT], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_python_comes_from_the_environment(dockerfile: str) -> None:
    assert "conda environment for python=3.12" in dockerfile
    assert '--file "binder/environment.yml"' in dockerfile


def test_environment_is_cached_apart_from_the_repository(dockerfile: str) -> None:
    """repo2docker copies environment.yml alone, and first, only where it names no local file."""
    alone = dockerfile.index("binder/environment.yml ${REPO_DIR}/binder/environment.yml")
    assert alone < dockerfile.index("COPY --chown=0:0 src/ ${REPO_DIR}/")


def test_post_build_runs_and_stops_at_the_first_error(dockerfile: str) -> None:
    assert "RUN ./binder/postBuild" in dockerfile
    script = ROOT / "binder" / "postBuild"
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/bin/bash\n")
    assert "\nset -euo pipefail\n" in script.read_text()
    subprocess.run(["bash", "-n", script], check=True)


def test_environment_holds_what_make_lab_installs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    made = re.search(r"^EXTRAS := ([\w,]+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert made
    needs = project["dependencies"] + [r for e in ("llamacpp", *made[1].split(",")) for r in extras[e]]
    wanted = {name(r) for r in needs}
    lines = [line.strip(" -") for line in (ROOT / "binder" / "environment.yml").read_text().splitlines()]
    assert wanted - BINDER_HAS - {name(line) for line in lines} == set()


def test_environment_has_the_pins_of_the_class() -> None:
    lines = [line.strip(" -") for line in (ROOT / "binder" / "environment.yml").read_text().splitlines()]
    class_pins = pins((ROOT / "constraints.txt").read_text().splitlines())
    ours = pins(lines)
    assert ours and {n: class_pins[n] for n in ours} == ours
