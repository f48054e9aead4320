"""The backends of a gateway: started, restarted, stopped and replaced while it serves, within a memory budget."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any

from labkit.errors import LabkitError, ModelNotFound, NotEnoughMemory
from labkit.models.fit import size
from labkit.serving.backends import Node
from labkit.serving.refused import Refused
from labkit.serving.settings import Backend, Settings
from labkit.serving.telemetry import Telemetry
from labkit.serving.wire import Connections

LOOK_EVERY_S = 0.2
RESTART_PAUSE_S = 1.0
AGAIN_S = 15.0  # between two loads of a model that fails to load
log = logging.getLogger(__name__)


class Pool:
    """Hold every node by its backend's name."""

    def __init__(self, settings: Settings, telemetry: Telemetry) -> None:
        self.settings = settings
        self.http = Connections()
        self.nodes = {spec.name: Node(spec, self.http) for spec in settings.backends}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._tried: dict[str, float] = {}
        telemetry.budget_bytes.set(settings.memory_gb * 1e9)

    def models(self) -> dict[str, Node]:
        """Return a node of each model that can be asked for."""
        return {node.spec.model: node for node in self.nodes.values() if node.wanted}

    def background(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run beside everything else; held here so that it is not collected."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def open(self) -> None:
        """Start what the settings name, one after the other; what fails is tried again, by `watch` or when asked."""
        for node in list(self.nodes.values()):
            await self._try(node)

    async def _try(self, node: Node) -> None:
        self._tried[node.spec.name] = time.monotonic()
        before = node.failed
        try:
            self.make_room(node)
            await node.start()
        except NotEnoughMemory as error:
            node.failed = error.what
        except Exception as error:  # whatever it is, the others are started, and somebody is told
            if not isinstance(error, LabkitError):
                log.exception("backend %s", node.spec.name)
        if node.failed and node.failed != before:
            log.warning("backend %s: %s", node.spec.name, node.failed)

    def make_room(self, node: Node) -> None:
        """Unload idle models, the longest idle first, until this one fits the budget; raise `NotEnoughMemory`."""
        budget = self.settings.memory_gb * 1e9
        others = [other for other in self.nodes.values() if other is not node]
        used = sum(other.memory for other in others)
        for other in sorted(others, key=lambda other: other.last_used):
            if budget and not node.loaded and used + node.need > budget and other.memory and not other.active:
                used -= other.memory
                self.background(other.stop())
        if budget and not node.loaded and used + node.need > budget:
            left = size(max(0, round(budget) - used))
            what = f"{node.spec.name} needs {size(node.need)}, and {left} of the budget are left"
            raise NotEnoughMemory(what, fix="stop another model, or raise memory_gb")

    def get(self, name: str) -> Node:
        """Return a node by its backend's name."""
        if node := self.nodes.get(name):
            return node
        raise ModelNotFound(f"there is no backend {name!r:.60}", fix=", ".join(self.nodes) or "start one")

    async def start(self, spec: Backend) -> None:
        """Start a backend that is new, or was stopped; return when it has written its first token."""
        old = self.nodes.get(spec.name)
        if old and old.wanted and old.loaded:
            raise Refused(409, "exists", f"{spec.name} runs already", "replace it, or take another name")
        node = old if old and old.spec == spec else Node(spec, self.http)
        self.make_room(node)
        await node.start()
        node.wanted, self.nodes[spec.name] = True, node

    async def stop(self, name: str) -> None:
        """Send it nothing more, wait for what is under way, and free its model."""
        node = self.get(name)
        node.wanted = False
        await node.stop()

    async def replace(self, spec: Backend) -> None:
        """Put another model in a backend's place without a gap: the new one starts first, the old one ends its work."""
        old, new = self.get(spec.name), Node(spec, self.http)
        self.make_room(new)
        await new.start()
        self.nodes[spec.name] = new
        self.background(old.stop())

    async def unload_idle(self, wanted: bool = True) -> None:
        """Free every model that nobody uses; the next request loads it again."""
        for node in list(self.nodes.values()) if wanted else ():
            if node.model and not node.active:
                await node.stop()

    async def watch(self) -> None:
        """Restart what died and unload what is idle, until this is cancelled."""
        while True:
            now = time.monotonic()
            for node in list(self.nodes.values()):
                pause = AGAIN_S if node.failed and not node.spec.url else RESTART_PAUSE_S
                waited = now - self._tried.get(node.spec.name, 0.0) > pause
                if (node.dead or node.failed) and node.wanted and not node.starting and waited:
                    self.background(self._try(node))
                idle = self.settings.idle and now - node.last_used > self.settings.idle
                if idle and node.model and not node.active and not node.starting:
                    self.background(node.stop())
            await asyncio.sleep(LOOK_EVERY_S)

    async def close(self) -> None:
        """Stop every backend at once, whatever it is doing."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(node.stop(now=True) for node in self.nodes.values()))
        await self.http.aclose()
