"""In which state each backend is, and whether any of them can answer: what /health, /ready and /admin/models say."""

from __future__ import annotations

from typing import Any

from labkit.serving.backends import Node
from labkit.serving.router import Router


def trouble(router: Router, node: Node) -> str:
    """Say why nothing can be expected of a node now; nothing where all is well."""
    breaker = router.breaker(node)
    if node.dead:
        return "its process has ended"
    if node.starting and not node.freeing:  # while it is freed, a request only waits until it is loaded again
        return "its model is being loaded"
    return node.failed or (breaker.why if breaker.open or breaker.failing else "")


def none_can_answer(router: Router, reasons: bool) -> str:
    """Say that no backend can answer, each with its reason if `reasons` may be told; nothing when one can."""
    nodes = {name: node for name, node in router.pool.nodes.items() if node.wanted}
    wrong = {name: why for name, node in nodes.items() if (why := trouble(router, node))}
    if nodes and len(wrong) < len(nodes):
        return ""
    said = "; ".join(f"{name}: {why}" if reasons else name for name, why in wrong.items())
    return f"no backend can answer ({said or 'none is started'})"


def states(router: Router) -> list[dict[str, Any]]:
    """Return what each backend is doing."""
    return [_state(router, name, node) for name, node in router.pool.nodes.items()]


def _state(router: Router, name: str, node: Node) -> dict[str, Any]:
    why = trouble(router, node)
    calm = "stopped" if not node.wanted else "starting" if node.starting else "up"
    return {
        "name": name,
        "model": node.spec.model,
        "engine": "url" if node.spec.url else node.engine,
        "state": "dead" if node.dead and node.wanted else "failed" if calm == "up" and why else calm,
        "why": why,
        "loaded": node.loaded,
        "breaker": "open" if router.breaker(node).open else "closed",
        "active": node.active,
        "bytes": node.memory,
        "weight": node.spec.weight,
    }
