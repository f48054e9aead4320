"""Examples: one conversation of a given skill and level at a time."""

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


@dataclass(frozen=True)
class Example:
    """A conversation with the tools it may use; all its assistant turns are to be learned."""

    skill: str
    level: Level
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]


WITH_TOOLS = (call, answer, parallel, dependent, missing, no_tool)
ON_TEXTS = (route, extract, passage, memory, identity, copy)
MAKERS: dict[str, Callable[..., Draft]] = {maker.__name__: maker for maker in WITH_TOOLS + ON_TEXTS}
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
    chosen = skill or pick(rng, taught)
    if chosen not in taught:
        raise ValueError(f"no skill {chosen!r} at level {level!r}; there are {', '.join(taught)}")
    draft = drafted(Draw(rng, world, level), chosen)
    return finished(chosen, level, draft, shuffled(rng, draft))


def drafted(d: Draw, skill: str) -> Draft:
    """Make a conversation of the length that its level asks for."""
    low, high = BOUNDS[d.level]
    while True:
        draft = MAKERS[skill](d)
        if d.level == "long":
            lengthen(d, draft, low, high - 100)
        if low <= size(draft) <= high:
            return draft


def shuffled(rng: random.Random, draft: Draft) -> list[dict[str, Any]]:
    """Return the schemas of a draft's tools in any order, so that the wanted one is not the first."""
    schemas = [tool.schema for tool in draft.tools]
    rng.shuffle(schemas)
    return schemas


def finished(skill: str, level: Level, draft: Draft, tools: list[dict[str, Any]]) -> Example:
    """Number the calls of a draft and make an example of it."""
    number_calls(draft.messages)
    return Example(skill, level, draft.messages, tools)


def examples(
    seed: int, mix: Mapping[Level, float] | None = None, world: World = TRAINING
) -> Iterator[Example]:
    """Yield examples without end, the same for the same seed; `mix` is the share of each level (default: full)."""
    rng = random.Random(seed)
    levels, shares = zip(*(mix or {"full": 1.0}).items(), strict=True)
    while True:
        yield example(rng, level=rng.choices(levels, shares)[0], world=world)


def pick(rng: random.Random, weights: Mapping[str, float]) -> str:
    """Draw a skill by weight."""
    return rng.choices(list(weights), list(weights.values()))[0]
