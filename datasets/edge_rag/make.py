"""Write this corpus, its questions and its card: `python datasets/edge_rag/make.py [FOLDER]`, the same bytes each time.

Manuals of made-up household devices, notes on made-up branches of a shop, and its policies: one Markdown file each.
Questions come as `plain` (in the words of the text), `reworded` (in others) and `absent` (the text does not say).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
SEED = 16
COUNTS = {"plain": 50, "reworded": 50, "absent": 40}
SILENT = "The text does not say."


class Attribute(NamedTuple):
    """Say what a fact is called, how a customer asks for it who does not know that word, and its possible values."""

    label: str
    reworded: str
    values: tuple[str, ...]


class Fact(NamedTuple):
    """Hold one sentence of a document, with both questions for it."""

    sentence: str
    plain: str
    reworded: str
    answer: str


def spread(unit: str, *numbers: float) -> tuple[str, ...]:
    """Write numbers with their unit."""
    return tuple(f"{number:g} {unit}" for number in numbers)


KINDS = "kettle,coffee maker,vacuum cleaner,air purifier,heater,toaster,blender,humidifier".split(",")
NAMES = (
    "Torvel K3", "Brimo 210", "Ossaly X2", "Kaduro 55", "Venlit S", "Marquo 7", "Pellan R4", "Zundra 900", "Hobrik L",
    "Quorin 3", "Astelo P5", "Fenwik 120", "Lurado C1", "Glimmet 40", "Nordask V", "Savrin 8", "Tiboro 66", "Ulmex D2",
    "Yarrow 500", "Cendri M",
)  # fmt: skip
UNKNOWN = ("Rovastel 12", "Dimpra Q", "Weltun 77", "Jaspero E9", "Hulmek 4", "Oriva 350")
MANUAL = {
    "Set-up": (
        Attribute("cable length", "How far from the socket can {d} stand?", spread("m", 0.8, 1, 1.2, 1.5, 1.8, 2.5)),
        Attribute("wall distance", "How close to other things may I put {d}?", spread("cm", 5, 8, 10, 15, 20, 30)),
        Attribute("fuse", "What protects {d} from too much current?", spread("A", 3, 6, 10, 13, 16)),
        Attribute("plug type", "Which socket does {d} fit?", ("type C", "type E", "type F", "type G", "type J")),
    ),
    "Use": (
        Attribute("warm-up time", "How long until {d} is ready?", spread("minutes", 2, 3, 4, 6, 9)),
        Attribute("switch-off time", "When does {d} turn itself off?", spread("minutes", 15, 20, 30, 45, 90)),
        Attribute("child lock", "How do I stop my daughter from starting {d}?",
                  ("hold the left button", "turn the knob twice", "press both keys", "slide the red switch")),
        Attribute("highest setting", "How far up can I turn {d}?", ("level 3", "level 5", "level 6", "level 8")),
    ),
    "Care": (
        Attribute("cleaning interval", "How often must I wash {d}?", spread("weeks", 2, 3, 4, 6, 8)),
        Attribute("cleaning agent", "What do I rub {d} with when it is dirty?",
                  ("citric acid", "white vinegar", "mild soap", "baking soda", "warm water", "clear spirit")),
        Attribute("spare part number", "What do I order when a piece of {d} is worn?",
                  tuple(f"P-{n}" for n in (118, 204, 231, 377, 402, 519, 640, 733, 815, 926))),
        Attribute("storage place", "Where shall {d} spend the winter?",
                  ("a dry cupboard", "a heated cellar", "the original box", "a dark shelf")),
    ),
    "Faults": (
        Attribute("meaning of E1", "My {n} shows E1. What is wrong?",
                  ("low voltage", "open lid", "no signal", "dirty sensor", "wrong plug")),
        Attribute("meaning of E4", "My {n} shows E4. What is wrong?",
                  ("hot motor", "loose plug", "broken fuse", "worn cable", "too much dust")),
        Attribute("reset key", "How do I make {d} forget an error?",
                  ("the star key", "the round key", "the lower key", "the green key")),
        Attribute("cooling time", "How long must {d} rest after it ran too hot?", spread("minutes", 5, 10, 25, 40, 60)),
    ),
    "Data": (
        Attribute("weight", "How heavy is {d}?", spread("kg", 0.9, 1.3, 1.8, 2.2, 2.9, 3.6, 4.5, 6.1)),
        Attribute("power", "How many watts does {d} draw?", spread("W", 350, 600, 850, 1100, 1450, 1800, 2200)),
        Attribute("noise level", "How loud is {d}?", spread("dB", 38, 44, 49, 53, 57, 61, 66)),
        Attribute("country of origin", "Where was {d} built?", ("Portugal", "Slovenia", "Vietnam", "Poland", "Kenya")),
    ),
    "Warranty": (
        Attribute("warranty period", "For how long are repairs of {d} free?", spread("months", 12, 18, 24, 36, 60)),
        Attribute("service number", "Whom can I phone about {d}?",
                  tuple(f"0{a} {b}" for a, b in ((41, 5520), (52, 7713), (63, 1904), (74, 3368), (85, 9021)))),
        Attribute("serial number place", "On which side is the plate with the number of {d}?",
                  ("the base", "the back", "the battery lid", "the handle", "the left side")),
        Attribute("repair partner", "Who mends {d}?", ("Halden Works", "Mirto Service", "Oak Repair", "Pine Tools")),
    ),
}  # fmt: skip
TOWNS = ("Norvik", "Eastmere", "Calloway", "Dunsford", "Port Aven", "Hallow Bay", "Larkhill", "Stonebridge")
NOWHERE = ("Windrush", "Amberley")
BRANCH = {
    "Hours": (
        Attribute("opening time", "From when can I come to {d} in the morning?", ("7:30", "8:00", "8:30", "9:15")),
        Attribute("closing time", "Until when is somebody at {d}?", ("17:30", "18:00", "19:15", "20:00", "21:30")),
        Attribute("day of rest", "On which day is nobody at {d}?", ("Sunday", "Monday", "Wednesday")),
    ),
    "People": (
        Attribute("manager", "Who is in charge of {d}?",
                  ("Ada Brent", "Jonas Field", "Mira Castle", "Tom Arden", "Lena Marsh", "Omar Vale")),
        Attribute("phone number", "How can I call {d}?", tuple(f"0{a} {a * 37 + 1000}" for a in range(21, 33))),
        Attribute("size of the team", "How many work at {d}?", spread("people", 4, 6, 7, 9, 12)),
    ),
    "Place": (
        Attribute("street", "Where exactly do I find {d}?",
                  ("Mill Lane", "Harbour Road", "Queen Street", "Elm Walk", "Station Road")),
        Attribute("parking fee", "What do I pay for leaving the car at {d}?", spread("euros", 2, 3, 4, 5)),
        Attribute("nearest bus", "Which line takes me to {d}?", ("line 3", "line 8", "line 14", "line 27", "line 41")),
    ),
}  # fmt: skip
GOODS = ("small devices", "large devices", "spare parts", "gift cards", "used devices", "garden tools")
POLICY = {
    "Returns": (
        Attribute("return period", "How long may I bring {d} back?", spread("days", 7, 14, 21, 30, 45)),
        Attribute("return fee", "What does it cost me to give {d} back?", spread("euros", 0, 3, 5, 8)),
        Attribute("proof of purchase", "What must I show when I bring {d} back?",
                  ("the receipt", "the bank statement", "the order e-mail", "the customer card")),
    ),
    "Delivery": (
        Attribute("delivery time", "When do {d} get to my door?", spread("days", 2, 3, 5, 9)),
        Attribute("delivery price", "What do I pay to have {d} sent?", spread("euros", 2, 4, 6, 12, 25)),
        Attribute("carrier", "Who brings {d}?", ("Blue Post", "Swift Van", "River Freight", "City Bike")),
    ),
    "Payment": (
        Attribute("down payment", "How much of the price of {d} is due at once?", spread("percent", 10, 20, 25, 40)),
        Attribute("number of rates", "In how many parts can I pay for {d}?", spread("rates", 3, 6, 10, 12)),
        Attribute("discount code", "What do I type to get {d} cheaper?", ("SPRING5", "OAK10", "HELLO3", "BLUE7")),
    ),
}  # fmt: skip
IDLE = (
    "Keep these pages where you can find them.", "Read them before you begin.", "Wet hands and electricity do not mix.",
    "Pictures may differ from what you have.", "If in doubt, ask somebody who knows.", "Nothing here needs a tool.",
    "Most people need this only once.", "Take your time.", "Children should not do this alone.",
    "A dry cloth is all you need for the rest.", "The colour makes no difference.", "Old paper goes into the blue bin.",
    "We are glad that you chose us.", "This page was checked in spring.", "Small scratches are no reason to worry.",
    "There is a longer version of this page in the office.", "Ask for large print if you like.",
)  # fmt: skip


def fact(rng: random.Random, attribute: Attribute, name: str, said: str, asked: str) -> Fact:
    """Make up a fact: `said` stands for the subject in the document, `asked` in questions."""
    label, answer = attribute.label, rng.choice(attribute.values)
    forms = (f"The {label} of {said} is {answer}.", f"For {said}, the {label} is {answer}.")
    reworded = attribute.reworded.format(d=asked, n=name)
    return Fact(rng.choice(forms), f"What is the {label} of {asked}?", reworded, answer)


def section(rng: random.Random, facts: list[Fact]) -> str:
    """Write a paragraph: the facts, and one to three sentences that are beside the point."""
    parts = [f.sentence for f in facts] + rng.sample(IDLE, rng.randint(1, 3))
    rng.shuffle(parts)
    return " ".join(parts)


class Document(NamedTuple):
    """Hold a document: its file's name, its text, its facts, and questions that it does not answer."""

    name: str
    text: str
    facts: list[Fact]
    gaps: list[str]


