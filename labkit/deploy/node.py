"""One edge node as a process: its agents answer here; what others must know goes through its outbox.

`labkit deploy up` starts it, on this machine's loopback or in a network of its own: between machines it belongs behind
nginx with TLS.
"""

from __future__ import annotations

import json
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any

import httpx

from labkit.agents.loop import Agent
from labkit.agents.scenarios.scenario import SETTINGS, Data, by_name
from labkit.deploy.edge import AgentSpec, EdgeSpec, read_edge
from labkit.deploy.outbox import Outbox, Record
from labkit.engines.base import Model
from labkit.engines.registry import load
from labkit.errors import LabkitError, OptionInvalid

MOST, MOST_TEXT, MOST_ID = 2**20, 8_000, 80
LINK_S, ANSWER_S = 2.0, 60.0
# A cable that is out says nothing: without these a node would wait for an answer as long as for a slow model.
LOOK = {"TCP_KEEPIDLE": 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 5_000}
ALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in LOOK.items()
    if hasattr(socket, name)
]
log = logging.getLogger(__name__)


class Node:
    """Answer for the agents of one node, pass requests on to others, and keep all ledgers in step."""

    def __init__(self, spec: EdgeSpec, id: str, peers: Mapping[str, str], state: Path) -> None:
        self.spec, self.id, self.peers, self.state = spec, id, dict(peers), state
        self.me = next(node for node in spec.nodes if node.id == id)
        self.outbox = Outbox(state / "outbox.sqlite")
        self.stopping, self._working = threading.Event(), threading.Lock()
        self._models: dict[str, Model] = {}
        self._agents = {one.name: one for one in self.me.agents}

    def run(self) -> None:
        """Pass records on, and do what waits for this node, until it is stopped."""
        jobs = [threading.Thread(target=self._loop, args=(work,)) for work in (self.sync, self.catch_up)]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()

    def _loop(self, work: Any) -> None:
        while not self.stopping.wait(self.spec.sync_every):
            try:
                work()
            except LabkitError as error:  # a full disk, say: nothing is confirmed, so nothing is lost
                log.warning("%s: %s", self.id, error.what)

    def ask(self, agent: str, id: str, text: str, passed_on: bool = False) -> tuple[int, dict[str, Any]]:
        """Answer a request here, or on another node, or promise it for later; return a status and what to say.

        The same id again gives the same answer: nothing runs twice.
        """
        known = self.spec.having(agent)
        if not known:
            return 404, {"error": f"no node has an agent {agent!r:.40}"}
        if done := self.outbox.get(f"{id}/done"):
            return 200, done.body
        if agent in self._agents:
            return 200, self.answer(agent, id, text).body
        if not passed_on:
            others = [node for node in known if node in self.peers]
            for node in others if self.spec.failover == "automatic" else others[:1]:
                body = {"id": id, "text": text, "passed_on": True}
                if found := self._post(node, f"/agents/{agent}", body, ANSWER_S):
                    return 200, found
            if not self.outbox.get(id):
                self.outbox.add(id, self.id, {"agent": agent, "text": text}, target=known[0])
            return 202, {"queued": id, "for": known[0]}
        return 404, {"error": f"{self.id} has no agent {agent!r:.40}"}

    def answer(self, agent: str, id: str, text: str) -> Record:
        """Let an agent of this node work, once for an id, and write down what it said."""
        with self._working:
            if done := self.outbox.get(f"{id}/done"):
                return done
            body = {"agent": agent, "node": self.id, "text": text}
            try:
                body["answer"] = self._work(self._agents[agent], text)
            except LabkitError as error:
                body["error"] = error.what
            return self.outbox.add(f"{id}/done", self.id, body)

    def _work(self, spec: AgentSpec, text: str) -> str:
        if spec.model not in self._models:
            engine = next(model.engine for model in self.me.models if model.alias == spec.model)
            options: dict[str, Any] = {} if engine == "echo" else {"threads": 1}
            self._models[spec.model] = load(spec.model, engine, **options)
        model = self._models[spec.model]
        if not spec.scenario:
            return Agent(model, max_rounds=1, max_tokens=64).run(text).text
        scenario, path = by_name(spec.scenario), self.state / f"{spec.scenario}.sqlite"
        data = Data(path) if path.exists() else scenario.create(path)
        return (
            Agent(model, scenario.guarded(data), instructions=scenario.instructions, **SETTINGS)
            .run(text)
            .text
        )

    def sync(self) -> None:
        """Send every peer what it has not confirmed; what cannot be sent now stays where it is."""
        for peer in self.peers:
            while records := self.outbox.waiting(peer):
                if not self._post(peer, "/sync", {"from": self.id, "records": records}, LINK_S * 5):
                    break
                self.outbox.confirm(peer, records)

    def catch_up(self) -> None:
        """Answer requests that came while this node could not be reached."""
        for one in self.outbox.due(self.id):
            if one.body["agent"] in self._agents and not self.stopping.is_set():
                self.answer(one.body["agent"], one.id, one.body["text"])

    def take(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Write what a peer sent; raise `OptionInvalid` if it is none of ours, or not what peers send."""
        try:
            peer, records = body["from"], [Record(*row) for row in body["records"]]
            right = all(
                type(r.id) is type(r.node) is type(r.target) is str and type(r.body) is dict for r in records
            )
        except (KeyError, TypeError):
            right, peer, records = False, "", []
        if not right or peer not in self.peers:
            raise OptionInvalid("that is no message of a peer", fix="labkit deploy up")
        return {"taken": self.outbox.take(peer, records)}

    def status(self) -> dict[str, Any]:
        """Tell what this node knows, and how much each peer does not know yet."""
        waiting = {peer: len(self.outbox.waiting(peer)) for peer in self.peers}
        return {
            "node": self.id,
            "agents": sorted(self._agents),
            "records": len(self.outbox.all()),
            "waiting": waiting,
        }

    def _post(self, peer: str, path: str, body: Any, timeout: float) -> dict[str, Any] | None:
        patience, way = httpx.Timeout(timeout, connect=LINK_S), httpx.HTTPTransport(socket_options=ALIVE)
        try:
            with httpx.Client(timeout=patience, transport=way) as client:
                answer = client.post(self.peers[peer] + path, json=body)
            return dict(answer.json()) if answer.status_code == 200 else None
        except (httpx.HTTPError, ValueError):
            return None


class Server(ThreadingHTTPServer):
    """Serve a node at an address."""

    daemon_threads = True

    def __init__(self, node: Node, at: str) -> None:
        self.node = node
        host, _, port = at.rpartition(":")
        super().__init__((host, int(port)), Handler)


class Handler(BaseHTTPRequestHandler):
    """Speak HTTP for a node."""

    server: Server
    timeout = 30

    def do_GET(self) -> None:
        """Answer health, status and the ledger."""
        node = self.server.node
        pages: dict[str, Callable[[], Mapping[str, Any]]] = {
            "/ready": lambda: {"status": "ok"},
            "/status": node.status,
            "/records": lambda: {"records": node.outbox.all()},
        }
        page = pages.get(self.path.replace("/health", "/ready"))
        self._send(200, page()) if page else self._send(404, {"error": f"there are {', '.join(pages)}"})

    def do_POST(self) -> None:
        """Take a request for an agent, or records of a peer."""
        node = self.server.node
        try:
            body = self._body()
            if self.path == "/sync":
                return self._send(200, node.take(body))
            if not self.path.startswith("/agents/"):
                return self._send(404, {"error": "there are /agents/NAME and /sync"})
            id, text = body.get("id"), body.get("text")
            if not (isinstance(id, str) and 0 < len(id) <= MOST_ID and "/" not in id):
                raise OptionInvalid.of("id", id, f"a string of 1 to {MOST_ID} characters, no /")
            if not (isinstance(text, str) and 0 < len(text) <= MOST_TEXT):
                raise OptionInvalid("text is missing or too long", fix=f"1 to {MOST_TEXT} characters")
            passed_on = body.get("passed_on") is True
            self._send(*node.ask(self.path.removeprefix("/agents/"), id, text, passed_on))
        except OptionInvalid as error:
            self._send(400, {"error": str(error)})
        except LabkitError as error:
            self._send(503, {"error": error.what})

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Origin") or not length.isdecimal() or int(length) > MOST:
            raise OptionInvalid(
                "this body is not taken", fix=f"JSON of at most {MOST:,} bytes, not from a web page"
            )
        try:
            found = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as exc:
            raise OptionInvalid("the body is no JSON", fix='{"id": "…", "text": "…"}') from exc
        if not isinstance(found, dict):
            raise OptionInvalid("the body is no object", fix='{"id": "…", "text": "…"}')
        return found

    def _send(self, status: int, body: Mapping[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: requests hold what people said."""


def main(file: str, id: str, at: str, state: str, *peers: str) -> None:
    """Run a node until SIGTERM."""
    addresses = dict(peer.split("=", 1) for peer in peers)
    node = Node(read_edge(Path(file)), id, addresses, Path(state))
    server = Server(node, at)

    def stop(number: int, frame: FrameType | None) -> None:
        node.stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    node.run()
    server.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
