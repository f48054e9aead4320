"""Skills that send a message on: a label, or a transfer tool."""

from __future__ import annotations

import random

from . import kinds, phrasing, words
from .lexicon import ADJECTIVES
from .skills import Draft, calls, says, system, user
from .tools import Tool, pick

# Topics that exist: names, descriptions, and messages.
TOPIC_TABLE = """
@billing,invoices,payments,accounts : bills and payments|invoices, refunds and prices|money matters
i was charged twice for the {w}|my invoice {i} is wrong|how can i pay for the {w}?|\
i want my money back for the {w}|there is a wrong amount on my bill
@technical,support,tech,helpdesk : technical problems|things that do not work|errors and faults
the {w} does not work|i get error {i}|my {w} crashes all the time|the app will not start|\
i cannot connect the {w}
@sales,shop,orders,buying : questions before buying|offers and new orders|products and prices
i want to buy a {w}|do you sell a {a} {w}?|is there a discount on the {w}?|\
i would like an offer for {n} {w} sets
@shipping,delivery,logistics,parcels : deliveries and parcels|where a shipment is|shipping
my parcel {i} has not arrived|where is my delivery?|the courier lost my {w}|can you ship the {w} to {p}?
@health,medical,clinic,nurse : health questions|pain and illness|patients
my {a} tooth hurts|i have a fever since yesterday|i feel ill after the {w}|i need a doctor for my knee
@travel,trips,flights,journeys : flights and hotels|travel plans|trips
i want to fly to {p}|book me a hotel in {p}|which train goes to {p}?|i plan a journey to {p}
@personnel,people,hr,staff : staff matters|leave and salaries|employees
how many vacation days do i have?|my salary is late|i want to apply for the job in {p}|\
our new colleague {m} starts tomorrow
@legal,contracts,law,compliance : contracts and law|legal questions
is this contract valid?|i need a lawyer for the {w} case|may we use the {w} patent?|\
the terms of the agreement are unclear
@cooking,food,kitchen,recipes : recipes and food|what to cook
how do i cook {w} soup?|what can i bake with {w}?|i am hungry, suggest a dish|\
how long must the {w} boil in the oven?
@math,numbers,calculation,arithmetic : calculations|sums and numbers
what is {d} plus {e}?|how much is {d} times {e}?|divide {d} by {e}|what is the square root of {d}?
@security,access,safety,guard : passwords and access|break-ins and safety
someone stole my password|my account was hacked|i see a stranger at the {w}|a suspicious login from {p}
@weather,forecast,climate,meteo : weather|rain, sun and wind
will it rain in {p}?|how warm is it in {p}?|is a storm coming to {p}?|do i need an umbrella in {p}?
@music,songs,audio,media : music and songs|playing audio
play a song by {m}|which album is {a} {w} on?|i like the new track of {m}|turn up the music
@code,programming,software,developer : programming questions|source code
why does my function {w} return null?|write a python script for the {w}|my program does not compile|\
how do i sort a list of {w}?
"""
TOPICS = [tuple(block.strip().replace("\n", " : ").split(" : ")) for block in TOPIC_TABLE.split("@")[1:]]
MADE_TEXTS = (
    "{a} and {b}", "questions about the {a} or the {b}", "{b} matters, {a} too", "all about {a} and {b}",
)  # fmt: skip
MADE_MESSAGES = (
    "my {t} is broken", "i have a question about the {t}", "where can i find a {t}?", "the {t} is too {{a}}",
    "who is in charge of the {t}?", "i need a new {t}", "{{m}} told me about the {t}",
    "can somebody look at my {t}?", "what is wrong with the {t}?", "tell me more about your {t}",
)  # fmt: skip


Topic = tuple[str, str, list[str]]  # a name, a description, messages


def topics(rng: random.Random, count: int) -> list[Topic]:
    """Choose topics: a meaningful label, a description, and messages on it; some are made up."""
    rows = []
    for names, texts, messages in rng.sample(TOPICS, count):
        if rng.random() < 0.5:
            rows.append((rng.choice(names.split(",")), rng.choice(texts.split("|")), messages.split("|")))
            continue
        first, second = words.label(rng), words.noun(rng)
        text = rng.choice(MADE_TEXTS).format(a=first, b=second)
        forms = [form.format(t=thing) for thing in (first, second) for form in MADE_MESSAGES]
        rows.append((rng.choice((first, second)), text, forms))
    return rows


