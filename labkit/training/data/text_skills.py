"""Skills on texts with facts: extract and passage."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from .conversation import Draft, Message, before, calls, others, returns, says, system, user
from .draw import Draw, capital, hold, listed, put, style
from .phrasing import ENDS, dress, ending, story
from .tools import SEARCH, offer

SILENT = "The text does not say."
MARKS = (". ", ". ", ". ", ", ", "; ", "\n")


def idle(d: Draw) -> int:
    """Draw how many sentences of a text are beside the point."""
    return d.randint(12, 40) if d.level == "long" else d.count("0", "001", "0012", "0")


def plain(item: Any) -> Any:
    """Turn a text of digits only into the number it reads as."""
    return int(item) if isinstance(item, str) and item.isdigit() and item[0] != "0" else item


def field(d: Draw) -> tuple[str, str, Any, str]:
    """Make up a field: what it is about, its key, its value and a sentence that holds it."""
    if d.chance(0.4):
        kind, names, forms = d.row("fields")
        label = d.choice(names.split(","))
        item = d.sample(kind)
        form = d.choice((*forms.split("|"), *d.lists["common fields"]))
        return names, label, plain(item), put(form, l=label, v=hold(item))
    label, item = d.line("label"), d.sample(d.line("fact kinds"))
    return label, label, plain(item), put(d.choice(d.lists["labelled fields"]), l=label, v=hold(item))


def fields(d: Draw, count: int) -> dict[str, tuple[Any, str]]:
    """Make up fields of different things: key to value and sentence."""
    found: dict[str, tuple[str, Any, str]] = {}
    while len(found) < count:
        about, label, item, sentence = field(d)
        found.setdefault(about, (label, item, sentence))
    return {label: (item, sentence) for label, item, sentence in found.values()}


def order(d: Draw, wanted: dict[str, Any]) -> str:
    """Word what to extract, by names or by a JSON schema."""
    names = list(wanted)
    if d.short or d.chance(0.65):
        return d.line("extract asks", k=listed(names) if d.chance(0.4) else ", ".join(names))
    kinds = {int: "integer", float: "number", str: "string"}
    inner = {name: {"type": kinds[type(item)]} for name, item in wanted.items()}
    text = json.dumps({"type": "object", "properties": inner}, ensure_ascii=False)
    return put(d.choice(d.lists["schema asks"]), k=text)


def extract(d: Draw) -> Draft:
    """Write JSON with the wanted keys, null for what the text does not say."""
    head, (messages, again) = system(d), extraction(d)
    return Draft([*head, *messages], earlier=lambda: extraction(d)[0], again=lambda: [*head, *again()])


def extraction(d: Draw) -> tuple[list[Message], Callable[[], list[Message]]]:
    """Make one text and the data in it, and a maker of other orders on the same text."""
    found = fields(d, d.count("11223", "23", "233456", "34568"))
    form = d.choice(("snake", "snake", "camel"))

    def choose() -> list[str]:
        return d.rng.sample(list(found), d.randint(max(1, len(found) - 2), len(found)))

    wanted = choose()
    gone = {key for key in wanted if d.chance(0.08 if d.short else 0.15)}
    told = [sentence for key, (_, sentence) in found.items() if key not in gone]
    text = story(d, told, idle(d), MARKS) if told else d.line("leads")
    layouts: list[str] = []

    def turn(wanted: list[str]) -> list[Message]:
        task = order(d, {style(key, form): found[key][0] for key in wanted})
        data = {style(key, form): None if key in gone else found[key][0] for key in wanted}
        layouts.append(d.choice(d.lists["extract layouts"]))
        body = put(layouts[0], k=task, p=text)
        return [user(body), says(json.dumps(data, ensure_ascii=False))]

    return turn(wanted), lambda: turn(choose())


def statement(d: Draw, subject: str) -> tuple[str, str, str, str]:
    """Make up a fact: a key for it, its sentence, a question and the answer."""
    if d.chance(0.45):
        kind, forms, questions = d.row("about")
        item = str(d.sample(kind))
        sentence = d.make(d.choice(forms.split("|")), {"s": subject, "v": hold(item)})
        return kind + subject, sentence, put(d.choice(questions.split("|")), s=subject), item
    label, item = d.line("label"), str(d.sample(d.line("fact kinds")))
    sentence = put(d.choice(d.lists["statements"]), l=label, s=subject, v=hold(item))
    return label + subject, sentence, put(d.choice(d.lists["asks"]), l=label, s=subject), item


def facts(d: Draw) -> tuple[list[str], dict[str, tuple[str, str, str, str]]]:
    """Make up one to three subjects, more in a long text, and facts on them by their keys."""
    kinds = ("person", "place", "title", "label")
    subjects = []
    for _ in range(d.count("12", "12", "1223", "3456")):
        kind = d.choice(kinds)
        subjects.append("the " * (kind == "label") + str(d.sample(kind)))
    rows = [statement(d, d.choice(subjects)) for _ in range(d.count("12", "234", "23456", "789abc"))]
    return subjects, {row[0]: row for row in rows}


class Passage:
    """A made-up text on some subjects, and questions about it."""

    def __init__(self, d: Draw) -> None:
        self.d = d
        self.subjects, self.rows = facts(d)
        self.text = story(d, [row[1] for row in self.rows.values()], idle(d))

    def question(self) -> tuple[str, str]:
        """Ask for a fact, or for something the text does not say; return the answer beside."""
        d = self.d
        _, _, question, reply = d.choice(list(self.rows.values()))
        other = statement(d, d.choice(self.subjects))
        if d.chance(0.2) and other[0] not in self.rows:
            question, reply = other[2], SILENT
        return capital(question) if d.chance(0.8) else question, reply


def passage(d: Draw) -> Draft:
    """Answer a question with the words of a passage, or say that it is not there."""
    if not d.short and d.chance(0.3):
        return retrieval(d)
    apart = d.level in ("medium", "full") and d.chance(0.2)  # the text in a message of its own
    head = [] if apart else system(d)
    found = Passage(d)
    first = found.question()
    if apart:
        head = [{"role": "system", "content": d.line("passage systems", p=found.text)}]
    layout = "{q}" if apart else d.choice(d.lists["layouts"])

    def turn(question: str, reply: str) -> list[Message]:
        return [*head, user(put(layout, p=found.text, q=question)), says(reply)]

    earlier = None if apart else lambda: reading(d)
    return Draft(turn(*first), earlier=earlier, again=lambda: turn(*found.question()))


def reading(d: Draw) -> list[Message]:
    """Make one passage with its question, and the answer."""
    found = Passage(d)
    question, reply = found.question()
    return [user(put(d.choice(d.lists["layouts"]), p=found.text, q=question)), says(reply)]


def retrieval(d: Draw) -> Draft:
    """Find a passage with a search tool and answer from it."""
    family = d.choice([family for family in d.world.families if family.key.startswith(SEARCH)])
    tools = offer(d, [family], others(d), without=SEARCH)
    subjects, label = [d.line("person"), d.line("title")], d.line("label")
    reply = str(d.sample(d.line("fact kinds")))
    query = f"{label} of {subjects[0]}"
    told = put(d.choice(d.lists["statements"]), l=label, s=subjects[0], v=hold(reply))
    sentences = [told, *(statement(d, subjects[1])[1] for _ in range(d.randint(0, 2)))]
    if len(sentences) > 1 and d.chance(0.15):
        sentences, reply = sentences[1:], SILENT
    form = d.choice(d.lists["lookups"])
    question = d.make(form.rstrip(ENDS), {"q": query}, protect=True)
    text = story(d, sentences, idle(d) // 4)
    content = text if d.chance(0.3) else json.dumps({d.line("passage keys"): text}, ensure_ascii=False)
    values = {next(param.slot for param in family.params if param.required): query}
    messages = [*before(d), user(dress(d, question, ending(form)))]
    return Draft([*messages, calls((tools[0], values)), returns(tools[0], content), says(reply)], tools)
