"""Checks of lab 01, meet your machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labkit.checks.core import Exercises, Wrong, number, require_function
from labkit.engines.base import Model
from labkit.engines.toolschema import tool_schema
from labkit.models.hardware import machine
from labkit.types import Reply

BITS = 4.85  # Q4_K_M, bits per weight
GB = 1e9
lab = Exercises("01")


def _largest(billions: float) -> str:
    number(billions, "a number of billions")
    expected = machine().memory_available / 2 * 8 / BITS / 1e9
    if billions > 1e6:
        raise Wrong("that looks like a number of parameters: divide by 1e9")
    if abs(billions / expected - 8) < 1 or abs(billions / expected - 1 / 8) < 0.02:
        raise Wrong("off by a factor of 8: memory is counted in bytes, weights in bits")
    if not 0.7 * expected <= billions <= 1.3 * expected:
        raise Wrong(f"{billions:.1f} billion weights of {BITS} bits take {billions * BITS / 8:.1f} GB")
    return f"about {expected:.0f} billion parameters, in half of the memory that is free now"


q1 = lab.add(
    _largest,
    hints=(
        "report.machine.memory_available is in bytes, and half of it is for the model.",
        "A weight takes 4.85 bits, so a byte holds 8 / 4.85 weights.",
    ),
    code="billions = report.machine.memory_available / 2 * 8 / 4.85 / 1e9",
)


def _costly(m: Model, word: str) -> str:
    if not isinstance(word, str) or not word.strip():
        raise Wrong("give a word as a string")
    if " " in word.strip() or len(word.strip()) > 12:
        raise Wrong("one word of at most 12 characters")
    pieces = [t.text for t in m.score(word.strip())]
    if len(pieces) < 6:
        raise Wrong(f"{word!r} costs only {len(pieces)}: {' | '.join(pieces)}")
    return f"{len(pieces)} tokens: {' | '.join(pieces)}"


q2 = lab.add(
    _costly,
    hints=(
        "The tokenizer knows frequent words whole. Which words has it hardly ever seen?",
        "Digits are one token each, and a letter of another alphabet takes up to three.",
    ),
    code='my_word = "Zxqvwkyj42"',
)


def _light(m: Model, tool: Callable[..., Any]) -> str:
    require_function(tool, "set_light")
    function = tool_schema(tool)["function"]
    kinds = {name: p.get("type") for name, p in function["parameters"]["properties"].items()}
    if kinds != {"room": "string", "on": "boolean"}:
        raise Wrong(f"the model sees the parameters {kinds}; it should see a string room and a boolean on")
    if not function["description"]:
        raise Wrong("the docstring is what the model reads: write one sentence")
    reply = m.chat("Turn on the light in the kitchen", tools=[tool], tool_choice="required")
    wrote = ", ".join(map(str, reply.tool_calls)) or repr(reply.text)
    # The exercise is the function. What the model makes of it is told, and no fault of the student's.
    if [call.arguments for call in reply.tool_calls] != [{"room": "kitchen", "on": True}]:
        wrote += ". That is not what was asked: a small model errs, so check before you act"
    return f"shown your tool, the model wrote {wrote}"


q3 = lab.add(
    _light,
    hints=(
        "Two parameters with type hints: room: str and on: bool.",
        'The docstring tells the model what the tool is for: """Turn the light in a room on or off."""',
    ),
    code='def set_light(room: str, on: bool) -> str:\n    """Turn the light in a room on or off."""\n'
    "    return f\"The light in the {room} is {'on' if on else 'off'}.\"",
)


def _speed(reply: Reply, speed: float) -> str:
    number(speed, "a number of tokens per second")
    expected = reply.timing.tokens_per_second
    if abs(speed * expected - 1) < 0.05:
        raise Wrong("that is seconds per token: turn it over")
    if (
        abs(speed / (reply.timing.tokens / reply.timing.total) - 1) < 0.005
        and abs(speed / expected - 1) > 0.005
    ):
        raise Wrong("this counts the wait for the first token too: begin at stamps[0]")
    if not abs(speed / expected - 1) <= 0.005:  # written so that NaN is wrong, too
        raise Wrong(f"{speed:,.0f} tokens/s is not it: n tokens have n − 1 gaps between them")
    return f"{expected:,.0f} tokens per second on this machine"


q4 = lab.add(
    _speed,
    hints=(
        "stamps[-1] - stamps[0] is the time from the first token to the last.",
        "In that time the model wrote one token less than there are stamps.",
    ),
    code="speed = (len(stamps) - 1) / (stamps[-1] - stamps[0])",
)
