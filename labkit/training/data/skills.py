"""Skills that use tools: call, answer, no_tool, missing, dependent, parallel."""

from __future__ import annotations

import json
import random
from typing import Any

from . import identity, kinds, phrasing, words
from .families import FAMILIES, Family, Param
from .lexicon import ADJECTIVES
from .made_up import made_up
from .results import result
from .tools import Tool, arguments, ask, build, draw, offer, pick

Message = dict[str, Any]
Draft = tuple[list[Message], list[Tool]]
NO_TOOL = "I have no tool for that."
SYSTEMS = (
    "You are a helpful assistant.",
    "You control a smart home.",
    "You help customers of a shop.",
    "You are an agent with tools.",
    "Use the tools when they fit.",
    "Answer briefly.",
    "You work for {n}.",
    "You are the assistant of {n}.",
    "You are a support agent.",
    "Be short and exact.",
    "Call tools to help the user.",
    "You are nano.",
    "You help with office work.",
    "You are the {w} desk of {n}.",
    "Help the user with the {w}.",
    "You are a careful {w} assistant.",
)
CHAT = (
    "write a poem about a {w}",
    "tell me a joke about the {w}",
    "paint a picture of a {w}",
    "sing a song about {w} and {v}",
    "how do i repair a {w}?",
    "who invented the {w}?",
    "explain why the {w} is {a}",
    "what do you think of the {w}?",
    "how old is the {w} of {n}?",
    "make a plan to build a {a} {w}",
    "is a {w} heavier than a {v}?",
)


def user(text: str) -> Message:
    """Return a user's message."""
    return {"role": "user", "content": text}


def says(text: str) -> Message:
    """Return an assistant's message."""
    return {"role": "assistant", "content": text}


def calls(*pairs: tuple[Tool, dict[str, Any]], start: int = 0) -> Message:
    """Return an assistant's message which calls tools."""
    items = [
        {
            "id": f"call_{start + i}",
            "type": "function",
            "function": {
                "name": tool.name,
                "arguments": json.dumps(arguments(tool, values), ensure_ascii=False),
            },
        }
        for i, (tool, values) in enumerate(pairs)
    ]
    return {"role": "assistant", "content": "", "tool_calls": items}


def returns(tool: Tool, content: str, number: int = 0) -> Message:
    """Return a tool's message."""
    return {"role": "tool", "tool_call_id": f"call_{number}", "name": tool.name, "content": content}


def system(rng: random.Random) -> list[Message]:
    """Return no system message or a short one, sometimes with the date."""
    if rng.random() < 0.6:
        return []
    text = rng.choice(SYSTEMS).format(n=kinds.title(rng), w=words.noun(rng))
    if rng.random() < 0.2:
        text += f" Today is {kinds.date(rng)}."
    return [{"role": "system", "content": text}]


def before(rng: random.Random) -> list[Message]:
    """Return what comes before the request: a system message or none, rarely some small talk."""
    return [*system(rng), *(identity.turn(rng) if rng.random() < 0.06 else [])]


def others(rng: random.Random) -> int:
    """Draw how many tools stand beside the wanted one."""
    return rng.choice((0, 0, 1, 1, 2, 2, 3, 3, 4, 5))


def request(rng: random.Random, tool: Tool, values: dict[str, Any]) -> Message:
    """Return a user's full request."""
    pieces, text = ask(rng, tool, values)
    return user(phrasing.dress(rng, phrasing.wrap(rng, pieces, text)))


def call(rng: random.Random, short: bool) -> Draft:
    """Choose a tool and fill its arguments."""
    if short:
        family = made_up(rng, count=rng.choice((1, 1, 2))) if rng.random() < 0.7 else rng.choice(FAMILIES)
        tool = build(rng, family, rng.choice(("snake", "camel")), bare=True)
        values = draw(rng, tool, extra=0.15)
        return [user(phrasing.noisy(rng, ask(rng, tool, values)[0])), calls((tool, values))], [tool]
    tools = offer(rng, [pick(rng)], others(rng))
    values = draw(rng, tools[0])
    return [*before(rng), request(rng, tools[0], values), calls((tools[0], values))], tools


