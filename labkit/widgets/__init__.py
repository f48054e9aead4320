"""What you touch: controls and views of models, replies and machines.

Each shows text or a picture where there is no front end. Names are imported when they are first used: ipywidgets
and plotly are not light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "AgentTrace": "agent_trace",
    "Chat": "chat",
    "Doctor": "doctor",
    "EngineRace": "engine_race",
    "LiveMetrics": "live_metrics",
    "ModelPicker": "picker",
    "QuantExplorer": "quant_explorer",
    "Timeline": "timeline",
}
__all__ = [
    "AgentTrace", "Chat", "Doctor", "EngineRace", "LiveMetrics", "ModelPicker", "QuantExplorer", "Timeline",
]  # fmt: skip

if TYPE_CHECKING:
    from labkit.widgets.agent_trace import AgentTrace
    from labkit.widgets.chat import Chat
    from labkit.widgets.doctor import Doctor
    from labkit.widgets.engine_race import EngineRace
    from labkit.widgets.live_metrics import LiveMetrics
    from labkit.widgets.picker import ModelPicker
    from labkit.widgets.quant_explorer import QuantExplorer
    from labkit.widgets.timeline import Timeline


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'labkit.widgets' has no attribute {name!r}")
    return getattr(import_module(f"labkit.widgets.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
