"""Run a notebook's cells in a jail, and hand out values when asked: `… student WIRE`, WIRE a socket's number.

Nothing in here is trusted by the other end: a notebook may change any of it while it runs. A cell that raises is left
behind, as when a student goes on by hand. The exercises' own `check()` does nothing, so that no time is spent twice.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from labkit.checks import core
from labkit.classroom.grading.lock import PROCESSES
from labkit.classroom.grading.wire import Hangup, Wire


async def serve(wire: Wire, shell: Any) -> None:
    """Do what the judging end asks: run a cell, evaluate expressions, call a function."""
    while True:
        message = wire.receive()
        if "run" in message:
            result = await shell.run_cell_async(
                message["run"], transformed_cell=_python(shell, message["run"])
            )
            error = result.error_before_exec or result.error_in_exec
            wire.send({"value": type(error).__name__ if error else None})
        elif "values" in message:
            wire.send(_values(wire, shell, message["values"]))
        else:
            wire.serve(message)
        await asyncio.sleep(0)  # a turn for what the notebook runs in the background


def _python(shell: Any, cell: str) -> str:
    try:
        return str(shell.transform_cell(cell))
    except Exception:
        return cell  # IPython then tells what is wrong with it


def _values(wire: Wire, shell: Any, expressions: list[str]) -> dict[str, Any]:
    try:
        return {"value": [wire.encode(eval(text, shell.user_ns)) for text in expressions]}
    except Exception as exc:
        return {"error": type(exc).__name__, "text": str(exc)[:200]}


def _wait_for_room() -> None:
    """Hold a fork back while there are too many processes: a fork bomb then waits for the watch, and ends every time.

    Without this, it would be a matter of chance whether the kernel's own limit hit the notebook first.
    """
    while sum(name.isdigit() for name in os.listdir("/proc")) > PROCESSES + 1:
        time.sleep(0.1)


def main() -> None:
    """Keep the wire from child processes, and do not check what the judge will."""
    end = socket.socket(fileno=int(sys.argv[1]))
    end.set_inheritable(False)
    os.register_at_fork(before=_wait_for_room, after_in_child=lambda: os.close(end.fileno()))
    core.Exercise.check = lambda self, *answers: None  # type: ignore[method-assign]
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    try:
        asyncio.run(serve(Wire(end), shell))
    except Hangup:
        os._exit(0)  # threads and child processes of the notebook's own would keep it here


if __name__ == "__main__":
    main()
