"""What a user makes of a request: manners around it, and noise outside the values."""

from __future__ import annotations

import re

from .draw import CLOSE, OPEN, Draw, capital

ENDS = "?.!"
QUOTES = ('"{}"', "'{}'", "“{}”", '"{}"')
VALUES = re.compile(f"({OPEN}.*?{CLOSE})", re.DOTALL)
WRAPS = {"?": "questions", "!": "orders", "": "notes"}


def slots(template: str) -> list[str]:
    """List a template's slots."""
    return re.findall(r"\{(\w+)\}", template)


def ending(template: str) -> str:
    """Return the sign that tells what a template is, or nothing."""
    return template[-1] if template[-1] in ENDS else ""


def small(text: str) -> str:
    """Return the text with its first letter in lower case, unless it is the word I."""
    return text if text.startswith(("I ", "I'")) else text[:1].lower() + text[1:]


def wrap(d: Draw, text: str, mark: str) -> str:
    """Wrap an order, a question or a note politely and end it with its sign."""
    form = d.line(WRAPS[mark]) if mark in WRAPS else "{}"
    end = "?" if "?" in (mark, form[-1]) else "."
    if form != "{}":
        text = form.rstrip("?").replace("{}", small(text))
    return capital(text) + (end if d.chance(0.85) else "")


def dress(d: Draw, text: str, mark: str, *, typos: bool = True) -> str:
    """Wrap a request; add an opening, an idle sentence or a closing, and noise. Short ones get noise only."""
    if d.short:
        return noisy(d, text + ("?" if mark == "?" and d.chance(0.3) else ""), typos=typos)
    text = wrap(d, text, mark)
    if d.chance(0.2):
        opening = d.line("openings")
        text = opening + (small(text) if opening[-2:] == ", " else text)
    if d.chance(0.05):
        text = d.line("leads") + " " + text
    closing = d.line("closings") if d.chance(0.1) else d.line("leads") if d.chance(0.03) else ""
    if closing:  # after a full stop, lest it read as part of a value
        text += (" " if text[-1] in ENDS else ". ") + closing
    return noisy(d, text, typos=typos)


def noisy(d: Draw, text: str, *, typos: bool = True) -> str:
    """Lay bare the values, sometimes with a typo or all in lower case around them."""
    roll = d.rng.random()
    parts = VALUES.split(text)
    free = range(0, len(parts), 2)
    if roll < 0.08 and typos:
        at = d.choice(free)
        parts[at] = typo(d, parts[at])
    for at in free:
        if roll > 0.85:
            parts[at] = parts[at].lower()
        elif roll < 0.7:
            parts[at] = re.sub(r"\bi\b", "I", parts[at])
    if 0.05 < roll <= 0.85:
        parts[0] = capital(parts[0])
    return re.sub(" +", " ", bared("".join(parts))).strip()


def bared(text: str) -> str:
    """Return the text without the marks around its values."""
    return text.replace(OPEN, "").replace(CLOSE, "")


def typo(d: Draw, text: str) -> str:
    """Swap, drop or double one letter in one longer word of `text`."""
    parts = text.split(" ")
    spots = [at for at, part in enumerate(parts) if len(part) > 3 and part.isalpha()]
    if spots:
        spot = d.choice(spots)
        old = parts[spot]
        at = d.rng.randrange(1, len(old) - 1)
        swapped = old[:at] + old[at + 1] + old[at] + old[at + 2 :]
        parts[spot] = d.choice((swapped, old[:at] + old[at + 1 :], old[:at] + old[at] + old[at:]))
    return " ".join(parts)


def story(d: Draw, sentences: list[str], idle: int, marks: tuple[str, ...] = (". ",)) -> str:
    """Join sentences to a text, with `idle` sentences among them."""
    parts = [*sentences, *(d.line("idle" if idle > 2 else "leads").rstrip(".") for _ in range(idle))]
    d.rng.shuffle(parts)
    mark = d.choice(marks)
    text = mark.join(capital(part) if mark[0] in ".\n" else part for part in parts)
    return bared(text) + ("." if mark[0] != "\n" else "")
