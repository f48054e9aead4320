"""labkit's gateway and LiteLLM's proxy, each in an environment of its own, before the same model server.

python tests/bench/gateway_peers.py     installs LiteLLM now, some 600 MB
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from labkit.engines.process import ServerProcess, ServerSettings, free_port
from labkit.models import store
from labkit.serving.endpoint import start_gateway
from labkit.serving.keys import Keys

LITELLM = "1.106.2"
NAMES = ("labkit", "LiteLLM")
CONFIG = """
model_list:
  - model_name: nano
    litellm_params: {{model: openai/nano, api_base: {upstream}, api_key: none}}
general_settings: {{master_key: {key}}}
litellm_settings: {{telemetry: false, num_retries: 0}}
"""


@dataclass(frozen=True)
class Peer:
    """Hold a running gateway: where it is, a key for it, its process, and the seconds from start to ready."""

    name: str
    url: str
    key: str
    process: ServerProcess
    cold_start: float

    @property
    def rss(self) -> int:
        """Return the bytes of memory of the process and its children."""
        first = psutil.Process(self.process.pid)
        return sum(process.memory_info().rss for process in (first, *first.children(recursive=True)))


@contextmanager
def peer(name: str, upstream: str, folder: Path) -> Iterator[Peer]:
    """Start a gateway before a model server; the block ends it."""
    began = time.perf_counter()
    process, url, key = _labkit(upstream, folder) if name == "labkit" else _litellm(upstream, folder)
    try:
        yield Peer(name, url, key, process, time.perf_counter() - began)
    finally:
        process.stop()


def _labkit(upstream: str, folder: Path) -> tuple[ServerProcess, str, str]:
    """Keys, quotas, audit log and metrics are on; the cache is off, so that every request goes through."""
    keys = Keys(folder / "keys.sqlite")
    key = keys.add("bench")[1]
    keys.close()
    limits = {"requests_per_minute": 10**7, "tokens_per_day": 10**12}
    settings = {"state": folder, "keys": True, "cache": "off", "slots": 256, "queue": 1024, **limits}
    return (*start_gateway(f"box={upstream};model=nano", **settings), key)


def _litellm(upstream: str, folder: Path) -> tuple[ServerProcess, str, str]:
    """One key and one worker, no database: its quotas and audit log are off."""
    port, key, config = free_port(), "sk-bench", folder / "litellm.yaml"
    config.write_text(CONFIG.format(upstream=upstream, key=key), "utf-8")
    url = f"http://127.0.0.1:{port}"
    told = ("--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1")
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "DISABLE_ADMIN_UI": "True"}
    command = (str(install() / "bin" / "litellm"), *told)
    ready = f"{url}/health/liveliness"
    return ServerProcess(ServerSettings("litellm", command, ready, env, start_timeout=180)), url, key


def install() -> Path:
    """Make LiteLLM's environment if it is not there; return its folder."""
    folder = store.home() / "peers" / f"litellm-{LITELLM}"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "-q", f"litellm[proxy]=={LITELLM}"]
        subprocess.run(pip, check=True, env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"})
        (folder / "ready").touch()
    return folder


if __name__ == "__main__":
    print(install())
