"""What a user asks of a tool, and what the tool gives back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .draw import Draw, capital, listed, spaced, style
from .phrasing import ENDS, QUOTES, ending, slots
from .tools import Tool, members, options
from .world import Param

Values = Mapping[str, Any]
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()
CALCULATIONS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}


def value(d: Draw, param: Param) -> Any:
    """Draw one value of a parameter."""
    if param.type == "boolean":
        return d.chance(0.5)
    if param.type == "enum":
        return d.choice(list(options(param.kind)))
    if param.type == "array":
        return [d.sample(param.kind) for _ in range(d.choice((1, 2, 2, 3)))]
    if param.type == "object":
        return {key: d.sample(kind) for key, kind in members(param)}
    return d.sample(param.kind)


def draw_values(d: Draw, tool: Tool, extra: float = 0.3) -> dict[str, Any]:
    """Draw values for the required and for a share `extra` of the optional parameters, by slot."""
    return {p.slot: value(d, p) for p in tool.params if p.required or d.chance(extra)}


def show(d: Draw, param: Param, item: Any, *, quoted: bool = False) -> str:
    """Write a value as the user says it."""
    if param.type == "boolean" and "/" in param.kind:
        return param.kind.split("/")[0 if item else 1]
    if param.type == "enum":
        return d.choice(options(param.kind)[str(item)].split("~"))
    if param.type == "array":
        return listed(item)
    if param.type == "object":
        return listed([f"{key} {inner}" for key, inner in item.items()])
    if param.type == "integer" and 1 <= item <= 12 and d.chance(0.08):
        return NUMBERS[int(item)]
    return d.choice(QUOTES).format(item) if quoted else str(item)


def template(d: Draw, tool: Tool, given: set[str], text: str) -> str:
    """Write the fragments of all given slots that a wording lacks into it, and cut off its sign."""
    body, inside = text.rstrip(ENDS), slots(text)
    params = [param for param in tool.params if param.slot in given and param.slot not in inside]
    if d.chance(0.3):
        d.rng.shuffle(params)
    forms = [d.choice(param.fragments).replace("{}", f"{{{param.slot}}}") for param in params]
    if "{tool}" in text:
        forms = [f"{tool.names[param.slot]} {{{param.slot}}}" for param in params]
    if "[" not in body:
        return " ".join([body, *forms])
    joined = d.choice((" ".join, ", ".join, ", ".join, listed))(forms)
    return re.sub(r"\[(.*)\{&\}\]", lambda found: found[1] + joined if forms else "", body)


def ask(
    d: Draw, tool: Tool, values: Values, pool: Sequence[str], shown: Values | None = None
) -> tuple[str, str]:
    """Word a request from a pool, values held (`shown` overrides how they read); return it with its sign."""
    text = d.choice(pool)
    body = template(d, tool, set(values), text)
    for slot in shown or ():  # which brings its own article
        body = body.replace(f"the {{{slot}}}", f"{{{slot}}}")
    last = slots(body)[-1:] if body.endswith("}") else []
    said = {"tool": tool.name}
    for param in tool.params:
        if param.slot in values:
            free = param.kind == "phrase" and param.type == "string"
            quoted = free and (last != [param.slot] or d.chance(0.8))
            said[param.slot] = show(d, param, values[param.slot], quoted=quoted)
    return d.make(body, {**said, **(shown or {})}, protect=True), ending(text)


def result(d: Draw, tool: Tool, values: Values) -> tuple[str, str]:
    """Draw a result's text and the sentence that answers from it."""
    roll = d.rng.random()
    if roll < 0.05:
        text = d.line("phrase")
        return json.dumps({"error": text}, ensure_ascii=False), f"The tool reports an error: {text}."
    form = d.choice(("snake", "snake", "camel"))
    row = d.choice(tool.family.results)
    data = {style(key.replace("_", " "), form): outcome(d, kind, values) for key, kind in row}
    first = next(iter(data.values()))
    if roll < 0.2 and not isinstance(first, list):
        return str(first), f"The result is {first}."
    return json.dumps(data, ensure_ascii=False), speak(data)


def outcome(d: Draw, kind: str, values: Values) -> Any:
    """Draw one value of a result; `{slot}` repeats an argument, `{=}` calculates."""
    if kind == "{=}":
        return calculate(values)
    return values[kind[1:-1]] if kind[0] == "{" else d.sample(kind)


def calculate(values: Values) -> float:
    """Return the result of `12 * 7`, or of two numbers and an operation."""
    if "expr" in values:
        left, sign, right = str(values["expr"]).split()
    else:
        left, sign, right = values["a"], CALCULATIONS[values["op"]], values["b"]
    a, b = int(left), int(right)
    exact = round(a / b, 2) if sign == "/" else a * b if sign == "*" else a + b if sign == "+" else a - b
    return int(exact) if exact == int(exact) else exact


def speak(data: Mapping[str, Any]) -> str:
    """Say a result in the one canonical way: `The a is 1, the b is 2 and the c is 3.`"""
    parts = []
    for key, item in data.items():
        text = (listed(item) or "none") if isinstance(item, list) else item
        parts.append(f"the {spaced(key)} {'are' if isinstance(item, list) else 'is'} {text}")
    return capital(listed(parts)) + "."
