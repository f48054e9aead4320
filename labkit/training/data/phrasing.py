"""Wordings: templates filled, wrapped politely, and made noisy outside the values."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import lru_cache

from . import words
from .lexicon import ADJECTIVES, VERBS

Piece = tuple[str, bool]  # text, and whether it is a value that must stay as it is
MARKS = re.compile(r"\(([^()]*\|[^()]*)\)|\{(\w+)\}")
OPENINGS = (
    "Hi|Hello|Hey|Good morning|Good evening|Hey there|Hi there|OK|Okay|So|Well|Right|Good day|Excuse "
    "me|Now|Alright|Quick question|Listen|Dear assistant|Salam"
).split("|")
ORDERS = (
    "{}|{}|{}|{}|please {}|{} please|{}, please|can you {}?|could you {}?|could you please {}?|would "
    "you {}?|will you {}?|i need you to {}|i want you to {}|"
    "i'd like you to {}|i would like to {}|i want to {}|go ahead and {}|{} for me|{}, thanks|can you "
    "please {}?|would you mind to {}?|kindly {}|"
    "help me to {}|your task: {}|it is time to {}|we should {}|you should {}|just {}|next, {}|let us "
    "{}|i must {}|do me a favor and {}"
).split("|")
CLOSINGS = (
    "Thanks|Thank you|Thanks a lot|It is urgent|No hurry|That is all|Thanks in advance|Cheers|Much "
    "appreciated|Be quick|I am waiting|Many thanks|Take your time|That would be great"
).split("|")
LOOSE = "{}|{}|{}|{}|please: {}|{}, please|{}, thanks|what i want: {}".split("|")
IMPERATIVES = frozenset(
    (
        " ".join(VERBS)
        + " get fetch look show retrieve set change adjust update create add make register delete remove "
        "erase start launch run begin stop halt end send "
        "dispatch forward book reserve check inspect verify find search locate cancel call list "
        "enumerate calculate compute work order buy purchase open close record log note assign "
        "allocate approve accept reject decline export print move copy rename lock unlock pause resume "
        "rate repair fix use tell turn switch put play stream cue wake remind ring ping "
        "vacuum clean hoover restart reboot power do read query give suggest recommend resize scale "
        "shrink bring convert exchange evaluate solve express transfer pay wire arrange "
        "refill renew request find drive take pick collect connect write text message mail email compose "
        "phone dial translate render say track revoke issue return file submit report "
        "resolve end mark reset schedule plan google browse load display shift rename get throw enter "
        "apply invoice leave store ship post see let refund go raise lower quit summon "
        "stream warm heat review"
    ).split()
)
QUESTIONS = (
    "{}|{}|{}|{}|{}|please tell me: {}|one question: {}|i wonder: {}|can you tell me: {}|do you "
    "know: {}|just checking: {}|my question is: {}|let me ask: {}"
).split("|")
QUOTES = ('"{}"', "'{}'", "“{}”", '"{}"')


@lru_cache(maxsize=4096)
def parse(template: str) -> tuple[str | tuple[str, ...], ...]:
    """Cut a template into texts, choices (tuples) and slots (a 1-tuple)."""
    parts: list[str | tuple[str, ...]] = []
    for i, part in enumerate(MARKS.split(template)):
        if part:
            parts.append(part if i % 3 == 0 else tuple(part.split("|")) if i % 3 == 1 else (part,))
    return tuple(parts)


def fill(rng: random.Random, template: str, shown: dict[str, str]) -> list[Piece]:
    """Fill a template's slots and choices."""
    pieces: list[Piece] = []
    for part in parse(template):
        if isinstance(part, str):
            pieces.append((part, False))
        elif len(part) == 1:
            pieces.append((shown[part[0]], True))
        else:
            choice = rng.choice(part)
            pieces += fill(rng, choice, shown) if "{" in choice else [(choice, False)]
    return [piece for piece in pieces if piece[0]]


def slots(template: str) -> list[str]:
    """List a template's slots."""
    return re.findall(r"\{(\w+)\}", template)


def around(rng: random.Random, template: str, pieces: list[Piece]) -> list[Piece]:
    """Put pieces in the place of `{}`."""
    before, after = template.split("{}")
    return [(before, False), *pieces, (after, False)]