def complaint(rng: random.Random, forms: list[str]) -> str:
    """Word a message on a topic."""
    text = rng.choice(forms).format(
        w=words.noun(rng),
        a=rng.choice(ADJECTIVES),
        i=kinds.ident(rng),
        n=rng.randint(2, 99),
        p=words.place(rng),
        m=words.name(rng),
        d=kinds.integer(rng),
        e=rng.randint(2, 99),
    )
    body = text.rstrip("?")
    return phrasing.dress(
        rng, [(body, False), ("?" if text[-1] == "?" else rng.choice((".", ".", "!", "")), False)]
    )


ROUTE_HEADS = (
    "Answer with one label only.",
    "Route the message to one of these labels.",
    "Classify the message. Reply with the label only.",
    "Choose the right label:",
    "You are a router. Labels:",
    "Which team should get the message? Reply with its name.",
    "Pick one of the following and say nothing else.",
    "Sort the user's message into a class.",
    "Decide who handles the message.",
)


ELSEWHERE = (
    "my {w} met a {a} friend", "how is the {w} in {p}?", "i saw {n} {w}s near {p}", "{m} likes the {a} {w}",
)  # fmt: skip


def labelled(rng: random.Random, rows: list[Topic], form: str, plain: bool) -> list[str]:
    """Name the topics; a `plain` name has no description beside it and must speak for itself."""
    labels = []
    for name, _, _ in rows:
        if not plain and rng.random() < 0.6:
            name = rng.choice((words.word(rng), words.label(rng), f"{name} {words.word(rng)}"))
        labels.append(name if form == "spaced" else words.style(name, form))
    return labels


def route(rng: random.Random, short: bool) -> Draft:
    """Answer with the label that fits the message, or hand over with a transfer tool."""
    rows = topics(rng, rng.choice((2, 2, 3) if short else (2, 3, 3, 4, 4, 5, 6)))
    plain = rng.random() < 0.3
    labels = labelled(rng, rows, rng.choice(("snake", "camel", "pascal", "spaced")), plain)
    if len(set(labels)) < len(labels):
        return route(rng, short)
    at = rng.randrange(len(rows))
    forms = rows[at][2]
    if plain:
        forms = [form for form in forms if rows[at][0] in form] or forms
    if not short and not plain and rng.random() < 0.25:
        return handoff(rng, rows, labels, at)
    lines = labels if plain else [f"{name}: {row[1]}" for name, row in zip(labels, rows, strict=True)]
    target = labels[at]
    if not plain and rng.random() < 0.15:
        other = rng.choice(("other", "general", "none"))
        lines.append(f"{other}: everything else")
        if other not in labels and rng.random() < 0.4:
            target, forms = other, list(ELSEWHERE)
    bullet = rng.choice(("- ", "", "* "))
    block = " " + ", ".join(lines) if plain else "".join(f"\n{bullet}{line}" for line in lines)
    intro, message = rng.choice(ROUTE_HEADS) + block, complaint(rng, forms)
    if rng.random() < 0.75:
        return [{"role": "system", "content": intro}, user(message), says(target)], []
    word = rng.choice(("Message", "Text", "User", "Request"))
    return [user(f"{intro}\n\n{word}: {message}"), says(target)], []


def handoff(rng: random.Random, rows: list[Topic], labels: list[str], at: int) -> Draft:
    """Hand the message over with the transfer tool that fits."""
    verb = rng.choice(("transfer to", "hand off to", "handoff", "route to", "ask", "delegate to"))
    tools: list[Tool] = []
    for label, (_, text, _) in zip(labels, rows, strict=True):
        name = f"{verb.replace(' ', '_')}_{label.replace(' ', '_')}"
        family = pick(rng, made=0.0)
        schema = {
            "type": "function",
            "function": {
                "name": name,
                "description": rng.choice(
                    (f"Hand over to the agent for {text}.", f"Transfers the user: {text}.", f"For {text}.")
                ),
                "parameters": {"type": "object", "properties": {}, "required": []},
            },
        }
        tools.append(Tool(family, name, (), {}, schema))
    return [*system(rng), user(complaint(rng, rows[at][2])), calls((tools[at], {}))], tools
