"""Three pretend tools for `labkit chat --tools demo`: they change nothing and ask nobody."""

from __future__ import annotations

import json
from collections.abc import Callable

from labkit.types import ToolCall


def light(room: str, on: bool) -> str:
    """Turn the light in a room on or off.

    Args:
        room: The room
        on: True for on, false for off
    """
    return json.dumps({"status": "on" if on else "off", "room": room})


def weather(place: str) -> str:
    """Get the current weather in a city.

    Args:
        place: The city
    """
    return json.dumps({"temperature": 12 + len(place) % 9, "condition": "cloudy"})


def timer(minutes: int) -> str:
    """Set a timer.

    Args:
        minutes: Minutes until it rings
    """
    return json.dumps({"state": "running", "minutes": minutes})


TOOLS: dict[str, Callable[..., str]] = {tool.__name__: tool for tool in (light, weather, timer)}


def answer(call: ToolCall) -> str:
    """Return what a tool says, or what is wrong with the call."""
    tool = TOOLS.get(call.name)
    if tool is None:
        return json.dumps({"error": f"no tool named {call.name}"})
    try:
        return tool(**call.arguments)
    except TypeError as exc:  # a model may leave an argument out, or make one up
        return json.dumps({"error": str(exc)})
