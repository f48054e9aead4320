"""A wire within one process; and, as a pytest plugin (`-p afar`), every answer a test gives travels through one."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from labkit import Model
from labkit.checks.core import Exercise
from labkit.classroom.grading.wire import Hangup, Wire

judge_here = Exercise._judge
by_hand: set[str] = set()


@contextmanager
def wires(answers: tuple[Any, ...], models: tuple[Any, ...] = ()) -> Iterator[Wire]:
    """Yield the judging end of a wire; at the other end, a thread holds the answers and serves its functions."""
    ours, theirs = socket.socketpair()
    far = Wire(theirs)

    def serve() -> None:
        try:
            while True:
                message = far.receive()
                if "values" in message:
                    far.send({"value": [far.encode(answer) for answer in answers]})
                else:
                    far.serve(message)
        except Hangup:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    near = Wire(ours, lambda alias, engine, variant: next((m for m in models if m.card.alias == alias), None))
    try:
        yield near
    finally:
        near.close()
        ours.close()
        thread.join()


def judge_afar(self: Exercise, answers: tuple[Any, ...]) -> Any:
    models = tuple(answer for answer in answers if isinstance(answer, Model))
    with wires(answers, models) as near:
        state, text = judge_here(self, tuple(near.ask({"values": []})))
        if state != "wrong" or not near.opaque:
            return state, text
    here = judge_here(self, answers)
    if here[0] == "right":
        by_hand.add(f"{self.test.__module__.removeprefix('labkit.checks.')} {self.name}")
    return here


def pytest_configure() -> None:
    if os.environ.get("LABKIT_CHECK_AFAR"):
        Exercise._judge = judge_afar  # type: ignore[method-assign]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(f"by hand: {', '.join(sorted(by_hand))}")
