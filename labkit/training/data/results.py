"""Results of tools and the sentences that answer from them."""

from __future__ import annotations

import json
import random
from typing import Any

from . import kinds, phrasing, words
from .tools import Tool, listed


def result(rng: random.Random, tool: Tool) -> tuple[str, str]:
    """Draw a result's text and the sentence that answers from it."""
    roll = rng.random()
    if roll < 0.05:
        text = kinds.phrase(rng)
        return json.dumps({"error": text}, ensure_ascii=False), f"The tool reports an error: {text}."
    row = rng.choice(tool.family.results)
    form = rng.choice(("snake", "snake", "camel"))
    data = {words.style(key.replace("_", " "), form): kinds.sample(rng, kind) for key, kind in row}
    if roll < 0.2:
        item = next(iter(data.values()))
        if not isinstance(item, list):
            return str(item), f"The result is {item}."
    return json.dumps(data, ensure_ascii=False), speak(data)


def speak(data: dict[str, Any]) -> str:
    """Say a result in the one canonical way: `The a is 1, the b is 2 and the c is 3.`"""
    parts = []
    for key, item in data.items():
        if isinstance(item, list):
            parts.append(f"the {words.split(key)} are {listed(item) if item else 'none'}")
        else:
            parts.append(f"the {words.split(key)} is {item}")
    return phrasing.capital(listed(parts)) + "."
