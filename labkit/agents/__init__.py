"""WHAT it does: agents, their tools, and what keeps the tools safe. Names are imported when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "Agent": "loop",
    "Run": "loop",
    "Guarded": "tools",
    "Permissions": "permissions",
    "query": "permissions",
    "run_python": "sandbox",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'labkit.agents' has no attribute {name!r}")
    return getattr(import_module(f"labkit.agents.{_HOME[name]}"), name)
