"""Open distributions of words, names, ids, numbers and dates."""

from __future__ import annotations

import random

from .lexicon import ADJECTIVES, NOUNS, REAL_NAMES, REAL_PLACES, VERBS

ONSETS = (
    "b br c ch cl d dr f fl fr g gl gr h j k kl kr l m n p pl pr qu r s sc sh sk sl sn sp st str t "
    "th tr v w y z"
).split()

VOWELS = "a e i o u a e i o u a e i o u a e i o a e i o a e i ai ea ee ia io oa oo ou".split()

CODAS = ["", "", "", "", "", *"b d f g k l ld ll m mp n nd ng p r rd rk rn s sh sk st th x z".split()]

SCRIPTS = (
    ("Ми На Ол Ка Ро Бе Ва Ди Се Та", "ла ра ни ко ша на ве ти мир дор", " ев ова ин ко"),
    ("Αλ Νι Κα Μα Ελ Θε Πα Στε", "έ κο ρί λα νη φα δώ", " ς α ης ος"),
    ("مر سا نو لي كر فا", "يم را ند ما دي لا", " ن د ي ة"),
    ("王 李 张 陈 林 黄 周 吴", "小 明 美 伟 芳 海 雨 文 志", " 华 丽 强 英"),
    ("Nur Aha Siti Raz Ham Zul", "a i ai ni li mi ra", " h n d zah man"),
    ("Šá Žo Ö Æ Ñu Ço Łę Ří", "ré nö là ší čo dę vå", " k n š ż ø"),
)

LETTERS = "abcdefghijklmnopqrstuvwxyz"

UPPER = LETTERS.upper()


def pseudo(rng: random.Random) -> str:
    """Return a made-up lower-case word of one to four syllables."""
    count = rng.choice((1, 1, 2, 2, 2, 2, 3, 3, 4) if rng.random() < 0.3 else (1, 2, 2, 2, 3))
    pick = rng.choice
    text = "".join([pick(ONSETS) + pick(VOWELS) for _ in range(count)]) + pick(CODAS)
    return text if len(text) > 2 else text + "ra"


def noun(rng: random.Random) -> str:
    """Return a noun, real or made up."""
    return rng.choice(NOUNS) if rng.random() < 0.65 else pseudo(rng)


def word(rng: random.Random) -> str:
    """Return any word, real or made up."""
    return pseudo(rng) if rng.random() < 0.35 else rng.choice(rng.choice((NOUNS, NOUNS, ADJECTIVES, VERBS)))


def label(rng: random.Random) -> str:
    """Return a noun phrase of one or two words, the name of a thing."""
    roll = rng.random()
    if roll < 0.5:
        return noun(rng)
    return (rng.choice(ADJECTIVES) if roll < 0.75 else noun(rng)) + " " + noun(rng)


def foreign(rng: random.Random) -> str:
    """Return a made-up name in another alphabet or with diacritics."""
    first, middle, last = rng.choice(SCRIPTS)
    middles = middle.split()
    return (
        rng.choice(first.split())
        + "".join(rng.choice(middles) for _ in range(rng.choice((0, 1, 1, 2))))
        + rng.choice(last.split())
    )


def name(rng: random.Random) -> str:
    """Return a first name."""
    roll = rng.random()
    return (
        rng.choice(REAL_NAMES) if roll < 0.25 else foreign(rng) if roll < 0.35 else pseudo(rng).capitalize()
    )


def person(rng: random.Random) -> str:
    """Return a person's name, sometimes with a surname or a title."""
    roll = rng.random()
    if roll < 0.45:
        return name(rng)
    if roll < 0.92:
        return name(rng) + " " + pseudo(rng).capitalize()
    return rng.choice(("Dr. ", "Ms. ", "Mr. ", "Prof. ")) + pseudo(rng).capitalize()


def place(rng: random.Random) -> str:
    """Return a place, real or made up."""
    roll = rng.random()
    if roll < 0.25:
        return rng.choice(REAL_PLACES)
    if roll < 0.32:
        return foreign(rng)
    text = pseudo(rng).capitalize()
    if roll < 0.8:
        return text
    return (
        rng.choice(("Port ", "New ", "San ", "Lake ", "Fort ")) + text
        if roll < 0.9
        else text + " " + rng.choice(("City", "Falls", "Bay", "Hill"))
    )


def style(text: str, form: str) -> str:
    """Join the words of `text` as an identifier: snake, camel, pascal or flat."""
    parts = text.split()
    if form == "snake":
        return "_".join(parts)
    if form == "flat":
        return "".join(parts)
    joined = "".join(part[:1].upper() + part[1:] for part in parts)
    return joined if form == "pascal" else joined[:1].lower() + joined[1:]


def split(identifier: str) -> str:
    """Return an identifier's words in lower case, apart."""
    spaced = "".join(" " + c.lower() if c.isupper() else c for c in identifier.replace("_", " "))
    return " ".join(spaced.split())


def typo(rng: random.Random, text: str) -> str:
    """Swap, drop or double one letter in one longer word of `text`."""
    parts = text.split(" ")
    spots = [i for i, part in enumerate(parts) if len(part) > 3 and part.isalpha()]
    if not spots:
        return text
    spot = rng.choice(spots)
    old, at = parts[spot], rng.randrange(1, len(parts[spot]) - 1)
    parts[spot] = rng.choice(
        (
            old[:at] + old[at + 1] + old[at] + old[at + 2 :],
            old[:at] + old[at + 1 :],
            old[:at] + old[at] + old[at:],
        )
    )
    return " ".join(parts)
