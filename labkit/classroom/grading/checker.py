"""Judge one notebook's answers, in a process that runs nothing of the student's: `… checker WIRE`.

The plan comes in on standard input; out go JSON lines, one for each question judged and a last one on how it ended.
The notebook's process at the other end of the wire is told which cell to run next, and asked for values after it.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import labkit
from labkit.checks.core import Exercise
from labkit.classroom.grading.hidden import hidden_checks
from labkit.classroom.grading.wire import Hangup, Wire
from labkit.errors import LabkitError

IN_PROCESS = ("llamacpp", "onnx", "mlx", "echo", "llamaserver")
NAME = re.compile(r"[A-Za-z_]\w{0,59}")


@functools.cache
def load_model(alias: str, engine: str, variant: str) -> Any:
    """Load the judge's own copy of a model, or return None for one that no lab could have loaded here."""
    try:
        return labkit.load(alias, engine=engine, variant=variant) if engine in IN_PROCESS else None
    except LabkitError:
        return None


def judge(plan: dict[str, Any], wire: Wire) -> Iterator[dict[str, Any]]:
    """Run the cells one by one, and judge each question after its cell."""
    hidden = hidden_checks(plan["lab"])
    for index, cell in enumerate(plan["cells"], 1):
        try:
            if error := _run(cell["source"], wire):
                yield {"cell": index, "error": error}
            for question in cell["questions"]:
                yield _judged(question, hidden.get(question["name"]), wire)
        except Hangup:
            yield {"end": f"its Python ended in code cell {index}"}
            return
    yield {"end": ""}


def _run(source: str, wire: Wire) -> str:
    """Return the name of the exception that a cell ended with; it comes from a stranger, so it must look like one."""
    try:
        error = wire.ask({"run": source})
    except Exception as exc:
        error = type(exc).__name__
    return error if isinstance(error, str) and NAME.fullmatch(error) else ""


def _judged(question: dict[str, Any], hidden: Callable[..., Any] | None, wire: Wire) -> dict[str, Any]:
    exercise: Exercise = getattr(importlib.import_module(question["module"]), question["exercise"])
    wire.opaque = False
    wire.lent.clear()  # what an earlier check lent is no business of this one
    try:
        answers = tuple(wire.ask({"values": question["answers"]}))
    except Exception as exc:
        return {"question": question["name"], "state": "wrong", "text": f"there is no answer: {exc}"}
    state, text = exercise._judge(answers)
    if state == "right" and hidden:
        state, text = Exercise(question["name"], hidden, (), "")._judge(answers)
    verdict = {"question": question["name"], "state": state, "text": text}
    if state == "wrong" and wire.opaque:
        verdict |= {"state": "by hand", "text": f"part of this answer cannot leave its notebook ({text})"}
    return verdict


def main() -> None:
    """Keep standard output for the verdicts: whatever else prints there is lost."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    plan = json.load(sys.stdin)
    wire = Wire(socket.socket(fileno=int(sys.argv[1])), load_model)
    for line in judge(plan, wire):
        print(json.dumps(line), file=out, flush=True)
    out.close()
    os._exit(0)  # engines' threads must not keep it here


if __name__ == "__main__":
    main()
