"""An edge deployment on this machine: a process for each node, and lines between them that can be cut."""

from __future__ import annotations

import select
import socket
import sys
import threading
import time
import uuid
from contextlib import suppress
from itertools import permutations
from pathlib import Path
from typing import Any, Self

import httpx

from labkit.deploy.edge import read_edge
from labkit.deploy.outbox import Record
from labkit.engines.process import ServerProcess, ServerSettings, free_port
from labkit.errors import EngineUnavailable, OptionInvalid
from labkit.models.store import home

ANSWER_S = 120.0


class Line:
    """Carry one node's requests to another, until it is cut: then what is under way breaks, and nothing new starts."""

    def __init__(self, to: int) -> None:
        self.to, self.whole = to, True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break what is under way, and let nothing through."""
        self.whole = False
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Cut it for good."""
        self.cut()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                came, _ = self._listener.accept()
            except OSError:
                return
            if self.whole:
                threading.Thread(target=self._carry, args=(came,), daemon=True).start()
            else:
                came.close()

    def _carry(self, came: socket.socket) -> None:
        with came, suppress(OSError), socket.create_connection(("127.0.0.1", self.to), timeout=5) as goes:
            ends = {came: goes, goes: came}
            self._open |= ends.keys()
            try:
                while self.whole:
                    for one in select.select(list(ends), [], [], 1.0)[0]:
                        data = one.recv(65_536)
                        if not data or not self.whole:
                            return
                        ends[one].sendall(data)
            finally:
                self._open -= ends.keys()


class Cluster:
    """Run all nodes of a YAML file. A customer stands in front of a node: `ask` works whether its lines are cut or not.

    Without `state` every start is a new one; with it, the nodes go on with what their outboxes hold.
    """

    def __init__(self, file: Path, state: Path | None = None) -> None:
        self.file, self.spec = file, read_edge(file)
        self.state = state or home() / "edge" / uuid.uuid4().hex[:8]
        self.ports = {node.id: free_port() for node in self.spec.nodes}
        self.lines = {(a, b): Line(self.ports[b]) for a, b in permutations(self.ports, 2)}
        self.processes: dict[str, ServerProcess] = {}
        try:
            for id in self.ports:
                self.start(id)
        except BaseException:
            self.stop()
            raise

    def start(self, id: str) -> None:
        """Start one node, or start it again."""
        peers = [f"{b}=http://127.0.0.1:{line.port}" for (a, b), line in self.lines.items() if a == id]
        words = (str(self.file.resolve()), id, str(self.ports[id]), str(self.state / id), *peers)
        command = (sys.executable, "-P", "-m", "labkit.deploy.node", *words)
        self.processes[id] = ServerProcess(ServerSettings(f"edge-{id}", command, f"{self.url(id)}/ready"))

    def url(self, id: str) -> str:
        """Return a node's own address; raise `OptionInvalid` if there is none of that id."""
        if id not in self.ports:
            raise OptionInvalid(f"there is no node {id!r:.40}", fix=", ".join(self.ports))
        return f"http://127.0.0.1:{self.ports[id]}"

    def cut(self, id: str) -> None:
        """Cut all lines to and from a node."""
        self.url(id)
        for ends, line in self.lines.items():
            if id in ends:
                line.cut()

    def mend(self, id: str) -> None:
        """Mend them."""
        self.url(id)
        for ends, line in self.lines.items():
            line.whole = line.whole or id in ends

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
            known = [self.records(id) for id in self.ports]
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
        for line in self.lines.values():
            line.close()

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
