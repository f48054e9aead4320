"""Training data of nano: endless, seeded, from open distributions.

`world` reads the tables, `draw` draws words and values, `tools` and `asking` make tools and requests, `phrasing`
the manners around them, the modules named `…_skills` whole conversations, and `dialect` rewrites tool schemas.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .chain_skills import dependent, parallel
from .conversation import Draft, lengthen, number_calls, others, size, system
from .dialect import translate
from .draw import Draw, Level
from .memory_skills import copy, identity, memory
from .route_skills import route
from .text_skills import extract, passage
from .tool_skills import answer, call, lacking, missing, no_tool, wanted
from .tools import SEARCH, Tool, offer
from .world import TRAINING, World

__all__ = [
    "LEVELS",
    "SKILLS",
    "TRAINING",
    "Example",
    "Level",
    "World",
    "example",
    "examples",
    "lessons",
    "skills",
]


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


# Skills that can be practised on any offer of tools, those on one text, and on how many requests each is used.
PRACTISED = (call, answer, parallel, missing, no_tool)
QUESTIONED = (route, extract, passage, memory)
# What a model learns late is shown more often in lessons than `examples` has it.
EMPHASIS = {"missing": 1.5, "no_tool": 1.7, "route": 1.5}
TRIES = 10  # to make a conversation that is short enough
REQUESTS: dict[Level, int] = {"short": 4, "medium": 6, "full": 8}


def lessons(
    seed: int, mix: Mapping[Level, float] | None = None, world: World = TRAINING
) -> Iterator[list[Example]]:
    """Yield lists of examples without end: a single one, or several requests to the same tools or text.

    A trainer reads what the requests share only once, and a model that must answer eight requests from one offer
    of tools learns to choose. Skills come in the shares that `examples` gives them, but for those of
    `EMPHASIS`.
    """
    rng = random.Random(seed)
    levels, shares = zip(*(mix or {"full": 1.0}).items(), strict=True)
    while True:
        level = rng.choices(levels, shares)[0]
        weights = {name: weight * EMPHASIS.get(name, 1.0) for name, weight in skills(level).items()}
        if level not in REQUESTS:
            single = example(rng, level=level, skill=pick(rng, weights), world=world)
            yield [replace(single, tools=translate(rng, single.tools))]
            continue
        practised = {m.__name__: weights.pop(m.__name__) for m in PRACTISED if m.__name__ in weights}
        for maker in QUESTIONED:
            weights[maker.__name__] /= REQUESTS[level]
        skill = pick(rng, {**weights, "practice": sum(practised.values()) / REQUESTS[level]})
        d = Draw(rng, world, level)
        yield practice(d, practised) if skill == "practice" else questions(d, skill)


def pick(rng: random.Random, weights: Mapping[str, float]) -> str:
    """Draw a skill by weight."""
    return rng.choices(list(weights), list(weights.values()))[0]


def questions(d: Draw, skill: str) -> list[Example]:
    """Make requests on one text, or to one offer of labels; a single one where the skill has no more."""
    draft = drafted(d, skill)
    schemas, made = translate(d.rng, shuffled(d.rng, draft)), [draft]
    if draft.again:
        more = [replace(draft, messages=draft.again()) for _ in range(REQUESTS[d.level] - 1)]
        made += [each for each in more if size(each) <= BOUNDS[d.level][1]]
    return [finished(skill, d.level, each, schemas) for each in made]


def practice(d: Draw, weights: Mapping[str, float]) -> list[Example]:
    """Make requests to one offer of tools, each with its own skill and its own wanted tool."""
    d.head = system(d)
    low, high = BOUNDS[d.level]
    while True:
        tools = offer(d, [lacking(d) if d.chance(0.3) else wanted(d)], others(d))
        if size(Draft([], tools)) < high * 0.6:
            break
    schemas = translate(d.rng, shuffled(d.rng, Draft([], tools)))
    made: list[Example] = []
    while len(made) < REQUESTS[d.level]:
        first = d.choice(tools)
        turn = [first, *(tool for tool in tools if tool is not first)]
        pool = {name: weight for name, weight in weights.items() if feasible(name, turn)}
        skill = pick(d.rng, pool)
        drafts = (MAKERS[skill](d, turn) for _ in range(TRIES))
        if draft := next((draft for draft in drafts if size(draft) <= high), None):
            made.append(finished(skill, d.level, draft, schemas))
    return made


def feasible(skill: str, tools: list[Tool]) -> bool:
    """Tell whether a skill can be practised on these tools, the first of them wanted."""
    required = [param for param in tools[0].params if param.required]
    if skill == "missing":
        return bool(required and tools[0].family.missing)
    if skill == "no_tool":
        return not any(tool.family.key.startswith(SEARCH) for tool in tools)
    return skill != "parallel" or bool(required)
