"""Skills on texts with facts: extract and passage."""

from __future__ import annotations

import random

from . import kinds, phrasing, words
from .skills import Draft, says, system, user
from .stories import KINDS, story

SILENT = "The text does not say."

# Facts about a subject: (kind of value, statement, questions).
ABOUT = (
    (
        "place",
        "{s} lives in {v}|{s} comes from {v}",
        "where does {s} live?|where is {s} from?|in which place does {s} live?",
    ),
    ("label", "{s} sells {v}|{s} deals in {v}", "what does {s} sell?|what does {s} deal in?"),
    ("int:18:99", "{s} is {v} years old", "how old is {s}?|what age is {s}?"),
    (
        "person",
        "the boss of {s} is {v}|{s} reports to {v}",
        "who is the boss of {s}?|who does {s} report to?",
    ),
    (
        "date",
        "{s} was born on {v}|the birthday of {s} is {v}",
        "when was {s} born?|what is the birthday of {s}?",
    ),
    ("noun", "{s} collects {v}|{s} has a collection of {v}", "what does {s} collect?"),
    ("time", "{s} opens at {v}|{s} starts work at {v}", "when does {s} open?|at what time does {s} start?"),
    ("title", "{s} works at {v}|{s} is employed by {v}", "where does {s} work?|who employs {s}?"),
    ("money", "{s} paid {v} for a {w}|{s} spent {v} on a {w}", "how much did {s} pay?|what did {s} spend?"),
    (
        "id",
        "the number of {s} is {v}|{s} has the number {v}",
        "what is the number of {s}?|which number does {s} have?",
    ),
)


FORMS = (
    "the {l} of {s} is {v}", "{s} has the {l} {v}", "{v} is the {l} of {s}", "for {s}, the {l} is {v}",
    "the {l} at {s} was {v}",
)  # fmt: skip
QUESTIONS = (
    "what is the {l} of {s}?", "which {l} does {s} have?", "what's the {l} of {s}?", "tell me the {l} of {s}",
    "the {l} of {s}?",
)  # fmt: skip


def statement(rng: random.Random, subject: str) -> tuple[str, str, str, str]:
    """Make up a fact: a key for it, its sentence, a question and the answer."""
    if rng.random() < 0.45:
        kind, forms, questions = rng.choice(ABOUT)
        item = str(kinds.sample(rng, kind))
        sentence = rng.choice(forms.split("|")).format(s=subject, v=item, w=words.noun(rng))
        return questions + subject, sentence, rng.choice(questions.split("|")).format(s=subject), item
    label, item = words.label(rng), str(kinds.sample(rng, rng.choice(KINDS)))
    sentence = rng.choice(FORMS).format(l=label, s=subject, v=item)
    return label + subject, sentence, rng.choice(QUESTIONS).format(l=label, s=subject), item


LAYOUTS = (
    "{p}\n\n{q}",
    "{p}\n\nQuestion: {q}",
    "Text: {p}\nQuestion: {q}",
    "Context:\n{p}\n\n{q}",
    "Answer from the text.\n{p}\n{q}",
    "Read this: {p}\n{q}",
    "{q}\n\n{p}",
    "{q}\nText: {p}",
    "Use only this passage.\n\n{p}\n\n{q}",
)


def passage(rng: random.Random, short: bool) -> Draft:
    """Answer a question with the words of a passage, or say that it is not there."""
    subjects = [
        rng.choice((words.person, words.place, kinds.title, lambda r: "the " + words.label(r)))(rng)
        for _ in range(rng.choice((1, 2) if short else (1, 2, 2, 3)))
    ]
    facts = {
        row[0]: row
        for row in [
            statement(rng, rng.choice(subjects))
            for _ in range(rng.choice((1, 2) if short else (2, 3, 4, 5, 6)))
        ]
    }
    text = story(rng, [row[1] for row in facts.values()], 0 if short else rng.choice((0, 0, 1, 2)))
    asked = rng.choice(list(facts.values()))
    reply = asked[3]
    if rng.random() < 0.2:
        other = statement(rng, rng.choice(subjects))
        if other[0] not in facts:
            asked, reply = other, SILENT
    question = phrasing.capital(asked[2]) if rng.random() < 0.8 else asked[2]
    if not short and rng.random() < 0.2:
        head = rng.choice(("Answer from this text:", "Context:", "Use only this text:", "You know this:"))
        return [{"role": "system", "content": f"{head} {text}"}, user(question), says(reply)], []
    messages = [] if short else system(rng)
    return [*messages, user(rng.choice(LAYOUTS).format(p=text, q=question)), says(reply)], []
