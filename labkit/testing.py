"""Make a notebook fail when something in it failed, even where Jupyter keeps quiet.

Three failures leave a notebook green: an exception inside `with out:` (ipywidgets shows it in the widget
and goes on), one in a thread, and one in an asyncio task that nobody awaits. `watch()` records them from
the setup cell on, and `finish()`, the last cell of every lab, raises what was recorded. An ordinary error
in a cell is not recorded: it is plain to see. Running a cell again forgets what that cell recorded before.

This module imports neither IPython nor ipywidgets: without them there is nothing to hook.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from labkit.errors import NotebookFailed

# The places in ipywidgets that show an exception and then swallow it.
SWALLOWERS = ("ipywidgets.widgets.widget_output", "ipywidgets.widgets.interaction")
THREADS_END_S = 1.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Keep one swallowed exception: where it was swallowed, and in which cell it came up."""

    where: str
    error: BaseException
    cell: str

    def __str__(self) -> str:
        return f"{self.where}: {type(self.error).__name__}: {self.error}".rstrip(": ")


@dataclass(slots=True)
class _Record:
    failures: list[Failure] = field(default_factory=list)
    cell: str = ""

    def add(self, where: str, error: BaseException | None) -> None:
        # Only Exception: sys.exit() in a thread and a student's Ctrl-C are no failures.
        if isinstance(error, Exception) and all(error is not f.error for f in self.failures):
            self.failures.append(Failure(where, error, self.cell))

    def start_cell(self, info: Any) -> None:
        self.cell = str(info.cell_id or info.raw_cell)
        self.failures = [f for f in self.failures if f.cell != self.cell]


_record = _Record()


def watch() -> None:
    """Start recording silent failures, forgetting earlier ones; calling it again is harmless."""
    _record.failures.clear()
    _hook_threads()
    _hook_tasks()
    _hook_widgets()


def finish() -> None:
    """Raise `NotebookFailed` for silent failures and, with LABKIT_STRICT=1, for unsolved exercises."""
    _wait_for_threads()
    _collect_tasks()
    failures, _record.failures = _record.failures, []
    unsolved = _unsolved() if os.environ.get("LABKIT_STRICT") == "1" else []
    problems = [str(f) for f in failures] + [f"{name} is not solved" for name in unsolved]
    if problems:
        raise NotebookFailed(
            f"{len(problems)} silent failure{'s' * (len(problems) > 1)}\n  " + "\n  ".join(problems),
            fix="mend the cell it came from, then run that cell and this one again",
        ) from (failures[0].error if failures else None)


def _hooked(function: object) -> bool:
    return bool(getattr(function, "labkit_hook", False))


def _mark(function: Callable[..., None]) -> Callable[..., None]:
    function.labkit_hook = True  # type: ignore[attr-defined]
    return function


def _hook_threads() -> None:
    before = threading.excepthook
    if _hooked(before):
        return

    def record(args: threading.ExceptHookArgs, /) -> None:
        _record.add(f"thread {args.thread.name if args.thread else '?'}", args.exc_value)
        before(args)

    threading.excepthook = _mark(record)


def _hook_tasks() -> None:
    try:
        loop = asyncio.get_running_loop()  # a kernel runs every cell inside its loop
    except RuntimeError:
        return
    before = loop.get_exception_handler()
    if _hooked(before):
        return

    def record(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        _record.add("task nobody awaited", context.get("exception"))
        if before:
            before(loop, context)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(_mark(record))


def _hook_widgets() -> None:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None or _hooked(shell.showtraceback):
        return
    before = shell.showtraceback

    def record(*args: Any, **keywords: Any) -> None:
        if sys._getframe(1).f_globals.get("__name__") in SWALLOWERS:
            _record.add("output widget", sys.exc_info()[1] or (args[0][1] if args else None))
        before(*args, **keywords)

    shell.showtraceback = _mark(record)
    shell.events.register("pre_run_cell", _record.start_cell)


def _wait_for_threads() -> None:
    deadline = time.monotonic() + THREADS_END_S
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            if thread is not threading.main_thread():
                thread.join(max(0.0, deadline - time.monotonic()))


def _collect_tasks() -> None:
    # Collecting lost tasks makes asyncio call the handler above. A task that a variable still holds is asked
    # itself: `_log_traceback` is what asyncio itself goes by (true until somebody fetched the exception).
    gc.collect()
    for task in [o for o in gc.get_objects() if type(o) is asyncio.Task]:
        if task.done() and task._log_traceback:
            _record.add(f"task {task.get_name()}, which nobody awaited", task.exception())


def _unsolved() -> list[str]:
    # Not imported: this module lies below checks, and a notebook without exercises needs none of it.
    core = sys.modules.get("labkit.checks.core")
    return [str(name) for name in core.unfinished()] if core else []
