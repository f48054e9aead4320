"""A pytest plugin (`-p afar`): every answer that a test hands to a check travels through a wire first."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from labkit import Model
from labkit.checks.core import Exercise
from labkit.classroom.grading.wire import Hangup, Wire

judge_here = Exercise._judge
opaque: list[str] = []


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
        if near.opaque:
            opaque.append(f"{self.test.__module__} {self.name} {state} {text}")
    return state, text


def pytest_configure() -> None:
    Exercise._judge = judge_afar  # type: ignore[method-assign]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for line in sorted(set(opaque)):
        terminalreporter.write_line(f"OPAQUE {line}")
