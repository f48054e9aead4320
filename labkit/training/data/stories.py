"""Texts put together from sentences."""

from __future__ import annotations

import random

from . import phrasing

KINDS = (
    "person",
    "place",
    "id",
    "integer",
    "word",
    "title",
    "date",
    "time",
    "email",
    "phone",
    "decimal",
    "label",
    "code",
)


def story(rng: random.Random, sentences: list[str], idle: int, marks: tuple[str, ...] = (". ",)) -> str:
    """Join sentences to a text, with `idle` sentences among them."""
    parts = [*sentences, *(phrasing.lead(rng).rstrip(".") for _ in range(idle))]
    rng.shuffle(parts)
    mark = rng.choice(marks)
    return mark.join(phrasing.capital(part) if mark[0] in ".\n" else part for part in parts) + (
        "." if mark[0] != "\n" else ""
    )