def answer(rng: random.Random, short: bool) -> Draft:
    """Call a tool and answer from its result."""
    messages, tools = call(rng, short)
    content, sentence = result(rng, tools[0])
    messages += [returns(tools[0], content), says(sentence)]
    if not short and rng.random() < 0.15:
        messages += identity.turn(rng)
    if not short and rng.random() < 0.25:
        tool = rng.choice((tools[0], rng.choice(tools)))
        values = draw(rng, tool)
        content, sentence = result(rng, tool)
        messages += [
            request(rng, tool, values),
            calls((tool, values), start=1),
            returns(tool, content, 1),
            says(sentence),
        ]
    return messages, tools


def no_tool(rng: random.Random, short: bool) -> Draft:
    """Say that no tool fits."""
    wanted = pick(rng)
    tools = offer(
        rng, [wanted], 1 if short else 0 if rng.random() < 0.06 else max(1, others(rng)), bare=short
    )
    asked, tools = tools[0], tools[1:]
    if rng.random() < 0.2:
        text = rng.choice(CHAT).format(
            w=words.noun(rng), v=words.noun(rng), a=rng.choice(ADJECTIVES), n=words.name(rng)
        )
        return [
            *before(rng),
            user(phrasing.dress(rng, phrasing.wrap(rng, [(text.rstrip("?"), False)], text))),
            says(NO_TOOL),
        ], tools
    pool = [text for text in asked.family.requests if "{tool}" not in text]
    pieces, text = ask(rng, asked, draw(rng, asked), pool=pool)
    if short:
        return [user(phrasing.noisy(rng, pieces)), says(NO_TOOL)], tools
    return [*before(rng), user(phrasing.dress(rng, phrasing.wrap(rng, pieces, text))), says(NO_TOOL)], tools


def lacking(rng: random.Random) -> Family:
    """Choose a family of which something can be left out."""
    if rng.random() < 0.5:
        return made_up(rng, count=rng.choice((1, 2, 2, 3, 3, 4)))
    family = rng.choice(FAMILIES)
    return family if family.missing else lacking(rng)


def tell(tool: Tool, gone: list[Param]) -> str:
    """Return the question for missing arguments."""
    return (
        "Please tell me the " + " and the ".join(words.split(tool.names[param.slot]) for param in gone) + "."
    )


def missing(rng: random.Random, short: bool) -> Draft:
    """Ask for a required argument that is missing; often go on to the call."""
    tools = offer(rng, [lacking(rng)], 0 if short else others(rng), bare=short)
    tool = tools[0]
    values = draw(rng, tool, extra=0.15)
    text = rng.choice(tool.family.missing)
    if tool.family.made_up:
        needed = [param for param in tool.params if param.required]
        gone = rng.sample(needed, min(len(needed), rng.choice((1, 1, 1, 2))))
        gone = [param for param in tool.params if param in gone]
    else:
        inside = phrasing.slots(text)
        gone = [param for param in tool.params if param.required and param.slot not in inside]
    lost = {param.slot for param in gone}
    known = {slot: item for slot, item in values.items() if slot not in lost}
    pieces, text = ask(rng, tool, known, pool=(text,))
    first = phrasing.noisy(rng, pieces) if short else phrasing.dress(rng, phrasing.wrap(rng, pieces, text))
    messages = [*([] if short else before(rng)), user(first), says(tell(tool, gone))]
    if rng.random() < 0.35:
        said = [supply(rng, tool, param, values[param.slot], len(gone) > 1) for param in gone]
        messages += [
            user(phrasing.noisy(rng, [piece for pieces in said for piece in pieces])),
            calls((tool, values)),
        ]
    return messages, tools


def supply(rng: random.Random, tool: Tool, param: Param, item: Any, named: bool) -> list[phrasing.Piece]:
    """Word the value of one argument."""
    said = (
        " and ".join(item)
        if param.type == "array" and len(item) == 2
        else ", ".join(item)
        if param.type == "array"
        else ("true" if item else "false")
        if param.type == "boolean"
        else str(item)
    )
    label = words.split(tool.names[param.slot])
    form = rng.choice(
        ("the {l} is {}", "{l}: {}", "it is {}", "{}", "use {}", "{} please", "for the {l} take {}")
    )
    if named:
        form = rng.choice(("the {l} is {}; ", "{l}: {}. ", "the {l}: {}, "))
    return phrasing.around(rng, form.replace("{l}", label), [(said, True)])
