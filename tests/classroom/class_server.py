"""`labkit classroom serve` in a process of its own, which a test may kill; and a proxy that loses answers."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

TOKEN = "a-token-for-tests"


def fixed_port() -> int:
    """Find a port below those the system gives to clients: a killed server's could go to one that calls it."""
    while True:
        port = random.randrange(20_000, 32_000)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue


class ClassServer:
    """Start and kill the server; it keeps its port and its state."""

    def __init__(self, state: Path, **settings: str) -> None:
        self.state, self.port, self.settings = state, fixed_port(), settings
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "labkit", "classroom", "serve"]
        command += ["--port", str(self.port), "--state", str(self.state)]
        told = {"LABKIT_INSTRUCTOR_KEY": TOKEN, **self.settings}
        self.process = subprocess.Popen(command, env=os.environ | told, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError(f"the class's server did not come up: {self.process.poll()}")

    def kill(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)

    def summary(self) -> dict[str, Any]:
        time.sleep(1.1)  # figures may be a second old
        found = httpx.get(f"{self.url}/summary", cookies={"labkit_class": TOKEN}, timeout=60)
        return dict(found.raise_for_status().json())


@contextmanager
def class_server(state: Path, **settings: str) -> Iterator[ClassServer]:
    server = ClassServer(state, **settings)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def losing_answers(port: int, times: int) -> Iterator[str]:
    """Pass requests on to a port; of the first `times`, hang up when the server has answered, as a network may."""
    door = socket.create_server(("127.0.0.1", 0))
    lost = 0

    def serve() -> None:
        nonlocal lost
        while True:
            try:
                client, _ = door.accept()
            except OSError:
                return
            with client, socket.create_connection(("127.0.0.1", port)) as server:
                client.settimeout(0.5)
                server.settimeout(10)
                try:
                    while piece := client.recv(65536):
                        server.sendall(piece)
                except TimeoutError:
                    pass  # the request is complete
                answer = server.recv(65536)
                if lost < times:
                    lost += 1
                    continue
                client.sendall(answer + b"")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
    finally:
        door.close()
        thread.join(15)
