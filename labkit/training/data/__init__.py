"""Training data of nano: endless, seeded, from open distributions."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from . import identity as talk
from .skills import Draft, answer, call, missing, no_tool, system
from .skills_chain import dependent, parallel
from .skills_extract import extract
from .skills_memory import copy, memory
from .skills_passage import passage
from .skills_route import route
from .tools import offer

__all__ = ["SKILLS", "Example", "example", "examples"]


@dataclass(frozen=True)
class Example:
    """A conversation with the tools it may use; all its assistant turns are to be learned."""

    skill: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]


def identity(rng: random.Random, short: bool) -> Draft:
    """Say who nano is, greet and chat."""
    messages = [] if short else system(rng)
    for _ in range(1 if short else rng.choice((1, 1, 2, 3))):
        messages += talk.turn(rng)
    return messages, offer(rng, [], rng.choice((1, 2, 3))) if not short and rng.random() < 0.5 else []


MAKERS: dict[str, Callable[[random.Random, bool], Draft]] = {
    "call": call,
    "answer": answer,
    "parallel": parallel,
    "dependent": dependent,
    "missing": missing,
    "no_tool": no_tool,
    "route": route,
    "extract": extract,
    "passage": passage,
    "memory": memory,
    "identity": identity,
    "copy": copy,
}
SKILLS = tuple(MAKERS)
WEIGHTS = (40, 13, 6, 5, 7, 7, 6, 6, 5, 4, 1, 0)
SHORT_WEIGHTS = (36, 12, 1, 1, 4, 3, 5, 15, 8, 4, 1, 10)


def example(rng: random.Random, *, short: bool = False, skill: str | None = None) -> Example:
    """Make one example, of a given skill or of one drawn by weight; `short` ones are for the curriculum."""
    chosen = skill or rng.choices(SKILLS, SHORT_WEIGHTS if short else WEIGHTS)[0]
    messages, tools = MAKERS[chosen](rng, short)
    tools = list(tools)
    rng.shuffle(tools)
    return Example(chosen, messages, [tool.schema for tool in tools])


def examples(seed: int, *, short: float = 0.15) -> Iterator[Example]:
    """Yield examples without end, the same for the same seed; `short` is the share of short ones."""
    rng = random.Random(seed)
    while True:
        yield example(rng, short=rng.random() < short)
