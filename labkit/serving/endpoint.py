"""Start the Ollama-compatible endpoint beside this process, for a lab on a machine without the daemon."""

from __future__ import annotations

import sys
from typing import Any

from labkit.engines.process import ServerProcess, ServerSettings, free_port


def start_ollama_api(**options: Any) -> tuple[ServerProcess, str]:
    """Start `labkit serve --api ollama` with its options on a free port; return the process and its URL.

    It ends when the process is stopped or forgotten. Raises `EngineFailed` with what it said if it does not start.
    """
    options = {"port": free_port(), **options}
    told = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    url = f"http://127.0.0.1:{options['port']}"
    command = (sys.executable, "-P", "-m", "labkit", "serve", "--api", "ollama", *told)
    return ServerProcess(ServerSettings("ollama-api", command, f"{url}/api/version")), url
