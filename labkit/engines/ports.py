"""Look at the ports that model servers and notebooks use: who has them on this machine?"""

from __future__ import annotations

import re
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from labkit.errors import EngineUnavailable

USUAL = {8000: "labkit serve, vLLM", 8080: "llama.cpp's server", 8888: "JupyterLab", 11434: "Ollama"}
CONNECT_S = 0.05
ANSWER_S = 0.2
SERVER = re.compile(rb"^server:\s*([^\r\n]{1,40})", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Port:
    """Say who usually has a port, whether it is taken, and what answers there in HTTP."""

    number: int
    usual: str
    taken: bool
    answers: str = ""

    def __str__(self) -> str:
        if not self.taken:
            return f"free ({self.usual})"
        return f"taken by {self.answers}" if self.answers else f"taken, silent ({self.usual})"


def ports() -> tuple[Port, ...]:
    """Look at every usual port at once; takes as long as the slowest answer."""
    with ThreadPoolExecutor(len(USUAL)) as pool:
        return tuple(pool.map(look, USUAL, USUAL.values()))


def look(number: int, usual: str = "") -> Port:
    """Connect to a port of this machine, and ask for its name if something is there."""
    try:
        with socket.create_connection(("127.0.0.1", number), timeout=CONNECT_S) as link:
            return Port(number, usual, True, _ask(link))
    except OSError:  # refused, or no answer in time: nobody listens
        return Port(number, usual, False)


def require_free(port: int) -> None:
    """Raise `EngineUnavailable`, with another port to try, where somebody has this one."""
    if (taken := look(port)).taken:
        raise EngineUnavailable(f"port {port} is {taken}", fix=f"--port {port % 65535 + 1}")


def _ask(link: socket.socket) -> str:
    link.settimeout(ANSWER_S)
    try:
        link.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        answer = link.recv(4096)
    except OSError:
        return ""
    if b"Ollama is running" in answer:
        return "Ollama"
    server = SERVER.search(answer)
    name = server[1].decode("ascii", "replace").strip() if server else ""
    return name if name.isprintable() else ""
