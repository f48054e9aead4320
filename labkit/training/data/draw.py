"""Draw words and values from a world: open distributions, never closed lists alone."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from .world import Lists, World

Level = Literal["short", "medium", "full", "long"]
CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MASKS = {"A": CAPITALS, "a": CAPITALS.lower() + "0123456789", "9": "123456789", "0": "0123456789"}
MARKS = re.compile(r"\(([^()]*\|[^()]*)\)|\{([^{}]+)\}")
# Around a value in a sentence that is still to be worded, so that no typo and no change of case gets into it.
OPEN, CLOSE = "\x01", "\x02"


@lru_cache(maxsize=20_000)
def parse(template: str) -> tuple[tuple[str, tuple[str, ...], str], ...]:
    """Cut a template into (text before, choices, slot) triples."""
    parts = [*MARKS.split(template), None, None]
    return tuple(
        (text or "", tuple(choices.split("|")) if choices else (), slot or "")
        for text, choices, slot in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    )


class Draw:
    """Chance with a world and a level: what every maker of examples draws from."""

    def __init__(self, rng: random.Random, world: World, level: Level, lists: Lists | None = None) -> None:
        self.rng, self.world, self.level = rng, world, level
        self.choice, self.randint = rng.choice, rng.randint
        self.lists = world.lists if lists is None else lists
        self.head: list[dict[str, Any]] | None = None  # a system message that several examples share
        own = self.lists is world.naming
        self.names: Draw = self if own else Draw(rng, world, level, world.naming)

    @property
    def short(self) -> bool:
        """Tell whether the example is of the shortest kind, without descriptions or manners."""
        return self.level == "short"

    def chance(self, share: float) -> bool:
        """Return true with probability `share`."""
        return self.rng.random() < share

    def count(self, short: str, medium: str, full: str, long: str) -> int:
        """Draw a number from the digits (`0123456789abc…`) given for this level."""
        digits = {"short": short, "medium": medium, "full": full, "long": long}[self.level]
        return int(self.choice(digits), 36)

    def line(self, name: str, **known: str) -> str:
        """Choose a line of a list and fill it."""
        return self.make(self.choice(self.lists[name]), known)

    def row(self, name: str) -> list[str]:
        """Choose a line of a list and cut it into its columns."""
        return self.choice(self.lists[name]).split(" : ")

    def make(self, template: str, known: Mapping[str, str] | None = None, *, protect: bool = False) -> str:
        """Decide a template's choices and fill its slots, with what is known or else drawn."""
        if "{" not in template and "|" not in template:
            return template
        found = []
        for text, choices, slot in parse(template):
            found.append(text)
            if choices:
                found.append(self.make(self.choice(choices), known, protect=protect))
            elif slot:
                value = known[slot] if known and slot in known else str(self.sample(slot))
                found.append(hold(value) if protect else value)
        return "".join(found)

    def sample(self, kind: str) -> Any:
        """Draw a value of a kind.

        A kind is a maker, a list, a mask `#A-900`, `int:low:high`, `dec:low:high` or options `a/b/c`; with a
        capital, the same capitalised. Any other word is the value itself.
        """
        if kind in MAKERS:
            return MAKERS[kind](self)
        if kind in self.lists:
            return self.make(self.choice(self.lists[kind]))
        if kind[0] == "#":
            return "".join([self.choice(MASKS[sign]) if sign in MASKS else sign for sign in kind[1:]])
        if "/" in kind:
            return self.choice(kind.split("/"))
        if ":" in kind:
            form, low, high = kind.split(":")
            if form == "dec":
                return self.decimal(float(low), float(high))
            number = self.randint(int(low), int(high))
            return f"{number:02d}" if form == "two" else number
        return capital(str(self.sample(kind.lower()))) if kind[0].isupper() else kind

    def pseudo(self) -> str:
        """Make up a lower-case word of one to four syllables."""
        pick, onsets, vowels = self.choice, self.lists["onsets"], self.lists["vowels"]
        syllables = [pick(onsets) + pick(vowels) for _ in range(pick((1, 1, 2, 2, 2, 2, 2, 3, 3, 4)))]
        text = "".join(syllables) + pick(self.lists["codas"])
        return text if len(text) > 2 else text + pick(onsets) + pick(vowels)

    def foreign(self) -> str:
        """Make up a name in another alphabet or with diacritics."""
        first, middle, last = (part.split() for part in self.row("scripts"))
        middles = [self.choice(middle) for _ in range(self.choice((0, 1, 1, 2)))]
        return self.choice(first) + "".join(middles) + self.choice(["", *last])

    def integer(self) -> int:
        """Return an integer of one to six digits, rarely negative."""
        value = self.rng.randrange(10 ** self.choice((1, 1, 2, 2, 2, 3, 3, 4, 5, 6)))
        return -value if self.chance(0.05) else value

    def decimal(self, low: float = 0, high: float = 1000) -> float:
        """Return a number with one or two decimals."""
        value = round(self.rng.uniform(low, high), self.choice((1, 2)))
        return value + 0.5 if value == int(value) else value

    def money(self) -> float:
        """Return an amount, whole or with decimals."""
        return self.choice((self.decimal(1, 900), self.randint(1, 5000)))

    def titles(self) -> list[str]:
        """Return up to three names of things."""
        return [self.line("label") for _ in range(self.choice((0, 1, 2, 2, 3)))]


MAKERS: dict[str, Callable[[Draw], Any]] = {
    maker.__name__: maker
    for maker in (Draw.pseudo, Draw.foreign, Draw.integer, Draw.decimal, Draw.money, Draw.titles)
}


def capital(text: str) -> str:
    """Return the text with its first letter in upper case, unless that belongs to a value."""
    return text[:1].upper() + text[1:]


def style(text: str, form: str) -> str:
    """Join the words of `text` as an identifier: snake, camel, pascal or flat."""
    parts = text.split()
    if form in ("snake", "flat"):
        return ("_" if form == "snake" else "").join(parts)
    joined = "".join(capital(part) for part in parts)
    return joined if form == "pascal" else joined[:1].lower() + joined[1:]


def spaced(identifier: str) -> str:
    """Return an identifier's words in lower case, apart."""
    text = "".join(" " + sign.lower() if sign.isupper() else sign for sign in identifier)
    return " ".join(text.replace("_", " ").split())


def listed(items: Sequence[Any]) -> str:
    """Join items as `a, b and c`."""
    texts = [str(item) for item in items]
    return ", ".join(texts[:-1]) + " and " + texts[-1] if len(texts) > 1 else "".join(texts)


def hold(value: object) -> str:
    """Mark a value, so that nothing around it changes its letters."""
    return f"{OPEN}{value}{CLOSE}"


def put(text: str, **known: str) -> str:
    """Put texts in the place of slots, and leave the other slots."""
    for slot, value in known.items():
        text = text.replace(f"{{{slot}}}", value)
    return text
