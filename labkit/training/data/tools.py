"""Tools: families, real or made up, under names of their own, and the offer of several."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .draw import Draw, capital, put, style
from .world import Family, Param, cut

STYLES = ("snake", "snake", "snake", "camel", "camel", "pascal", "flat")
SEARCH = "search."  # how the keys of families begin that may find an answer to anything
TEXT_TYPES = ("string", "integer", "number")


@dataclass(frozen=True)
class Tool:
    """A family under one name, with a name for each parameter."""

    family: Family
    name: str
    params: tuple[Param, ...]
    names: dict[str, str]
    schema: dict[str, Any]

    def arguments(self, values: dict[str, Any]) -> dict[str, Any]:
        """Name values, in the order of the schema."""
        return {self.names[param.slot]: values[param.slot] for param in self.params if param.slot in values}


def tool_name(d: Draw, family: Family, form: str) -> tuple[str, bool]:
    """Draw a tool's name, and whether it hides what the tool does."""
    verb, noun = d.choice(family.verbs), d.choice(family.nouns)
    own = d.world.own_names
    roll = d.rng.random()
    if roll < own * 0.5:
        return style(f"{verb} {noun}", form), False
    if roll < own:
        order = "{v} {n} {word}|{v} {word} {n}|{word} {v} {n}|{n} {v}|{v} {n} {int:1:99}|{n} {word}"
        text = put(d.choice(order.split("|")), v=verb, n=noun)
        return style(d.names.make(text), form), verb not in text
    return style(" ".join(d.names.line("word") for _ in range(d.choice((1, 2, 2, 2, 3)))), form), True


def arg_name(d: Draw, param: Param, form: str, made: bool) -> tuple[str, bool]:
    """Draw an argument's name, and whether it hides what the argument is."""
    text, own = d.choice(param.names), d.world.own_names
    roll = d.rng.random()
    if roll < (0.85 if made else own * 0.8):
        return style(text, form), False
    if not made and roll < own * 1.05:
        order = d.choice(("{word} {n}", "{n} {word}", "{n} {int:1:9}"))
        return style(d.names.make(put(order, n=text)), form), False
    return style(d.names.line("word" if d.chance(0.6) else "label"), form), True


def options(kind: str) -> dict[str, str]:
    """Return an enum's values with the words that stand for them, apart by `~`."""
    pairs = [part.partition("=") for part in kind.split("/")]
    return {value: shown or value for value, _, shown in pairs}


def json_type(kind: str) -> str:
    """Return the JSON type of a kind of value."""
    number = "number" if kind[:3] in ("dec", "mon") else "string"
    return "integer" if kind[:3] == "int" else number


def schema(param: Param) -> dict[str, Any]:
    """Write a parameter's JSON schema, without its description."""
    if param.type == "enum":
        return {"type": "string", "enum": list(options(param.kind))}
    if param.type == "array":
        return {"type": "array", "items": {"type": json_type(param.kind)}}
    if param.type == "object":
        inner = {key: {"type": json_type(kind)} for key, kind in members(param)}
        return {"type": "object", "properties": inner, "required": list(inner)}
    return {"type": param.type}


def members(param: Param) -> list[tuple[str, str]]:
    """List the keys of an object and the kinds of their values."""
    return [(key, kind) for key, _, kind in (part.partition("=") for part in param.kind.split(";"))]


def build(d: Draw, family: Family, form: str) -> Tool:
    """Make a tool of a family, with names in the style `form`; short examples have no descriptions."""
    name, hidden = tool_name(d, family, form)
    params, names, properties = list(family.params), {}, {}
    if d.chance(0.25):
        d.rng.shuffle(params)
    spoken = d.chance(0.6)
    arg_form = "snake" if form in ("snake", "flat") else "camel"
    for param in params:
        key, dark = arg_name(d, param, arg_form, family.made_up)
        if d.short and len(params) > 1:
            key = style(param.names[0], arg_form)
        while key in properties:
            key = style(f"{key} {d.names.line('noun')}", arg_form)
        names[param.slot], properties[key] = key, schema(param)
        if (dark or spoken) and not d.short:
            properties[key]["description"] = d.choice(param.texts)
    function: dict[str, Any] = {"name": name}
    if not d.short and (hidden or d.chance(0.85)):
        function["description"] = d.choice(family.texts)
    required = [names[param.slot] for param in params if param.required]
    function["parameters"] = {"type": "object", "properties": properties, "required": required}
    return Tool(family, name, tuple(params), names, {"type": "function", "function": function})