def document(
    rng: random.Random, title: str, name: str, asked: str, here: str, plan: dict[str, tuple[Attribute, ...]]
) -> Document:
    """Write one document; with four attributes to a section, one is left out. Every other section names its subject."""
    lines, facts, gaps = [f"# {title}"], [], []
    for at, (heading, attributes) in enumerate(plan.items()):
        kept = rng.sample(attributes, min(3, len(attributes)))
        said = asked if at % 2 == 0 else here
        told = [fact(rng, attribute, name, said, asked) for attribute in kept]
        gaps += [f"What is the {a.label} of {asked}?" for a in attributes if a not in kept]
        facts += told
        lines += ["", f"## {heading}", "", section(rng, told)]
    file = title.lower().replace(" ", "-") + ".md"
    return Document(file, "\n".join(lines) + "\n", facts, gaps)


def documents(rng: random.Random) -> Iterator[Document]:
    """Write all documents."""
    for at, name in enumerate(NAMES):
        kind = KINDS[at % len(KINDS)]
        yield document(rng, f"{name} {kind}", name, f"the {name}", f"this {kind}", MANUAL)
    for town in TOWNS:
        yield document(rng, f"Branch {town}", town, f"the branch in {town}", "this branch", BRANCH)
    for goods in GOODS:
        yield document(rng, f"Policy for {goods}", goods, goods, "these goods", POLICY)


