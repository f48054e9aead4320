"""Skills that send a message on: a label, or a transfer tool."""

from __future__ import annotations

from dataclasses import dataclass

from .conversation import Draft, Message, calls, says, system, user
from .draw import Draw, put, style
from .phrasing import dress, ending, story
from .tools import Tool
from .world import Family


@dataclass(frozen=True)
class Topic:
    """What messages are about: a name, a description and wordings."""

    name: str
    text: str
    messages: tuple[str, ...]


def topics(d: Draw, count: int) -> list[Topic]:
    """Choose topics; half of them are made up."""
    known = [name for name in d.lists if name.startswith("topic ") and " : " in name]
    rows = []
    for head in d.rng.sample(known, count):
        names, texts = head.removeprefix("topic ").split(" : ")
        if d.chance(0.5):
            rows.append(Topic(d.choice(names.split(",")), d.choice(texts.split("|")), d.lists[head]))
            continue
        first, second = d.line("label"), d.line("noun")
        text = put(d.choice(d.lists["topic texts"]), a=first, b=second)
        forms = tuple(put(form, t=thing) for thing in (first, second) for form in d.lists["topic messages"])
        rows.append(Topic(d.choice((first, second)), text, forms))
    return rows


def complaint(d: Draw, forms: tuple[str, ...]) -> str:
    """Word a message on a topic; in a long example it is a long letter."""
    form = d.choice(forms)
    text = dress(d, d.make(form.rstrip("?"), protect=True), ending(form) or ".")
    return story(d, [text.rstrip(".")], d.randint(3, 12)) if d.level == "long" else text


def labels_of(d: Draw, rows: list[Topic], plain: bool) -> list[str]:
    """Name the topics; a `plain` name has no description beside it and must speak for itself."""
    form, labels = d.choice(("snake", "camel", "pascal", "spaced")), []
    for row in rows:
        name = row.name
        if not plain and d.chance(0.6):
            name = d.names.make(d.choice(("{word}", "{label}", f"{name} {{word}}")))
        labels.append(name if form == "spaced" else style(name, form))
    return labels


def route(d: Draw) -> Draft:
    """Answer with the label that fits the message, or hand over with a transfer tool."""
    rows, plain = topics(d, d.count("223", "23", "2334456", "45678")), d.chance(0.3)
    labels = labels_of(d, rows, plain)
    if len(set(labels)) < len(labels):
        return route(d)
    if d.level in ("medium", "full") and not plain and d.chance(0.25):
        return handoff(d, rows, labels)
    ways = {label: row.messages for label, row in zip(labels, rows, strict=True)}
    # A label stands after what it is for: a model that reads from left to right then knows, as it meets the label's
    # first letters, what it would choose.
    lines = labels if plain else [f"{row.text} -> {name}" for name, row in zip(labels, rows, strict=True)]
    if plain:  # the message must hold the label's word where the topic is made up
        for label, row in zip(labels, rows, strict=True):
            ways[label] = tuple(form for form in row.messages if row.name in form) or row.messages
    elif d.chance(0.15):
        other = d.choice(("other", "general", "none"))
        ways.setdefault(other, d.lists["elsewhere"])
        lines.append(f"everything else -> {other}")
    bullet = d.choice(("- ", "", "* "))
    block = " " + ", ".join(lines) if plain else "".join(f"\n{bullet}{line}" for line in lines)
    intro, (message, target) = d.line("route heads") + block, sent(d, ways)
    if d.level != "long" and d.chance(0.25):
        return Draft([user(f"{intro}\n\n{d.line('route words').replace('{}', message['content'])}"), target])
    head = {"role": "system", "content": intro}
    return Draft([head, message, target], earlier=lambda: sent(d, ways), again=lambda: [head, *sent(d, ways)])


def sent(d: Draw, ways: dict[str, tuple[str, ...]]) -> list[Message]:
    """Make a message for one of the labels, and the label."""
    target = d.choice(list(ways))
    return [user(complaint(d, ways[target])), says(target)]


def handoff(d: Draw, rows: list[Topic], labels: list[str]) -> Draft:
    """Hand the message over with the transfer tool that fits."""
    verb, tools = d.line("handoff verbs"), []
    for label, row in zip(labels, rows, strict=True):
        name, text = style(f"{verb} {label}", "snake"), put(d.choice(d.lists["handoff texts"]), t=row.text)
        empty = {"type": "object", "properties": {}, "required": []}
        function = {"name": name, "description": text, "parameters": empty}
        family = Family("handoff", (), (), (text,), (), (), (), ())
        tools.append(Tool(family, name, (), {}, {"type": "function", "function": function}))
    at, head = d.rng.randrange(len(tools)), system(d)

    def turn(at: int) -> list[Message]:
        return [*head, user(complaint(d, rows[at].messages)), calls((tools[at], {}))]

    return Draft(turn(at), tools, again=lambda: turn(d.rng.randrange(len(tools))))