def labelled(d: Draw, slot: str) -> Param:
    """Make up a parameter which the request must name."""
    label = d.names.line("label")
    form, _, kind = d.names.line("types").partition(" ")
    texts = tuple(capital(put(text, l=label)) for text in d.lists["labelled texts"])
    fragments = tuple(put(text, l=label) for text in d.lists["labelled"])
    return Param(slot, form, kind, (label,), texts, True, fragments)


def natural(d: Draw, slot: str) -> Param:
    """Make up a parameter whose fragment tells what it is."""
    spec, names, fragments = d.names.row("natural")
    form, _, kind = spec.partition(" ")
    label = d.choice(names.split(","))
    texts = tuple(capital(put(text, l=label)) for text in d.lists["labelled texts"])
    forms = tuple(put(text, l=label) for text in (*fragments.split("|"), *d.lists["labelled"][:3]))
    return Param(slot, form, kind, (label,), texts, True, forms)


def made_params(d: Draw, count: int) -> tuple[Param, ...]:
    """Make up parameters which a request can tell apart; all but the first may be optional."""
    params: dict[str, Param] = {}
    while len(params) < count:
        param = (natural if d.chance(0.45) else labelled)(d, f"p{len(params)}")
        parts = re.split("[/;]", param.kind)
        if len(set(parts)) == len(parts) and param.names[0] not in {p.names[0] for p in params.values()}:
            params.setdefault(param.fragments[0], replace(param, required=not params or d.chance(0.7)))
    return tuple(params.values())


def made_up(d: Draw, *, count: int | None = None, avoid: Family | None = None) -> Family:
    """Make up a family: a verb, a thing and parameters with random names.

    `avoid` asks for a sibling: the same thing under a verb of another meaning.
    """
    verbs = cut(d.names.line("verb rows" if avoid or d.chance(0.7) else "verbs"), ",")
    if avoid and set(verbs) & set(avoid.verbs):
        return made_up(d, count=count, avoid=avoid)
    thing = avoid.nouns[0] if avoid else d.names.line("label")
    params = made_params(d, d.choice((0, 1, 1, 2, 2, 2, 3, 3, 4)) if count is None else count)
    verb, saying = d.choice(verbs), f"({'|'.join(verbs)})" if len(verbs) > 1 else verbs[0]
    whole = d.line("whole", w=thing)
    texts = (put(d.choice(d.lists["made texts"]), V=capital(verb), v=verb, w=whole),)
    forms = d.lists["made requests"]
    if verbs[0] in d.names.lists["setting verbs"] and len(params) == 1 and params[0].type in TEXT_TYPES:
        forms += d.lists["made settings"] * 4
    requests = tuple(put(form, v=saying, w=whole) for form in forms)
    missing = tuple(put(form, v=saying, w=whole) for form in d.lists["made missing"])
    keys = {d.line("result keys"): d.line("result kinds") for _ in range(d.choice((1, 1, 2, 2, 3)))}
    if params and params[0].type in TEXT_TYPES and d.chance(0.25):
        keys[params[0].names[0]] = "{p0}"
    results = (tuple(keys.items()),)
    return Family(
        f"made:{verbs[0]}:{thing}", verbs, (thing,), texts, params, requests, missing, results, True
    )


def pick(d: Draw, *, made: float = 0.25, count: int | None = None) -> Family:
    """Choose a family, a made-up one with probability `made`."""
    return made_up(d, count=count) if d.chance(made) else d.choice(d.world.families)


def group(family: Family) -> str:
    """Return a name shared by families which a request cannot tell apart."""
    return "calc" if family.key.startswith("calc.") else family.key


def near(d: Draw, rival: Family) -> Family:
    """Choose a family that is close to another one, yet differs from it."""
    if rival.made_up:
        return made_up(d, avoid=rival)
    root = rival.key.partition(".")[0] + "."
    kin = [family for family in d.world.families if family.key.startswith(root)]
    return d.choice(kin) if kin else pick(d)


def offer(d: Draw, wanted: Sequence[Family], extra: int, *, without: str = "-") -> list[Tool]:
    """Build tools of the wanted families and of `extra` others, none confusable with them.

    `without` is how the keys of families begin that must not be among the others.
    """
    form, families = d.choice(STYLES), {group(family): family for family in wanted}
    for _ in range(extra):
        other = near(d, d.choice(wanted)) if wanted and d.chance(0.35) else pick(d)
        if not other.key.startswith(without):
            families.setdefault(group(other), other)
    tools = [build(d, family, form if d.chance(0.75) else d.choice(STYLES)) for family in families.values()]
    return list({tool.name: tool for tool in reversed(tools)}.values())[::-1]
