"""labkit: learn to build AI agents that run at the edge, by running them.

    from labkit import load
    m = load("nano")
    print(m.chat("What is the weather in Paris?", tools=[get_weather]))

Names are imported when they are first used, so that `import labkit` stays quick and pulls in no engine.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "load": "labkit.engines.registry",
    "Model": "labkit.engines.base",
    "Engine": "labkit.engines.base",
    "tool_schema": "labkit.engines.toolschema",
    "doctor": "labkit.engines.doctor",
    "catalog": "labkit.models.catalog",
    "GenerationOptions": "labkit.types",
    "Reply": "labkit.types",
    "Chunk": "labkit.types",
    "ToolCall": "labkit.types",
    "LabkitError": "labkit.errors",
}
__all__ = [
    "Chunk", "Engine", "GenerationOptions", "LabkitError", "Model", "Reply", "ToolCall", "catalog",
    "doctor", "load", "tool_schema",
]  # fmt: skip

if TYPE_CHECKING:
    from labkit.engines.base import Engine, Model
    from labkit.engines.doctor import doctor
    from labkit.engines.registry import load
    from labkit.engines.toolschema import tool_schema
    from labkit.errors import LabkitError
    from labkit.models.catalog import catalog
    from labkit.types import Chunk, GenerationOptions, Reply, ToolCall


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'labkit' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
