"""Common English words, first names and places, from `tables/words.txt`."""

from __future__ import annotations

from .tables import blocks


def _words(block: str) -> list[str]:
    return [word.strip() for word in block.replace("\n", " ").split(",")]


_lists = {name: _words(body) for name, _, body in (b.partition("\n") for b in blocks("words"))}
NOUNS, VERBS, ADJECTIVES = _lists["nouns"], _lists["verbs"], _lists["adjectives"]
REAL_NAMES, REAL_PLACES = _lists["names"], _lists["places"]
