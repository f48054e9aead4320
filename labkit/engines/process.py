"""A server in a process of its own: start it, wait until it answers, stop it. What it serves is unknown here.

A server never outlives its owner: `process_guard.py` stands between the two and ends it when the owner is gone.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

import psutil

from labkit.errors import EngineFailed, EngineTimeout
from labkit.models import store
from labkit.models.trial import signal_name

GUARD = Path(__file__).with_name("process_guard.py")
LOOK_EVERY_S = 0.03
ANSWER_S = 2.0
TAIL_LINES = 6


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Say how to start a server, and how to see that it serves.

    `ready` is the URL that answers 2xx then; `env` is added to this process's environment; times are seconds.
    """

    name: str
    command: tuple[str, ...]
    ready: str
    env: Mapping[str, str] = field(default_factory=dict)
    start_timeout: float = 60.0
    grace: float = 3.0


class ServerProcess:
    """Hold a running server. `log` is the file of what it prints, deleted when it is stopped in good order.

    Raises `EngineFailed` with the end of its log if it does not start, `EngineTimeout` if it does not answer in time.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        folder = store.home() / "logs"
        with store.storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f"{settings.name}-", suffix=".log", dir=folder)
        self.log = Path(name)
        command = [sys.executable, "-I", "-S", str(GUARD), str(settings.grace), *settings.command]
        with os.fdopen(handle, "wb") as log:
            self._guard = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **settings.env},
                start_new_session=True,  # Ctrl-C in a terminal is for the owner
            )
        # Also when this object is forgotten, and when Python ends.
        self._let_go = weakref.finalize(self, let_go, self._guard, settings.grace)
        try:
            self._wait_until_ready()
        except BaseException:
            self._let_go()
            raise

    @property
    def pid(self) -> int:
        """Return the process id of the server itself; raise `EngineFailed` if it has ended."""
        try:
            return int(psutil.Process(self._guard.pid).children()[0].pid)
        except (psutil.Error, IndexError):
            raise self.failure() from None

    def ended(self, within: float = 0.0) -> bool:
        """Return whether the server has ended, or ends in so many seconds."""
        try:
            return self._guard.wait(within) is not None
        except subprocess.TimeoutExpired:
            return False

    def failure(self, what: str = "ended") -> EngineFailed:
        """Return the error that tells how the server ended and what it said last."""
        code = self._guard.poll()
        how = f" (exit code {code})" if code is not None else ""
        if code is not None and code > 128:
            how = f" ({signal_name(code - 128)})"
        return EngineFailed(
            f"{self.settings.name}'s server {what}{how}: {self.tail()}", fix=f"see {self.log}"
        )

    def tail(self) -> str:
        """Return the last lines of the log as one line."""
        try:
            lines = self.log.read_text("utf-8", "replace")[-4000:].splitlines()
        except OSError:
            lines = []
        return " / ".join(line.strip() for line in lines[-TAIL_LINES:] if line.strip()) or "it said nothing"

    def stop(self) -> None:
        """End the server and wait until it is gone. Calling it twice is harmless."""
        in_order = self._let_go.alive and not self.ended()
        self._let_go()
        if in_order:
            self.log.unlink(missing_ok=True)

    def _wait_until_ready(self) -> None:
        # Straight to this machine, whatever proxy the environment names.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + self.settings.start_timeout
        while time.monotonic() < deadline:
            if self.ended():
                raise self.failure("did not start")
            try:
                with opener.open(self.settings.ready, timeout=ANSWER_S):
                    return
            except (OSError, HTTPException):
                time.sleep(LOOK_EVERY_S)
        raise EngineTimeout(
            f"{self.settings.name}'s server was not ready after {self.settings.start_timeout:g} s: {self.tail()}",
            fix=f"see {self.log}, or give it more time: start_timeout=",
        )


def let_go(guard: subprocess.Popen[bytes], grace: float) -> None:
    """Close the guard's standard input, which ends the server, and wait for both."""
    assert guard.stdin
    guard.stdin.close()
    try:
        guard.wait(grace + 5)
    except subprocess.TimeoutExpired:
        guard.kill()
        guard.wait()


def free_port() -> int:
    """Return a port of this machine's loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
