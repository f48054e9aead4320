"""Tools: a family turned into an OpenAI tool, its arguments, requests, results and answers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import kinds, phrasing, words
from .families import FAMILIES, Family, Param
from .made_up import made_up

STYLES = ("snake", "snake", "snake", "camel", "camel", "pascal", "flat")

JSON_TYPES = {"enum": "string"}


@dataclass(frozen=True)
class Tool:
    """A family under one name, with one name for each parameter."""

    family: Family
    name: str
    params: tuple[Param, ...]
    names: dict[str, str]
    schema: dict[str, Any]


def tool_name(rng: random.Random, family: Family, form: str) -> tuple[str, bool]:
    """Draw a tool's name, and whether it hides what the tool does."""
    verb, noun = rng.choice(family.verbs), rng.choice(family.nouns)
    roll = rng.random() * (0.75 if family.made_up else 1.0)
    if roll < (0.4 if family.made_up else 0.3):
        return words.style(f"{verb} {noun}", form), False
    if roll < 0.6:
        extra = words.word(rng)
        text = rng.choice(
            (
                f"{extra} {verb} {noun}",
                f"{verb} {noun} {extra}",
                f"{verb} {extra} {noun}",
                f"{noun} {verb}",
                f"{verb} {noun} {rng.randint(1, 99)}",
                f"{noun} {extra}",
            )
        )
        return words.style(text, form), verb not in text
    return words.style(" ".join(words.word(rng) for _ in range(rng.choice((1, 2, 2, 2, 3)))), form), True


def arg_name(rng: random.Random, param: Param, form: str, made: bool) -> tuple[str, bool]:
    """Draw an argument's name, and whether it hides what the argument is."""
    text = rng.choice(param.names)
    roll = rng.random()
    if roll < (0.85 if made else 0.45):
        return words.style(text, form), False
    if not made and roll < 0.7:
        text = rng.choice(
            (f"{words.word(rng)} {text}", f"{text} {words.word(rng)}", f"{text} {rng.randint(1, 9)}")
        )
        return words.style(text, form), False
    return words.style(words.word(rng) if rng.random() < 0.6 else words.label(rng), form), True


def options(kind: str) -> list[tuple[str, str]]:
    """List an enum's values with the words that stand for them."""
    pairs = [part.partition("=") for part in kind.split("/")]
    return [(value, shown or value) for value, _, shown in pairs]


def param_schema(rng: random.Random, param: Param, described: bool) -> dict[str, Any]:
    """Write a parameter's JSON schema."""
    schema: dict[str, Any] = {"type": JSON_TYPES.get(param.type, param.type)}
    if param.type == "enum":
        schema["enum"] = [value for value, _ in options(param.kind)]
    if param.type == "array":
        schema["items"] = {"type": "string"}
    if described:
        schema["description"] = rng.choice(param.texts)
    return schema


def build(rng: random.Random, family: Family, form: str, *, bare: bool = False) -> Tool:
    """Make a tool of a family, with names in the style `form`; `bare` leaves descriptions out."""
    name, hidden = tool_name(rng, family, form)
    params, names, properties = list(family.params), {}, {}
    if rng.random() < 0.25:
        rng.shuffle(params)
    spoken = rng.random() < 0.6 and not bare
    arg_form = "snake" if form in ("snake", "flat") else "camel"
    for param in params:
        key, dark = arg_name(rng, param, arg_form, family.made_up)
        if bare and len(params) > 1:
            key, dark = words.style(param.names[0], arg_form), False
        while key in properties:
            key = words.style(f"{key} {words.noun(rng)}", arg_form)
        names[param.slot] = key
        properties[key] = param_schema(rng, param, (dark and not bare) or spoken)
    function: dict[str, Any] = {"name": name}
    if hidden and not bare or not bare and rng.random() < 0.85:
        function["description"] = rng.choice(family.texts)
    required = [names[param.slot] for param in params if param.required]
    function["parameters"] = {"type": "object", "properties": properties, "required": required}
    return Tool(family, name, tuple(params), names, {"type": "function", "function": function})


def draw(rng: random.Random, tool: Tool, *, extra: float = 0.3) -> dict[str, Any]:
    """Draw values for the required and for some optional parameters, by slot."""
    return {param.slot: value(rng, param) for param in tool.params if param.required or rng.random() < extra}


def value(rng: random.Random, param: Param) -> Any:
    """Draw one value of a parameter."""
    if param.type == "boolean":
        return rng.random() < 0.5
    if param.type == "enum":
        return rng.choice(options(param.kind))[0]
    if param.type == "array":
        return [kinds.sample(rng, param.kind) for _ in range(rng.choice((1, 2, 2, 3)))]
    return kinds.sample(rng, param.kind)


def listed(items: Sequence[Any]) -> str:
    """Join items as `a, b and c`."""
    texts = [str(item) for item in items]
    return texts[0] if len(texts) == 1 else ", ".join(texts[:-1]) + " and " + texts[-1]


NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()


def show(rng: random.Random, param: Param, item: Any, *, quoted: bool = False) -> str:
    """Write a value as the user says it."""
    if param.type == "boolean":
        return param.kind.split("/")[0] if item else param.kind.split("/")[1]
    if param.type == "enum":
        return rng.choice(dict(options(param.kind))[str(item)].split("~"))
    if param.type == "array":
        return listed(item)
    if param.type == "integer" and 1 <= item <= 12 and rng.random() < 0.08:
        return NUMBERS[int(item)]
    return rng.choice(phrasing.QUOTES).format(item) if quoted else str(item)


def arguments(tool: Tool, values: dict[str, Any]) -> dict[str, Any]:
    """Return a call's arguments, in the order of the schema."""
    return {tool.names[param.slot]: values[param.slot] for param in tool.params if param.slot in values}


def joined(rng: random.Random, fragments: list[str]) -> str:
    """Join the fragments of a made-up request."""
    if len(fragments) < 2:
        return "".join(fragments)
    return rng.choice(
        (" ".join, ", ".join, ", ".join, lambda parts: ", ".join(parts[:-1]) + " and " + parts[-1])
    )(fragments)


def template(rng: random.Random, tool: Tool, slots: set[str], pool: Sequence[str]) -> str:
    """Choose a wording and write the fragments of the given slots into it."""
    text = rng.choice(pool)
    inside = set(phrasing.slots(text))
    mark = text[-1] if text[-1] in "?." else ""
    params = [param for param in tool.params if param.slot in slots and param.slot not in inside]
    if rng.random() < 0.3:
        rng.shuffle(params)
    forms = [
        rng.choice(param.fragments or (f"with {tool.names[param.slot]} {{}}",))
        .strip()
        .replace("{}", f"{{{param.slot}}}")
        for param in params
    ]
    if "{tool}" in text:
        forms = [f"{tool.names[param.slot]} {{{param.slot}}}" for param in params]
    if "{&}" in text:
        text = (
            text.replace("{&}", joined(rng, forms)).strip()
            if forms
            else text.replace(" with {&}", "")
            .replace(" using {&}", "")
            .replace(" (with|using) {&}", "")
            .replace("{&}", "")
        )
        return text.strip(" :,.") + mark
    return text.rstrip("?.") + "".join(" " + form for form in forms) + mark


def ask(
    rng: random.Random,
    tool: Tool,
    values: dict[str, Any],
    *,
    shown: dict[str, str] | None = None,
    pool: Sequence[str] = (),
) -> tuple[list[phrasing.Piece], str]:
    """Word a request, as pieces with its template; `shown` overrides how values read."""
    text = template(rng, tool, set(values), pool or tool.family.requests)
    last = phrasing.slots(text)[-1:] if text.rstrip("?.").endswith("}") else []
    said = {"tool": tool.name}
    for param in tool.params:
        if param.slot in values:
            quoted = (
                param.kind == "phrase"
                and param.type == "string"
                and (rng.random() < 0.8 or last != [param.slot])
            )
            said[param.slot] = show(rng, param, values[param.slot], quoted=quoted)
    return phrasing.fill(rng, text.rstrip("?."), said | (shown or {})), text


def pick(rng: random.Random, *, made: float = 0.45, count: int | None = None) -> Family:
    """Choose a family, a made-up one with probability `made`."""
    return made_up(rng, count=count) if rng.random() < made else rng.choice(FAMILIES)


def group(family: Family) -> str:
    """Return a name shared by families which a request cannot tell apart."""
    return "calc" if family.key.startswith("calc.") else family.key


def near(rng: random.Random, rival: Family) -> Family:
    """Choose a family that is close to another one, yet differs from it."""
    if rival.made_up:
        return made_up(rng, avoid=rival)
    root = rival.key.partition(".")[0] + "."
    kin = [family for family in FAMILIES if family.key.startswith(root)]
    return rng.choice(kin) if kin else pick(rng)


def offer(rng: random.Random, wanted: Sequence[Family], extra: int, *, bare: bool = False) -> list[Tool]:
    """Build tools of the wanted families and of `extra` others, none confusable with them."""
    form = rng.choice(STYLES)
    groups = {group(family) for family in wanted}
    families = list(wanted)
    for _ in range(extra):
        rival = rng.choice(wanted) if wanted else None
        other = near(rng, rival) if rival and rng.random() < 0.35 else pick(rng)
        if group(other) not in groups:
            groups.add(group(other))
            families.append(other)
    tools = [
        build(rng, family, form if rng.random() < 0.75 else rng.choice(STYLES), bare=bare)
        for family in families
    ]
    seen: set[str] = set()
    return [tool for tool in tools if not (tool.name in seen or seen.add(tool.name))]  # type: ignore[func-returns-value]
