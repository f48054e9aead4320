"""Skills that need one tool or none: call, answer, no_tool, missing."""

from __future__ import annotations

from typing import Any

from .asking import ask, draw_values
from .conversation import Draft, before, calls, exchange, others, request, says, small_talk, user
from .draw import Draw, hold, listed, put, spaced
from .phrasing import dress, ending, noisy, slots
from .tools import SEARCH, Tool, build, group, made_up, offer, pick
from .world import Family, Param

# The tools of a lesson, the one to use first; without them a skill draws its own.
Tools = list[Tool] | None

NO_TOOL = "I have no tool for that."


def wanted(d: Draw) -> Family:
    """Choose a family to call; a short example needs a small one."""
    return made_up(d, count=d.choice((1, 1, 2))) if d.short and d.chance(0.5) else pick(d)


def call(d: Draw, tools: Tools = None) -> Draft:
    """Choose a tool and fill its arguments."""
    tools = tools or offer(d, [wanted(d)], others(d))
    values = draw_values(d, tools[0], 0.15 if d.short else 0.3)
    return Draft([*before(d), request(d, tools[0], values), calls((tools[0], values))], tools)


def answer(d: Draw, tools: Tools = None) -> Draft:
    """Call a tool and answer from its result."""
    tools = tools or offer(d, [wanted(d)], others(d))
    messages = [*before(d), *exchange(d, tools[0])]
    if d.level in ("full", "long"):
        if d.chance(0.15):
            messages += small_talk(d)
        if d.chance(0.25):
            messages += exchange(d, d.choice((tools[0], d.choice(tools))))
    return Draft(messages, tools)


def no_tool(d: Draw, tools: Tools = None) -> Draft:
    """Say that no tool fits."""
    if tools:
        asked = foreign_to(d, tools)
    else:
        alone = d.level == "full" and d.chance(0.06)
        asked, *tools = offer(d, [pick(d)], 0 if alone else max(1, others(d)), without=SEARCH)
    if d.chance(0.2):
        form = d.choice(d.lists["chat"])
        text, mark = d.make(form.rstrip("?!"), protect=True), ending(form)
    else:
        pool = [text for text in asked.family.requests if "{tool}" not in text]
        text, mark = ask(d, asked, draw_values(d, asked), pool)
    return Draft([*before(d), user(dress(d, text, mark)), says(NO_TOOL)], tools)


def foreign_to(d: Draw, tools: list[Tool]) -> Tool:
    """Make a tool that none of the offered ones can stand for."""
    taken = {group(tool.family) for tool in tools}
    while True:
        family = pick(d)
        if group(family) not in taken:
            return build(d, family, "snake")


def lacking(d: Draw) -> Family:
    """Choose a family of which something can be left out."""
    families = [family for family in d.world.families if family.missing]
    if not families or d.chance(0.3):
        return made_up(d, count=d.choice((1, 2, 2, 3, 3, 4)))
    return d.choice(families)


def missing(d: Draw, tools: Tools = None) -> Draft:
    """Ask for a required argument that is missing; often go on to the call."""
    tools = tools or offer(d, [lacking(d)], others(d))
    tool, needed = tools[0], [param for param in tools[0].params if param.required]
    values = draw_values(d, tool, 0.15)
    text = d.choice(tool.family.missing)
    gone = [param for param in needed if param.slot not in slots(text)]
    if tool.family.made_up:
        left_out = d.rng.sample(needed, min(len(needed), d.choice((1, 1, 1, 2))))
        gone = [param for param in needed if param in left_out]
    known = {slot: item for slot, item in values.items() if slot not in {param.slot for param in gone}}
    names = " and the ".join(spaced(tool.names[param.slot]) for param in gone)
    messages = [
        *before(d),
        user(dress(d, *ask(d, tool, known, (text,)))),
        says(f"Please tell me the {names}."),
    ]
    if d.chance(0.35):
        said = "".join(supply(d, tool, param, values[param.slot], len(gone) > 1) for param in gone)
        messages += [user(noisy(d, said)), calls((tool, values))]
    return Draft(messages, tools)


def supply(d: Draw, tool: Tool, param: Param, item: Any, several: bool) -> str:
    """Word the value of one argument."""
    if isinstance(item, dict):
        item = [f"{key} {inner}" for key, inner in item.items()]
    said = (
        listed(item) if isinstance(item, list) else str(item).lower() if isinstance(item, bool) else str(item)
    )
    form = d.choice(d.lists["supply several" if several else "supply"])
    return put(form, l=spaced(tool.names[param.slot]), v=hold(said))
