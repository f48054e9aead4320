"""A Prometheus server beside a gateway: it reads the gateway's figures, keeps them, and judges `alerts.yml`."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import httpx

from labkit.engines.process import ServerProcess, ServerSettings, free_port
from labkit.errors import EngineUnavailable, OptionInvalid

HERE = Path(__file__).parent
FIX = "Debian, Ubuntu: apt install prometheus; else see prometheus.io/download"


class Prometheus:
    """Start a server that watches the gateway at `address` (host:port), by `prometheus.yml`; `stop()` ends it.

    A gateway with keys shows its figures to an admin's `key` alone; without keys, only this machine may ask at all.
    Raises `EngineUnavailable` where Prometheus is not installed.
    """

    def __init__(self, address: str, key: str = "") -> None:
        if not (program := shutil.which("prometheus")):
            raise EngineUnavailable("Prometheus is not installed", fix=FIX)
        self.folder = tempfile.TemporaryDirectory(prefix="labkit-prometheus-")
        here, listen = Path(self.folder.name), f"127.0.0.1:{free_port()}"
        text = (HERE / "prometheus.yml").read_text("utf-8").replace("127.0.0.1:8000", address)
        if key:
            text = text.replace("# authorization", "authorization")
            (here / "admin.key").touch(mode=0o600)
            (here / "admin.key").write_text(key, "utf-8")
        (here / "prometheus.yml").write_text(text, "utf-8")
        shutil.copy(HERE / "alerts.yml", here)
        told = (f"--config.file={here / 'prometheus.yml'}", f"--storage.tsdb.path={here / 'data'}")
        command = (program, *told, f"--web.listen-address={listen}", "--log.level=warn")
        self.url = f"http://{listen}"
        self.process = ServerProcess(ServerSettings("prometheus", command, f"{self.url}/-/ready"))

    def query(self, expression: str) -> dict[str, float]:
        """Return the values that PromQL `expression` has now, by their labels; raise `OptionInvalid` on bad PromQL."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=10).json()
        if answer["status"] != "success":
            raise OptionInvalid(f"Prometheus refuses {expression!r:.200}", fix=answer["error"])
        return {_labels(each["metric"]): float(each["value"][1]) for each in answer["data"]["result"]}

    def alerts(self) -> dict[str, str]:
        """Return the alerts that are "pending" or "firing", by name and labels."""
        found = httpx.get(f"{self.url}/api/v1/alerts", timeout=10).json()["data"]["alerts"]
        return {each["labels"]["alertname"]: each["state"] for each in found}

    def stop(self) -> None:
        """End the server, and delete what it kept."""
        self.process.stop()
        self.folder.cleanup()


def _labels(metric: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(metric.items()))