def questions(rng: random.Random, made: list[Document]) -> list[dict[str, str]]:
    """Draw questions: no fact is asked for twice."""
    pool = [(doc, fact) for doc in made for fact in doc.facts]
    rng.shuffle(pool)
    rows = []
    for kind in ("plain", "reworded"):
        for _ in range(COUNTS[kind]):
            doc, told = pool.pop()
            asked = told.plain if kind == "plain" else told.reworded
            rows.append((kind, asked, told.answer, doc.name, told.sentence))
    gaps = rng.sample([gap for doc in made for gap in doc.gaps], COUNTS["absent"] - 16)
    labels = [attribute.label for group in MANUAL.values() for attribute in group]
    gaps += [f"What is the {label} of the {name}?" for name in UNKNOWN for label in rng.sample(labels, 2)]
    gaps += [
        f"What is the {label} of the branch in {town}?" for town in NOWHERE for label in ("manager", "street")
    ]
    rows += [("absent", gap, SILENT, "", "") for gap in gaps]
    rng.shuffle(rows)
    names = ("kind", "question", "answer", "document", "evidence")
    return [{"id": f"q{at:03}", **dict(zip(names, row, strict=True))} for at, row in enumerate(rows, 1)]


def build(folder: Path) -> None:
    """Write documents/, questions.jsonl and the card."""
    rng = random.Random(SEED)
    made = list(documents(rng))
    rows = questions(rng, made)
    (folder / "documents").mkdir(parents=True, exist_ok=True)
    for doc in made:
        (folder / "documents" / doc.name).write_text(doc.text, encoding="utf-8", newline="\n")
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "questions.jsonl").write_text(lines, encoding="utf-8", newline="\n")
    every = "".join(doc.name + "\n" + doc.text for doc in made).encode()
    passages = sum(doc.text.count("\n## ") for doc in made)
    card = (HERE / "card.md").read_text("utf-8").format(
        documents=len(made), passages=passages, bytes=len(every), facts=sum(len(doc.facts) for doc in made),
        corpus=hashlib.sha256(every).hexdigest(), questions=hashlib.sha256(lines.encode()).hexdigest(), **COUNTS,
    )  # fmt: skip
    (folder / "README.md").write_text(card, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=HERE)
    build(parser.parse_args().folder)
