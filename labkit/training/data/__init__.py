"""Training data of nano: endless, seeded, from open distributions.

`world` reads the tables, `draw` draws words and values, `tools` and `asking` make tools and requests, `phrasing`
the manners around them, and the modules named `…_skills` whole conversations.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .chain_skills import dependent, parallel
from .conversation import Draft, lengthen, number_calls, size
from .draw import Draw, Level
from .memory_skills import copy, identity, memory
from .route_skills import route
from .text_skills import extract, passage
from .tool_skills import answer, call, missing, no_tool
from .world import TRAINING, World

__all__ = ["LEVELS", "SKILLS", "TRAINING", "Example", "Level", "World", "example", "examples", "skills"]


@dataclass(frozen=True)
class Example:
    """A conversation with the tools it may use; all its assistant turns are to be learned."""

    skill: str
    level: Level
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]


WITH_TOOLS = (call, answer, parallel, dependent, missing, no_tool)
ON_TEXTS = (route, extract, passage, memory, identity, copy)
MAKERS: dict[str, Callable[[Draw], Draft]] = {maker.__name__: maker for maker in WITH_TOOLS + ON_TEXTS}
SKILLS = tuple(MAKERS)
LEVELS: tuple[Level, ...] = ("short", "medium", "full", "long")
WEIGHTS = (40, 13, 6, 5, 7, 7, 6, 6, 5, 4, 1, 0)
SHORT_WEIGHTS = (36, 12, 0, 0, 4, 3, 5, 15, 8, 4, 1, 10)  # two calls do not fit into a short one
# Least and most tokens of a level, as `size` estimates them.
BOUNDS: dict[Level, tuple[int, int]]
BOUNDS = {"short": (8, 135), "medium": (20, 240), "full": (20, 1_200), "long": (960, 1_290)}


def skills(level: Level) -> dict[str, int]:
    """Return the skills that are taught at a level, with their weights."""
    weights = SHORT_WEIGHTS if level == "short" else WEIGHTS
    return {skill: weight for skill, weight in zip(SKILLS, weights, strict=True) if weight}


def example(
    rng: random.Random, *, level: Level = "full", skill: str | None = None, world: World = TRAINING
) -> Example:
    """Make one example, of a given skill or of one drawn by weight.

    Short ones have up to about 150 tokens, medium ones 250 and one or two tools, full ones up to six tools, and
    long ones 900–1,500 tokens.
    """
    taught = skills(level)
    chosen = skill or rng.choices(list(taught), list(taught.values()))[0]
    if chosen not in taught:
        raise ValueError(f"no skill {chosen!r} at level {level!r}; there are {', '.join(taught)}")
    d = Draw(rng, world, level)
    low, high = BOUNDS[level]
    while True:
        draft = MAKERS[chosen](d)
        if level == "long":
            lengthen(d, draft, low, high - 100)
        if low <= size(draft) <= high:
            break
    number_calls(draft.messages)
    tools = [tool.schema for tool in draft.tools]
    rng.shuffle(tools)
    return Example(chosen, level, draft.messages, tools)


def examples(
    seed: int, mix: Mapping[Level, float] | None = None, world: World = TRAINING
) -> Iterator[Example]:
    """Yield examples without end, the same for the same seed; `mix` is the share of each level (default: full)."""
    rng = random.Random(seed)
    levels, shares = zip(*(mix or {"full": 1.0}).items(), strict=True)
    while True:
        yield example(rng, level=rng.choices(levels, shares)[0], world=world)
