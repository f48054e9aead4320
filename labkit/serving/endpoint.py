"""Start a server of labkit's own beside this process, for a lab: the gateway, or the Ollama-compatible endpoint."""

from __future__ import annotations

import sys
import tempfile
from typing import Any

from labkit.engines.ollama_daemon import Daemon
from labkit.engines.process import ServerProcess, ServerSettings, free_port
from labkit.engines.registry import engine_class
from labkit.errors import EngineUnavailable


def open_ollama(**options: Any) -> tuple[Daemon, ServerProcess | None]:
    """Reach the daemon at OLLAMA_HOST, or on this machine; where none answers, start labkit's endpoint in its place.

    `Daemon.who` says which it is. The endpoint ends with its process, which is None beside a daemon.
    """
    client = engine_class("ollama").available()
    if not client.installed:
        raise EngineUnavailable(client.reason, fix=client.fix)
    try:
        return Daemon(), None
    except EngineUnavailable:
        process, url = start_ollama_api(**options)
        return Daemon(url), process


def start_ollama_api(**options: Any) -> tuple[ServerProcess, str]:
    """Start `labkit serve --api ollama` with its options on a free port; return the process and its URL.

    It ends when the process is stopped or forgotten. Raises `EngineFailed` with what it said if it does not start.
    """
    options = {"port": free_port(), **options}
    told = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    url = f"http://127.0.0.1:{options['port']}"
    command = (sys.executable, "-P", "-m", "labkit", "serve", "--api", "ollama", *told)
    return ServerProcess(ServerSettings("ollama-api", command, f"{url}/api/version")), url


def start_gateway(*backends: str, **settings: Any) -> tuple[ServerProcess, str]:
    """Start `labkit serve` with backends in their text form on a free port; return the process and its URL.

    `settings` are fields of `labkit.serving.settings.Settings`; its state is a new folder unless they name one. The
    URL is that of the server, without /v1.
    Raises `EngineFailed` with what it said if it does not start.
    """
    settings = {"port": free_port(), "state": tempfile.mkdtemp(prefix="labkit-serve-"), **settings}
    env = {f"LABKIT_SERVE_{name.upper()}": str(value) for name, value in settings.items()}
    told = [word for backend in backends for word in ("--backend", backend)]
    url = f"http://127.0.0.1:{settings['port']}"
    command = (sys.executable, "-P", "-m", "labkit", "serve", *told)
    return ServerProcess(ServerSettings("gateway", command, f"{url}/ready", env, 120.0, 10.0)), url
