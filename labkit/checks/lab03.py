"""Checks of lab 03, small language models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from labkit.agents.routing import Attempt, ask
from labkit.checks.core import Exercises, Wrong, compare
from labkit.engines.registry import load
from labkit.models.sizes import SHAPES, memory
from labkit.types import Message

lab = Exercises("03")


def _tools(sizes: Sequence[int], answer: float) -> str:
    alone, both = sizes[0], sizes[-1]
    reasons = {
        alone / both: "that is the question's share",
        100 * (both - alone) / both: "that is in percent; a share goes from 0 to 1",
        (both - alone) / alone: "divide by all tokens, not by the question's",
        float(both - alone): "that is how many tokens; divide by sizes[-1]",
    }
    compare(answer, (both - alone) / both, reasons, "(with − without) / with")
    return f"{(both - alone) / both:.0%} of what is read for this question are tools"


q1 = lab.add(
    _tools,
    hints=("The tools take sizes[-1] - sizes[0] tokens.", "Divide that part by the whole, sizes[-1]."),
    code="tool_share = (sizes[-1] - sizes[0]) / sizes[-1]",
)


def _context(answer: float) -> str:
    need, shape = memory(SHAPES["7B"], "Q4_K_M", 1), SHAPES["7B"]
    right = need.weights / need.kv
    reasons = {
        1 / right: "turned over; divide the weights by the cache of one token",
        right * 2: "off by two; there is a key and a value, and either has two bytes a number",
        right * shape.kv_heads / shape.heads: "that counts all heads, but only KV heads are kept",
    }
    compare(answer, right, reasons, "weights / bytes of cache a token", within=0.02)
    return f"about {right:,.0f} tokens (estimated), at {need.kv:,} bytes each"


q2 = lab.add(
    _context,
    hints=('memory(SHAPES["7B"], "Q4_K_M", 1).kv is one token\'s.', "How often does it go into .weights?"),
    code='tokens = needs[0].weights / memory(SHAPES["7B"], "Q4_K_M", 1).kv',
)


def _latency(start: float, slope: float, tpot: float, answer: float) -> str:
    first, writing = start + 600 * slope, 39 * tpot
    total = first + writing
    reasons = {
        total / 1000: "that is in seconds; all three are milliseconds",
        first: "that is the time to first token, the writing is missing",
        writing: "that is writing alone, the prompt must be read first",
        start + 640 * slope: "a token written costs tpot, not slope",
        start + 600 * tpot + 40 * slope: "slope is for a token read, tpot for a token written",
    }
    within = 0.005 + abs(tpot / total)  # 40 gaps will do, too
    compare(answer, total, reasons, "start + reading + writing", within)
    return f"{total:.1f} ms: {first:.1f} to the first token, then {writing:.1f}"


q3 = lab.add(
    _latency,
    hints=("start + 600 * slope brings the first token.", "39 more come after it; each takes tpot."),
    code="predicted = start + 600 * slope + 39 * tpot",
)


def set_light(room: str, on: bool) -> str:
    """Turn the light in a room on or off."""
    return f"{room} {on}"


CALL = '<tool_call>\n{{"name": "{}", "arguments": {}}}\n</tool_call>'
FINE, HALF = (CALL.format("set_light", f'{{"room": "hall"{more}}}') for more in (', "on": true', ""))
USER: Message = {"role": "user", "content": "Turn on the light in the hall"}
RESULT = [USER, {"role": "assistant", "content": ""}, {"role": "tool", "content": "done"}]
# What a rule is shown: situation, turns, whether set_light is offered, answer, and whether it shall be handed over.
SITUATIONS: tuple[tuple[str, list[Message], bool, str, bool], ...] = (
    ("a call that fits", [USER], True, FINE, False),
    ("prose where the user spoke last and a tool is offered", [USER], True, "It is on.", True),
    ("a call of a tool that is not offered", [USER], True, CALL.format("open_door", "{}"), True),
    ("a call that lacks an argument", [USER], True, HALF, True),
    ("prose after a tool's result", RESULT, True, "It is on.", False),
    ("prose where no tool is offered", [USER], False, "Hello!", False),
)


def _doubt(rule: Callable[[Attempt], Any]) -> str:
    for situation, turns, offered, said, hand_over in SITUATIONS:
        with load("nano", engine="echo", script=[said]) as model:
            attempt = ask(model, turns, [set_light] if offered else [])
        reason = rule(attempt)
        if bool(reason) != hand_over:
            wanted = "a reason to hand over" if hand_over else '""'
            raise Wrong(f"{situation} wants {wanted}; yours returned {reason!r:.80}")
    return "all situations are judged right; whether an answer is true, no such rule can see"


q4 = lab.add(
    _doubt,
    hints=("No call: not attempt.reply.tool_calls.", "Map each offered name to what it requires."),
    code="""def doubt(attempt):
    tools = [tool["function"] for tool in attempt.tools]
    required = {tool["name"]: tool["parameters"].get("required", ()) for tool in tools}
    if tools and attempt.messages[-1]["role"] == "user" and not attempt.reply.tool_calls:
        return "no tool call"
    for call in attempt.reply.tool_calls:
        if call.name not in required or set(required[call.name]) - call.arguments.keys():
            return f"{call} cannot be made"
    return \"\"""",
)


def _cheaper(function: Callable[[float, float], float]) -> str:
    for ratio, share in ((20.0, 0.25), (10.0, 0.0), (30.0, 0.2), (4.0, 1.0)):
        right = 1 / (1 / ratio + share)
        reasons = {
            1 / right: "turned over; big model's price / router's price",
            1 / ((1 - share) / ratio + share): "what is handed over has paid for the small model, too",
            (1 - share) * ratio + share: "prices may be averaged, factors may not",
        }
        formula = f"times_cheaper({ratio:g}, {share:g}), where the router costs 1/ratio + handed_over"
        compare(function(ratio, share), right, reasons, formula, within=0.001)
    return "a small model at a 20th of the price that keeps 75 % makes it 3.3 times cheaper"


q5 = lab.add(
    _cheaper,
    hints=("If the big one's price is 1, a request costs 1/ratio, and sometimes 1 more.", "Turn it over."),
    code="def times_cheaper(ratio, handed_over):\n    return 1 / (1 / ratio + handed_over)",
)
