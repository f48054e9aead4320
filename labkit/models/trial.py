"""A first try in a child process, for parsers that may crash on a hostile file.

A segmentation fault in a vendor's C++ takes the whole notebook kernel with it. So an engine first loads a
file that labkit did not make in a child, with a small module of its own, and only then here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from labkit.errors import ModelFileInvalid

ROOT = Path(__file__).parents[2]
# No core dump is left behind, and files in the student's folder cannot shadow Python's own modules.
START = """
import runpy, sys
try:
    import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except ImportError:
    pass
sys.path.append(sys.argv.pop(1))
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def run_in_child(module: str, args: Sequence[str], timeout: float = 30.0) -> str:
    """Run `python -m module args` in a child process and return what it printed.

    By convention the file to try is the first of `args`. Raises `ModelFileInvalid` when the child crashes,
    fails or runs past `timeout` seconds; nothing of it is left running.
    """
    command = [sys.executable, "-P", "-c", START, str(ROOT), module, *args]
    subject = args[0] if args else module
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        try:
            code = child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise _invalid(subject, f"loading it took longer than {timeout:g} s") from None
        finally:
            _end(child)
        if code == 0:
            out.seek(0)
            return out.read(2**20).decode("utf-8", "replace")
        err.seek(max(0, err.seek(0, os.SEEK_END) - 2_000))
        said = err.read().decode("utf-8", "replace").strip().splitlines()
    died = (
        f"it crashed the parser ({signal_name(-code)})"
        if code < 0
        else said[-1]
        if said
        else f"exit code {code}"
    )
    raise _invalid(subject, died)


def _invalid(subject: str, why: str) -> ModelFileInvalid:
    return ModelFileInvalid(
        f"{subject} cannot be loaded: {why}", fix="get the file again, or take another: labkit models"
    )


def signal_name(number: int) -> str:
    """Return what a signal is called, as in SIGKILL."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _end(child: subprocess.Popen[bytes]) -> None:
    if sys.platform != "win32" and child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    child.kill()
    child.wait()
