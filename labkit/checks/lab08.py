"""Checks of lab 08, Foundry Local."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from labkit.checks.core import Exercises, Wrong, compare, require_function

# Best first, as `GetModelDevicePriority` in sdk_v2/cpp/src/model.cc of microsoft/Foundry-Local (July 2026) has it.
ORDER = ("npu", "vendor gpu", "cuda gpu", "generic gpu", "vendor cpu", "generic cpu", "unnamed")
HOUSE = ("house-generic-cpu:4", "house-generic-gpu:4", "house-cuda-gpu:3", "house-qnn-npu:2")
NAMES = ("lamp-generic-cpu:9", "lamp-generic-gpu:3", "lamp-generic-cpu:10", "lamp-generic-npu:1")
RECORDED = ("lamp-generic-npu:1", "lamp-generic-gpu:3", "lamp-generic-cpu:10", "lamp-generic-cpu:9")
CODER_BYTES, CODER_PARAMETERS = 1_911_260_446, 1.54e9
lab = Exercises("08")


def device(name: str) -> str:
    """Return the kind of device that a model id names, one of `ORDER`."""
    ending = name.lower().rpartition(":")[0]
    for kind in ("generic-gpu", "cuda-gpu", "generic-cpu"):
        if ending.endswith(f"-{kind}"):
            return kind.replace("-", " ")
    for kind in ("npu", "gpu", "cpu"):
        if ending.endswith(f"-{kind}"):
            return kind if kind == "npu" else f"vendor {kind}"
    return "unnamed"


PICKS = {
    "till": (HOUSE[0], "there is nothing but a processor"),
    "tower": (HOUSE[2], "it has CUDA, no NPU, and a CUDA variant stands before a generic one"),
    "tablet": (HOUSE[3], "an NPU stands before everything else"),
    "laptop": (HOUSE[0], "what is downloaded already is taken before anything that is not"),
}


def _picks(picks: Mapping[str, str]) -> str:
    if not isinstance(picks, Mapping) or set(picks) != set(PICKS):
        raise Wrong(f"give a dict with the four machines {', '.join(PICKS)} and a model id for each")
    for machine, (right, why) in PICKS.items():
        name = str(picks[machine]).strip()
        if name != right:
            raise Wrong(f"{machine}: not {name!r:.60}; {why}")
    return "four machines, one alias, three different files"


q1 = lab.add(
    _picks,
    hints=(
        "First strike out what the machine has no device for; then look for what is downloaded; then for the order.",
        "The laptop has CUDA, but what is already on its disk comes first.",
    ),
    code='picks = {"till": "house-generic-cpu:4", "tower": "house-cuda-gpu:3",\n'
    '         "tablet": "house-qnn-npu:2", "laptop": "house-generic-cpu:4"}',
)


def _rank(found: Sequence[str], rank: Callable[[str], Any]) -> str:
    require_function(rank, "rank")
    trials = (found, HOUSE[::-1], ("a-cpu:1", "a:9", "a-gpu:2", "a-cpu:2", "a-cuda-gpu:1"))
    for names in trials:
        right = sorted(names, key=lambda name: (ORDER.index(device(name)), -int(name.rpartition(":")[2])))
        given = sorted(names, key=rank)
        if given == right[::-1] != right:
            raise Wrong("that is worst first: a smaller key comes earlier in sorted()")
        if [device(name) for name in given] != [device(name) for name in right]:
            raise Wrong(f"the devices come as {', '.join(map(device, given))}: use their place in ORDER")
        if given != right:
            raise Wrong(f"{given} should be {right}: versions are numbers, and the higher one comes first")
    return f"{', '.join(sorted(found, key=rank))}"


q2 = lab.add(
    _rank,
    hints=(
        "A key may be a tuple: first the place of device(name) in ORDER, then the version.",
        "The version is what stands behind the colon. As a number, and negative, the highest comes first.",
    ),
    code='def rank(name):\n    return ORDER.index(device(name)), -int(name.split(":")[1])',
)


def _tool(name: str, description: str, schema: str) -> str:
    if not all(isinstance(part, str) for part in (name, description, schema)):
        raise Wrong("all three are strings: json.dumps(…) makes one of the schema")
    if not name.isidentifier():
        raise Wrong(f"{name!r:.60} is no name for a tool: letters, digits and _ only")
    if len(description.split()) < 3:
        raise Wrong("the description is what the model goes by: write a sentence")
    try:
        told = json.loads(schema)
    except ValueError as error:
        raise Wrong(f"the schema is no JSON ({error}): json.dumps(…) writes it") from error
    if not isinstance(told, dict) or told.get("type") != "object":
        raise Wrong('the arguments together are an object: {"type": "object", "properties": …}')
    kinds = {key: value.get("type") for key, value in told.get("properties", {}).items()}
    if set(kinds) != {"room", "celsius"} or kinds["room"] != "string":
        raise Wrong(f"the properties are {kinds}; they should be a string room and a number celsius")
    if kinds["celsius"] not in ("number", "integer"):
        raise Wrong(f"celsius is a {kinds['celsius']}: a temperature is a number")
    if set(told.get("required", ())) != {"room", "celsius"}:
        raise Wrong('without "required": ["room", "celsius"] the model may leave them out')
    return f"{len(schema)} characters of schema, which the model reads with every question"


q3 = lab.add(
    _tool,
    hints=(
        'A schema is a dict first: {"type": "object", "properties": {…}, "required": […]}; then json.dumps.',
        'A property is a dict with a type: {"room": {"type": "string"}, "celsius": {"type": "number"}}.',
    ),
    code='name, description = "set_heating", "Set the temperature of a room."\n'
    'properties = {"room": {"type": "string"}, "celsius": {"type": "number"}}\n'
    'schema = json.dumps({"type": "object", "properties": properties, "required": [*properties]})',
)


def _bits(bits: float) -> str:
    right = CODER_BYTES * 8 / CODER_PARAMETERS
    reasons = {
        right / 8: "that is bytes a weight: a byte has 8 bits",
        1 / right: "turned over: bits / weights",
        right / 1.024**3: "the file's size is given in bytes: no unit to convert",
    }
    compare(float(bits), right, reasons, "bytes × 8 / parameters", within=0.02)
    return f"{right:.1f} bits a weight in a 4-bit file: much in it is not stored with 4 bits"


q4 = lab.add(
    _bits,
    hints=("A byte has 8 bits.", "bytes × 8 / parameters"),
    code="bits = CODER_BYTES * 8 / CODER_PARAMETERS",
)
