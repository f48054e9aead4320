"""Open distributions of ids, numbers, dates, addresses and other values."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from .words import LETTERS, UPPER, label, name, noun, person, place, pseudo, word


def ident(rng: random.Random) -> str:
    """Return an identifier such as AB-1234, ord_9f3k or 4810277."""
    roll, pick = rng.random(), rng.choice
    if roll < 0.3:
        return "".join(pick(UPPER) for _ in range(pick((1, 2, 3)))) + "-" + digits(rng, 3, 6)
    if roll < 0.45:
        return "".join(pick(UPPER) for _ in range(pick((1, 2, 3)))) + digits(rng, 2, 5)
    if roll < 0.6:
        return pseudo(rng)[:4] + "_" + "".join(pick(LETTERS + "0123456789") for _ in range(pick((4, 5, 6))))
    if roll < 0.8:
        return digits(rng, 4, 8)
    if roll < 0.9:
        return "".join(pick(UPPER) for _ in range(3)) + "-" + digits(rng, 2, 4) + "-" + pick(UPPER)
    return pick(("#", "No", "INV", "T", "REF")) + digits(rng, 3, 6)


def digits(rng: random.Random, low: int, high: int) -> str:
    """Return a string of `low` to `high` digits without a leading zero."""
    size = rng.randint(low, high)
    return str(rng.randrange(10 ** (size - 1), 10**size))


def integer(rng: random.Random) -> int:
    """Return an integer of one to six digits, rarely negative."""
    value = rng.randrange(10 ** rng.choice((1, 1, 2, 2, 2, 3, 3, 4, 5, 6)))
    return -value if rng.random() < 0.05 else value


def decimal(rng: random.Random, low: float = 0, high: float = 1000) -> float:
    """Return a number with one or two decimals."""
    value = round(rng.uniform(low, high), rng.choice((1, 2)))
    return value + 0.5 if value == int(value) else value


def phrase(rng: random.Random, low: int = 2, high: int = 6) -> str:
    """Return a free phrase of `low` to `high` words."""
    return (
        " ".join(
            word(rng)
            if rng.random() < 0.8
            else rng.choice(("the", "a", "of", "and", "for", "to", "my", "at"))
            for _ in range(rng.randint(low, high - 1))
        )
        + " "
        + noun(rng)
    )


def date(rng: random.Random) -> str:
    """Return an ISO date."""
    return f"{rng.randint(1990, 2035)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"


def clock(rng: random.Random) -> str:
    """Return a time of day as HH:MM."""
    return f"{rng.randrange(24):02d}:{rng.choice((0, 0, 15, 30, 30, 45, rng.randrange(60))):02d}"


def day(rng: random.Random) -> str:
    """Return a day as people say it: an ISO date, a weekday, a day of a month."""
    roll = rng.random()
    if roll < 0.7:
        return date(rng)
    if roll < 0.85:
        return rng.choice(("", "", "next ")) + rng.choice(
            ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
        )
    month, number = (
        rng.choice(
            "January February March April May June July August September October November December".split()
        ),
        rng.randint(1, 28),
    )
    return rng.choice(
        (
            "tomorrow",
            "today",
            f"{number} {month}",
            f"{month} {number}",
            f"{number} {month}",
            f"{number}.{rng.randint(1, 12)}.{rng.randint(1990, 2035)}",
        )
    )


def hour(rng: random.Random) -> str:
    """Return a time of day as people say it: 14:30, 3 pm, 7:15 am."""
    if rng.random() < 0.75:
        return clock(rng)
    minutes = rng.choice(("", "", ":30", ":15", ":45"))
    return f"{rng.randint(1, 12)}{minutes}{rng.choice((' ', ''))}{rng.choice(('am', 'pm'))}"


def email(rng: random.Random) -> str:
    """Return an email address."""
    user = pseudo(rng) + rng.choice(("", "." + pseudo(rng), digits(rng, 1, 3)))
    return f"{user}@{pseudo(rng)}.{rng.choice(('com', 'org', 'net', 'io', 'de', 'my'))}"


def phone(rng: random.Random) -> str:
    """Return a phone number."""
    return rng.choice(("+", "0")) + digits(rng, 2, 3) + rng.choice((" ", "-")) + digits(rng, 5, 8)


def path(rng: random.Random) -> str:
    """Return a file path or a file name."""
    folders = "".join(noun(rng) + "/" for _ in range(rng.choice((0, 0, 1, 2))))
    return (
        rng.choice(("", "", "/")) * bool(folders)
        + folders
        + word(rng)
        + rng.choice(("", "_" + digits(rng, 1, 4)))
        + "."
        + rng.choice(("txt", "pdf", "csv", "md", "png", "docx", "json", "log"))
    )


def url(rng: random.Random) -> str:
    """Return a web address."""
    host = rng.choice(("", "www.")) + pseudo(rng)
    return f"https://{host}.{rng.choice(('com', 'org', 'net'))}{rng.choice(('', '/' + word(rng)))}"


def room(rng: random.Random) -> str:
    """Return a room of a house."""
    roll = rng.random()
    if roll < 0.35:
        return rng.choice(
            (
                "kitchen",
                "bedroom",
                "living room",
                "bathroom",
                "hallway",
                "garage",
                "office",
                "attic",
                "cellar",
                "garden",
                "nursery",
            )
        )
    return noun(rng) + " room" if roll < 0.65 else word(rng) if roll < 0.85 else f"room {rng.randint(1, 400)}"


def code(rng: random.Random) -> str:
    """Return three or four capital letters, as of a currency or a stock."""
    real = ("USD", "EUR", "GBP", "JPY", "MYR", "AAPL", "MSFT", "CHF", "SGD")
    return (
        rng.choice(real)
        if rng.random() < 0.25
        else "".join(rng.choice(UPPER) for _ in range(rng.choice((3, 3, 3, 4))))
    )


def title(rng: random.Random) -> str:
    """Return a title of one to three capitalised words."""
    return " ".join(word(rng).capitalize() for _ in range(rng.choice((1, 2, 2, 3))))


UNITS = (
    "km miles metres feet inches yards kg pounds grams ounces litres gallons pints hours minutes "
    "seconds acres knots joules watts"
).split()

KINDS: dict[str, Callable[[random.Random], Any]] = {
    "word": word,
    "noun": noun,
    "label": label,
    "name": name,
    "person": person,
    "place": place,
    "id": ident,
    "integer": integer,
    "decimal": decimal,
    "phrase": phrase,
    "date": date,
    "time": clock,
    "day": day,
    "hour": hour,
    "email": email,
    "phone": phone,
    "path": path,
    "url": url,
    "room": room,
    "code": code,
    "unit": lambda rng: rng.choice(UNITS) if rng.random() < 0.6 else pseudo(rng) + "s",
    "list": lambda rng: [phrase(rng, 1, 3) for _ in range(rng.choice((0, 1, 2, 2, 3)))],
    "title": title,
    "expr": lambda rng: f"{rng.randint(1, 999)} {rng.choice('+-*/')} {rng.randint(1, 99)}",
    "language": lambda rng: (
        rng.choice(("French", "German", "Malay", "Spanish", "Greek", "Chinese", "Tamil"))
        if rng.random() < 0.3
        else pseudo(rng).capitalize()
    ),
    "money": lambda rng: rng.choice((decimal(rng, 1, 900), rng.randint(1, 5000))),
    "thing": lambda rng: label(rng) if rng.random() < 0.7 else title(rng),
}


def sample(rng: random.Random, kind: str) -> Any:
    """Draw a value of a kind.

    A kind is a name in `KINDS`, `int:low:high`, `dec:low:high` or options `a/b/c`.
    Any other word is the value itself.
    """
    if kind in KINDS:
        return KINDS[kind](rng)
    if "/" in kind:
        return rng.choice(kind.split("/"))
    if ":" not in kind:
        return kind
    form, low, high = kind.split(":")
    return rng.randint(int(low), int(high)) if form == "int" else decimal(rng, float(low), float(high))
