"""Skills that need several calls: dependent and parallel."""

from __future__ import annotations

import json
import random
from typing import Any

from . import phrasing, words
from .families import Family, Param
from .results import result
from .skills import Draft, before, calls, returns, says, user
from .tools import Tool, ask, draw, group, listed, offer, pick, value

# Names of arguments that do not read as the name of a thing.
SMALL_WORDS = frozenset("to from with for at on a b x y q after which who what".split())
HOLDERS = (
    ("person", "customer"),
    ("id", "record"),
    ("title", "project"),
    ("noun", "thing"),
    ("person", "owner"),
)


def both(
    rng: random.Random, first: list[phrasing.Piece], second: list[phrasing.Piece]
) -> list[phrasing.Piece]:
    """Join two requests."""
    link = rng.choice(
        (
            ". then ",
            " and then ",
            ", then ",
            ". after that, ",
            "; ",
            ". also, ",
            " and also ",
            ". and ",
            " and ",
        )
    )
    return [*first, (link, False), *second]


def core(
    rng: random.Random, tool: Tool, values: dict[str, Any], shown: dict[str, str] | None = None
) -> tuple[list[phrasing.Piece], str]:
    """Word a request without politeness, mostly as an order, with the template."""
    pool = [
        text
        for text in tool.family.requests
        if "{tool}" not in text and not (tool.family.made_up and text[-1] == ".")
    ]
    orders = [text for text in pool if text[-1] not in "?." and text[0] != "{"]
    return ask(rng, tool, values, shown=shown, pool=orders if orders and rng.random() < 0.7 else pool)


def linkable(rng: random.Random) -> tuple[Family, Param]:
    """Choose a family with a required argument which another tool can find."""
    while True:
        family = pick(rng, made=0.4)
        found = [
            p
            for p in family.params
            if p.required
            and p.type in ("string", "integer", "number")
            and p.kind not in ("phrase", "room", "expr")
        ]
        if found:
            return family, rng.choice(found)


def finder(rng: random.Random, param: Param) -> tuple[Family, str]:
    """Make up a tool that finds a value of `param`, and the label of what it finds."""
    label = rng.choice(param.names)
    if label in SMALL_WORDS:
        label = words.label(rng)
    kind, noun = rng.choice(HOLDERS)
    noun = words.noun(rng) if rng.random() < 0.5 else noun
    names = (noun, f"{noun} name", "name", "key")
    key = Param("key", "string", kind, names, (f"The {noun}", f"Whose {label} to find"))
    verbs = rng.choice((("find", "look up"), ("get", "fetch"), ("look up", "search"), ("read", "query")))
    verb = f"({'|'.join(verbs)})"
    asks = (
        f"{verb} the {label} of {{key}}",
        f"{verb} the {label} for (the {noun}|) {{key}}",
        f"(see|check) which {label} {{key}} has",
    )
    texts = (f"Find the {label} of a {noun}.", f"Looks up which {label} a {noun} has.")
    results = (((label.replace(" ", "_"), param.kind),),)
    return Family("link", verbs, (label, f"{label} of {noun}"), texts, (key,), asks, (), results, True), label


def dependent(rng: random.Random, short: bool) -> Draft:
    """Call two tools in a row, the second with a value from the first one's result."""
    family, param = linkable(rng)
    source, label = finder(rng, param)
    tools = offer(rng, [source, family], 0 if short else rng.choice((0, 0, 1, 2)), bare=short)
    if len(tools) < 2:
        return dependent(rng, short)
    one, two = tools[:2]
    first, second = draw(rng, one), draw(rng, two, extra=0.15)
    found = value(rng, param)
    second[param.slot] = found
    name = rng.choice((f"that {label}", f"this {label}", f"the {label} you find", f"the found {label}"))
    last, form = core(rng, two, second, {param.slot: name})
    pieces = both(rng, core(rng, one, first)[0], last)
    text = phrasing.noisy(rng, pieces) if short else phrasing.dress(rng, phrasing.wrap(rng, pieces, form))
    content = json.dumps({words.style(label, rng.choice(("snake", "camel"))): found}, ensure_ascii=False)
    messages = [
        *([] if short else before(rng)),
        user(text),
        calls((one, first)),
        returns(one, content),
        calls((two, second), start=1),
    ]
    if rng.random() < 0.4:
        content, sentence = result(rng, two)
        messages += [returns(two, content, 1), says(sentence)]
    return messages, tools


def several(
    rng: random.Random, used: list[Tool], drawn: list[dict[str, Any]]
) -> tuple[list[phrasing.Piece], str]:
    """Word some requests as one; calls that differ in one value may share a sentence."""
    param = used[0].params[0] if used[0].params else None
    if (
        used[0] is used[1]
        and param
        and {*drawn[0]} == {param.slot} == {*drawn[1]} == {*drawn[-1]}
        and param.type in ("string", "integer", "number")
        and param.kind != "phrase"
        and rng.random() < 0.7
    ):
        return core(rng, used[0], drawn[0], {param.slot: listed([values[param.slot] for values in drawn])})
    pieces, form = core(rng, used[0], drawn[0])
    for tool, values in zip(used[1:], drawn[1:], strict=True):
        more, form = core(rng, tool, values)
        pieces = both(rng, pieces, more)
    return pieces, form


def parallel(rng: random.Random, short: bool) -> Draft:
    """Call two or three tools in one turn."""
    count = rng.choice((2, 2, 2, 3))
    same = rng.random() < 0.55
    families = (
        [pick(rng, count=None if not same else rng.choice((1, 2, 2)))]
        if same
        else [pick(rng) for _ in range(count)]
    )
    if len({group(family) for family in families}) < len(families):
        return parallel(rng, short)
    tools = offer(rng, families, 0 if short else rng.choice((0, 0, 1, 2, 3)), bare=short)
    used = [tools[0]] * count if same else tools[: len(families)]
    if len(used) < 2 or same and not any(param.required for param in used[0].params):
        return parallel(rng, short)
    drawn = [draw(rng, tool, extra=0.15) for tool in used]
    if same and len({json.dumps(item) for item in drawn}) < count:
        return parallel(rng, short)
    pieces, form = several(rng, used, drawn)
    text = phrasing.noisy(rng, pieces) if short else phrasing.dress(rng, phrasing.wrap(rng, pieces, form))
    messages = [*([] if short else before(rng)), user(text), calls(*zip(used, drawn, strict=True))]
    if rng.random() < 0.4:
        results = [result(rng, tool) for tool in used]
        messages += [
            returns(tool, content, i)
            for i, (tool, (content, _)) in enumerate(zip(used, results, strict=True))
        ]
        messages.append(says(" ".join(sentence for _, sentence in results)))
    return messages, tools
