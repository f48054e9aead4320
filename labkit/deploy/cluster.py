"""An edge deployment on this machine: a process for each node, and wires between them that can be cut."""

from __future__ import annotations

import sys
import time
import uuid
from pathlib import Path
from typing import Any, Self

import httpx

from labkit.deploy.edge import read_edge
from labkit.deploy.outbox import Record
from labkit.deploy.wires import join
from labkit.engines.process import ServerProcess, ServerSettings
from labkit.errors import EngineUnavailable, OptionInvalid
from labkit.models.store import home

ANSWER_S = 120.0


class Cluster:
    """Run all nodes of a YAML file. A customer stands in front of a node: `ask` works whether its lines are cut or not.

    Without `state` every start is a new one; with it, the nodes go on with what their outboxes hold. With `namespaces`
    each node gets a network of its own, where that is allowed; `network` says what it is.
    """

    def __init__(self, file: Path, state: Path | None = None, namespaces: bool = False) -> None:
        self.file, self.spec = file, read_edge(file)
        self.state = state or home() / "edge" / uuid.uuid4().hex[:8]
        self.nodes = tuple(node.id for node in self.spec.nodes)
        self.wires = join(self.nodes, namespaces)
        self.network = self.wires.name
        self.processes: dict[str, ServerProcess] = {}
        try:
            for id in self.nodes:
                self.start(id)
        except BaseException:
            self.stop()
            raise

    def start(self, id: str) -> None:
        """Start one node, or start it again."""
        peers = [f"{peer}={url}" for peer, url in self.wires.peers(id).items()]
        words = (str(self.file.resolve()), id, self.wires.listens(id), str(self.state / id), *peers)
        command = self.wires.command(id, (sys.executable, "-P", "-m", "labkit.deploy.node", *words))
        self.processes[id] = ServerProcess(ServerSettings(f"edge-{id}", command, f"{self.url(id)}/ready"))

    def url(self, id: str) -> str:
        """Return a node's own address; raise `OptionInvalid` if there is none of that id."""
        if id not in self.nodes:
            raise OptionInvalid(f"there is no node {id!r:.40}", fix=", ".join(self.nodes))
        return self.wires.url(id)

    def cut(self, id: str) -> None:
        """Cut a node off from all others."""
        self.url(id)
        self.wires.cut(id)

    def mend(self, id: str) -> None:
        """Mend that."""
        self.url(id)
        self.wires.mend(id)

    def ask(self, node: str, agent: str, text: str, id: str = "") -> dict[str, Any]:
        """Send a request to a node; the same id again is the same request. `queued` in the answer: it comes later."""
        body = {"id": id or uuid.uuid4().hex, "text": text}
        return self._call(node, "POST", f"/agents/{agent}", json=body)

    def status(self, node: str) -> dict[str, Any]:
        """Return what a node says of itself."""
        return self._call(node, "GET", "/status")

    def records(self, node: str) -> list[Record]:
        """Return all that a node knows."""
        return [Record(*row) for row in self._call(node, "GET", "/records")["records"]]

    def in_step(self, seconds: float = 60.0) -> bool:
        """Wait until all nodes know the same and no request is unanswered; return whether that came in time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            known = [self.records(id) for id in self.nodes]
            ids = {one.id for one in known[0]}
            if all(one == known[0] for one in known) and all(
                f"{r.id}/done" in ids for r in known[0] if r.target
            ):
                return True
            time.sleep(self.spec.sync_every)
        return False

    def stop(self) -> None:
        """Stop all nodes; what waits in outboxes stays there."""
        for process in self.processes.values():
            process.stop()
        self.wires.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _call(self, node: str, method: str, path: str, **more: Any) -> dict[str, Any]:
        try:
            answer = httpx.request(method, self.url(node) + path, timeout=ANSWER_S, trust_env=False, **more)
            found = dict(answer.json())
        except (httpx.HTTPError, ValueError) as exc:
            raise EngineUnavailable(
                f"node {node} does not answer ({type(exc).__name__})", fix="labkit deploy up"
            ) from exc
        if answer.status_code >= 400:
            raise OptionInvalid(f"node {node}: {found.get('error')}", fix="cluster.status(node)")
        return found