def lead(rng: random.Random) -> str:
    """Make a sentence which has nothing to do with the request."""
    adjective, first, second = rng.choice(ADJECTIVES), words.noun(rng), words.noun(rng)
    form = rng.choice(
        (
            "It is a {a} day here.",
            "My {f} is {a} today.",
            "I was just in the {f}.",
            "I have a {a} {f}.",
            "We had a {a} {f} and a {s}.",
            "The {f} is {a}.",
            "I am back from the {f}.",
            "There is a {a} {s} in front of my {f}.",
            "I like your {f}.",
            "Sorry to bother you.",
            "I hope you are well.",
            "The {f} and the {s} are fine.",
            "I do not know much about this.",
            "My {f} needs a {s}.",
            "You helped me with the {f} yesterday.",
            "I forgot about the {f}.",
            "A {a} thing happened.",
        )
    )
    return form.format(a=adjective, f=first, s=second)


def capital(text: str) -> str:
    """Return the text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def noisy(rng: random.Random, pieces: Sequence[Piece], *, typos: bool = True) -> str:
    """Join pieces, sometimes with a typo or all in lower case, never in a value."""
    roll = rng.random()
    texts = [text for text, _ in pieces]
    if roll < 0.12 and typos:
        free = [i for i, (text, value) in enumerate(pieces) if not value and len(text) > 4]
        for i in rng.sample(free, min(len(free), rng.choice((1, 1, 2)))):
            texts[i] = words.typo(rng, texts[i])
    if roll < 0.7:
        texts = [
            text if value else text.replace(" i ", " I ")
            for text, (_, value) in zip(texts, pieces, strict=True)
        ]
    if roll > 0.85:
        texts = [text if value else text.lower() for text, (_, value) in zip(texts, pieces, strict=True)]
    elif pieces and not pieces[0][1] and roll > 0.05:
        texts[0] = capital(texts[0])
    return " ".join("".join(texts).split(" ")).replace("  ", " ").strip()


def is_order(pieces: Sequence[Piece]) -> bool:
    """Tell whether the request starts with a verb in the imperative."""
    text, fixed = pieces[0]
    return text.partition(" ")[0] in IMPERATIVES or fixed and text in ("lock", "unlock")


def wrap(rng: random.Random, pieces: list[Piece], template: str) -> list[Piece]:
    """Wrap an order or a question politely and end it with its mark."""
    mark = template[-1] if template[-1] in "?." else ""
    pieces = [*pieces]
    if not mark:
        form = rng.choice(ORDERS if is_order(pieces) else LOOSE)
        mark = "?" if form[-1] == "?" else "."
        pieces = around(
            rng,
            form.rstrip("?"),
            [(pieces[0][0][:1].lower() + pieces[0][0][1:], False), *pieces[1:]]
            if not pieces[0][1]
            else pieces,
        )
    elif mark == "?" and not pieces[0][1]:
        form = rng.choice(QUESTIONS)
        if form != "{}":
            pieces = around(rng, form, [(pieces[0][0][:1].lower() + pieces[0][0][1:], False), *pieces[1:]])
    pieces = [piece for piece in pieces if piece[0]]
    if pieces[0][0] and not pieces[0][1]:
        pieces[0] = (capital(pieces[0][0]), False)
    return [*pieces, (mark if rng.random() < 0.85 else "", False)]


def dress(rng: random.Random, pieces: list[Piece], *, typos: bool = True) -> str:
    """Add an opening, an idle sentence or a closing to a request, and noise."""
    pieces = list(pieces)
    if rng.random() < 0.2:
        opening = rng.choice(OPENINGS) + rng.choice((", ", "! ", ", ", ". ", " - "))
        if opening[-2:] == ", " and not pieces[0][1] and not pieces[0][0].startswith("I "):
            pieces[0] = (pieces[0][0][:1].lower() + pieces[0][0][1:], False)
        pieces.insert(0, (opening, False))
    if rng.random() < 0.14:
        pieces.insert(0, (lead(rng) + " ", False))
    ending = rng.choice(CLOSINGS) + rng.choice((".", "!", "")) if rng.random() < 0.1 else ""
    if not ending and rng.random() < 0.06:
        ending = lead(rng)
    if ending:  # after a full stop, lest it read as part of a value
        stop = " " if pieces[-1][0][-1:] in (".", "?", "!") else ". "
        pieces.append((stop + ending, False))
    return noisy(rng, pieces, typos=typos)
