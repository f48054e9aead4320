"""Skills on text: memory, route, extract, passage, copy."""

from __future__ import annotations

import random

from . import identity, kinds, phrasing, words
from .skills import Draft, Message, calls, others, says, system, user
from .skills_chain import core, linkable
from .tools import draw, offer, value

NOTED = "Noted."

UNTOLD = "You have not told me."


FACT_KINDS = (
    "person",
    "place",
    "id",
    "integer",
    "word",
    "noun",
    "title",
    "date",
    "time",
    "email",
    "phone",
    "code",
    "decimal",
    "label",
)

# A fact's wordings, the questions for it, and the canonical answer.
FACTS = (
    (
        ("my name is {}", "i am called {}", "call me {}", "people call me {}", "i am {}"),
        ("what is my name?", "what's my name?", "who am i?", "do you remember my name?", "how am i called?"),
        "Your name is {}.",
        "person",
    ),
    (
        ("i live in {}", "my home is in {}", "i am from {}", "home for me is {}"),
        ("where do i live?", "in which place do i live?", "where is my home?", "do you know where i live?"),
        "You live in {}.",
        "place",
    ),
    (
        ("i work at {}", "my employer is {}", "i am employed at {}"),
        ("where do i work?", "who is my employer?", "what company do i work for?"),
        "You work at {}.",
        "title",
    ),
)

OWN = (
    "my {l} is {{}}",
    "the {l} i use is {{}}",
    "remember: my {l} is {{}}",
    "keep in mind that my {l} is {{}}",
    "for my {l} take {{}}",
    "note my {l}: {{}}",
    "my {l} = {{}}",
)

OWN_ASK = (
    "what is my {l}?",
    "what's my {l}?",
    "tell me my {l}",
    "do you remember my {l}?",
    "which {l} did i give you?",
    "repeat my {l}",
    "can you tell me my {l}?",
)

THE = ("the {l} is {{}}", "remember that the {l} is {{}}", "the {l} will be {{}}", "note: the {l} is {{}}")

THE_ASK = (
    "what is the {l}?",
    "what's the {l}?",
    "tell me the {l}",
    "which {l} did i tell you?",
    "what was the {l}?",
)


def fact(rng: random.Random) -> tuple[tuple[str, ...], tuple[str, ...], str, str]:
    """Choose a fact: how it is told, how it is asked for, the answer and the kind of value."""
    if rng.random() < 0.3:
        return rng.choice(FACTS)
    label, kind = words.label(rng), rng.choice(FACT_KINDS)
    if rng.random() < 0.65:
        return (
            tuple(t.format(l=label) for t in OWN),
            tuple(t.format(l=label) for t in OWN_ASK),
            f"Your {label} is {{}}.",
            kind,
        )
    return (
        tuple(t.format(l=label) for t in THE),
        tuple(t.format(l=label) for t in THE_ASK),
        f"The {label} is {{}}.",
        kind,
    )


def told(rng: random.Random, forms: tuple[str, ...], item: str) -> Message:
    """Word a fact as a message."""
    pieces = phrasing.around(rng, rng.choice(forms), [(item, True)])
    return user(phrasing.dress(rng, phrasing.wrap(rng, [p for p in pieces if p[0]], "x."), typos=False))


def asked(rng: random.Random, forms: tuple[str, ...]) -> Message:
    """Word a question about a fact."""
    form = rng.choice(forms)
    return user(phrasing.dress(rng, phrasing.wrap(rng, [(form.rstrip("?"), False)], form), typos=False))


def memory(rng: random.Random, short: bool) -> Draft:
    """Remember what the user told some turns ago."""
    if not short and rng.random() < 0.35:
        return recall_call(rng)
    facts = {
        row[2]: row
        for row in [fact(rng) for _ in range(rng.choice((1, 1, 2) if short else (1, 2, 2, 3, 3, 4)))]
    }
    known = {key: str(kinds.sample(rng, row[3])) for key, row in facts.items()}
    messages = [] if short else system(rng)
    for key, row in facts.items():
        messages += [told(rng, row[0], known[key]), says(NOTED)]
        if not short and rng.random() < 0.3:
            messages += identity.turn(rng)
    if rng.random() < 0.15:
        key = rng.choice(list(facts))
        known[key] = str(kinds.sample(rng, facts[key][3]))
        messages += [
            told(rng, tuple("actually, " + form for form in facts[key][0][:1]), known[key]),
            says(NOTED),
        ]
    for key in rng.sample(list(facts), rng.randint(1, min(2, len(facts)))):
        messages += [asked(rng, facts[key][1]), says(key.format(known[key]))]
    if rng.random() < 0.12:
        row = fact(rng)
        if row[2] not in facts:
            messages += [asked(rng, row[1]), says(UNTOLD)]
    tools = offer(rng, [], rng.choice((1, 2, 3))) if not short and rng.random() < 0.3 else []
    return messages, tools


def recall_call(rng: random.Random) -> Draft:
    """Call a tool with a value that the user told before."""
    family, param = linkable(rng)
    label = rng.choice(param.names)
    if len(label) < 3 or label in ("from", "with", "for", "who", "which"):
        label = words.label(rng)
    tools = offer(rng, [family], others(rng))
    values = draw(rng, tools[0], extra=0.15)
    item = value(rng, param)
    values[param.slot] = item
    messages = [*system(rng), told(rng, tuple(t.format(l=label) for t in OWN), str(item)), says(NOTED)]
    for _ in range(rng.choice((0, 0, 1, 2))):
        if rng.random() < 0.5:
            messages += identity.turn(rng)
        else:
            row = fact(rng)
            messages += [told(rng, row[0], str(kinds.sample(rng, row[3]))), says(NOTED)]
    pieces, form = core(
        rng,
        tools[0],
        values,
        {param.slot: rng.choice((f"my {label}", f"my {label}", f"the {label} i told you"))},
    )
    messages += [user(phrasing.dress(rng, phrasing.wrap(rng, pieces, form))), calls((tools[0], values))]
    return messages, tools


def copy(rng: random.Random, short: bool) -> Draft:
    """Repeat words or an id exactly."""
    count = rng.choice((1, 2, 3, 4, 6))
    text = " ".join(
        rng.choice(
            (words.word(rng), words.word(rng), kinds.ident(rng), words.name(rng), str(kinds.integer(rng)))
        )
        for _ in range(count)
    )
    if rng.random() < 0.3:
        text = words.style(
            " ".join(words.word(rng) for _ in range(rng.choice((1, 2, 2, 3)))),
            rng.choice(("snake", "camel", "pascal", "flat")),
        )
    form = rng.choice(
        (
            "repeat: {}",
            "say {}",
            "copy this: {}",
            "repeat after me: {}",
            "write {}",
            "echo {}",
            "spell it back: {}",
            "say exactly: {}",
        )
    )
    return [user(form.format(text)), says(text)], []
