"""Run the tool that reads a kind of file, wherever this machine has it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from labkit.errors import EngineUnavailable

WAIT_S = 300.0


def ask(
    command: Sequence[str],
    fix: str,
    *,
    loud: bool = False,
    quiet: bool = False,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """Return what a command says when it fails; with `quiet` whatever it says is a failure, with `loud` it is told."""
    if not (found := shutil.which(command[0])):
        raise EngineUnavailable(f"{command[0]} is not installed", fix=fix)
    done = subprocess.run(
        [found, *command[1:]],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
    )
    said, failed = (
        (done.stdout + done.stderr).strip(),
        done.returncode or (quiet and done.stdout + done.stderr),
    )
    return f"{said}\nexit code {done.returncode}" if failed else said if loud else ""
