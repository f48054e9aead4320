"""Skills that need several calls: dependent and parallel."""

from __future__ import annotations

import json
from typing import Any

from .asking import Values, ask, draw_values, result, value
from .conversation import Draft, before, calls, returns, says, user
from .draw import Draw, listed, put, style
from .phrasing import dress
from .tools import TEXT_TYPES, Tool, group, offer, pick
from .world import Family, Param

# How many tools stand beside the two or three that are wanted, at each level.
BESIDE = ("0", "0", "000123", "45678")
# Names of arguments that do not read as the name of a thing.
SMALL_WORDS = frozenset("to from with for at on a b x y q after which who what".split())


def core(d: Draw, tool: Tool, values: Values, shown: Values | None = None) -> tuple[str, str]:
    """Word a request that may stand beside another one, mostly as an order, with its sign."""
    made = tool.family.made_up
    pool = [text for text in tool.family.requests if "{tool}" not in text and not (made and text[-1] == ".")]
    orders = [text for text in pool if text[-1] == "!"]
    return ask(d, tool, values, orders if orders and d.chance(0.7) else pool, shown)


def linkable(d: Draw) -> tuple[Family, Param]:
    """Choose a family with a required argument which another tool can find."""
    while True:
        family = pick(d, made=0.3)
        kinds = [
            p for p in family.params if p.type in TEXT_TYPES and p.kind not in ("phrase", "room", "expr")
        ]
        found = [param for param in kinds if param.required]
        if found and (d.level != "medium" or len(family.params) < 3):
            return family, d.choice(found)


def name_of(d: Draw, param: Param) -> str:
    """Name what a parameter holds."""
    label = d.choice(param.names)
    return d.names.line("label") if label in SMALL_WORDS else label


def finder(d: Draw, param: Param) -> tuple[Family, str]:
    """Make up a tool that finds a value of `param`, and the label of what it finds."""
    label = name_of(d, param)
    kind, noun = d.row("holders")
    noun = d.names.line("noun") if d.chance(0.5) else noun
    names = (noun, f"{noun} name", "name", "key")
    key = Param("key", "string", kind, names, (f"The {noun}", f"Whose {label} to find"), True, ("for {}",))
    verbs = tuple(d.names.line("finders").split(","))
    verb = f"({'|'.join(verbs)})"
    asks = tuple(put(form, v=verb, l=label, w=noun) for form in d.lists["finder asks"])
    texts = tuple(put(form, l=label, w=noun) for form in d.lists["finder texts"])
    results = (((label.replace(" ", "_"), param.kind),),)
    return Family("link", verbs, (label, f"{label} of {noun}"), texts, (key,), asks, (), results, True), label


def dependent(d: Draw) -> Draft:
    """Call two tools in a row, the second with a value from the first one's result."""
    family, param = linkable(d)
    source, label = finder(d, param)
    tools = offer(d, [source, family], d.count(*BESIDE))
    if [tool.family for tool in tools[:2]] != [source, family]:
        return dependent(d)
    one, two = tools[:2]
    first, second = draw_values(d, one), draw_values(d, two, 0.15)
    second[param.slot] = value(d, param)
    start, _ = core(d, one, first)
    last, mark = core(d, two, second, {param.slot: d.line("found", l=label)})
    text = dress(d, start + d.line("links") + last, mark)
    content = json.dumps({style(label, d.choice(("snake", "camel"))): second[param.slot]}, ensure_ascii=False)
    head = [] if d.level == "medium" else before(d)
    messages = [*head, user(text), calls((one, first)), returns(one, content), calls((two, second))]
    if d.level != "medium" and d.chance(0.4):
        content, sentence = result(d, two, second)
        messages += [returns(two, content), says(sentence)]
    return Draft(messages, tools)


def several(d: Draw, used: list[Tool], drawn: list[dict[str, Any]]) -> tuple[str, str]:
    """Word some requests as one; calls that differ in one value may share a sentence."""
    param = used[0].params[0] if used[0].params else None
    alike = used[0] is used[1] and param and all({*values} == {param.slot} for values in drawn)
    if param and alike and param.type in TEXT_TYPES and param.kind != "phrase" and d.chance(0.7):
        return core(d, used[0], drawn[0], {param.slot: listed([values[param.slot] for values in drawn])})
    texts, mark = [], ""
    for tool, values in zip(used, drawn, strict=True):
        text, mark = core(d, tool, values)
        texts += [d.line("links"), text]
    return "".join(texts[1:]), mark


def parallel(d: Draw, offered: list[Tool] | None = None) -> Draft:
    """Call two or three tools in one turn."""
    count = 2 if d.level == "medium" else d.choice((2, 2, 2, 3))
    same = d.chance(0.55) or (offered is not None and len(offered) < count)
    wanted = [pick(d, count=d.choice((1, 2, 2)) if same else None) for _ in range(1 if same else count)]
    tools = offered or offer(d, wanted, d.count(*BESIDE))
    used = [tools[0]] * count if same else tools[:count]
    wanted = [tool.family for tool in used] if offered else wanted
    drawn = [draw_values(d, tool, 0.15) for tool in used]
    apart = len({json.dumps([tool.name, values]) for tool, values in zip(used, drawn, strict=True)}) == count
    if not apart or not same and len({group(tool.family) for tool in used} & set(map(group, wanted))) < count:
        return parallel(d, offered)
    messages = [*before(d), user(dress(d, *several(d, used, drawn))), calls(*zip(used, drawn, strict=True))]
    if d.chance(0.4):
        results = [result(d, tool, values) for tool, values in zip(used, drawn, strict=True)]
        messages += [returns(tool, content) for tool, (content, _) in zip(used, results, strict=True)]
        messages.append(says(" ".join(sentence for _, sentence in results)))
    return Draft(messages, tools)
