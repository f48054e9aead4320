"""Lessons: several requests to the same tools or text, as a model is taught."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from . import tools as toolbox
from .asking import draw_values
from .chain_skills import parallel
from .conversation import Draft, before, calls, others, request, size, system
from .dialect import translate
from .draw import Draw, Level
from .making import BOUNDS, MAKERS, Example, drafted, example, finished, pick, shuffled, skills
from .memory_skills import memory
from .route_skills import route
from .text_skills import extract, passage
from .tool_skills import answer, call, lacking, missing, no_tool, wanted
from .tools import SEARCH, STYLES, Tool, build, group, offer
from .world import TRAINING, World

# What a lesson may be: examples of a level, choosing among tools under plain names, sending messages on, or
# looking things up in what was written or told.
Course = Level | Literal["pointing", "choosing", "routing", "reading"]
# Skills that can be practised on any offer of tools, those on one text, and on how many requests each is used.
PRACTISED = (call, answer, parallel, missing, no_tool)
QUESTIONED = (route, extract, passage, memory)
# What a model learns late is shown more often in lessons than `examples` has it.
EMPHASIS = {"missing": 1.5, "no_tool": 1.7, "route": 1.8, "extract": 2.0, "passage": 2.5, "memory": 1.8}
TRIES = 10  # to make a conversation that is short enough
PLAIN = 1.5  # of `World.own_names`: three names in four are the tool's own words alone
CHOICE_TOKENS = 700
POINTED = 12  # requests to one offer of tools
LOOKED_UP = ("extract", "extract", "passage", "passage", "memory")
CHOICES = {"call": 8.0, "no_tool": 1.0, "missing": 1.0}
REQUESTS: dict[Level, int] = {"short": 4, "medium": 6, "full": 8}


def lessons(
    seed: int, mix: Mapping[Course, float] | None = None, world: World = TRAINING
) -> Iterator[list[Example]]:
    """Yield lists of examples without end: a single one, or several requests to the same tools or text.

    A trainer reads what the requests share only once, and a model that must answer eight requests from one offer
    of tools learns to choose. Skills come in the shares that `examples` gives them, but for those of
    `EMPHASIS`.
    """
    rng = random.Random(seed)
    courses, shares = zip(*(mix or {"full": 1.0}).items(), strict=True)
    while True:
        level = rng.choices(courses, shares)[0]
        if level in ("choosing", "pointing"):
            yield (choosing if level == "choosing" else pointing)(rng, world)
            continue
        if level in ("routing", "reading"):
            skill = "route" if level == "routing" else rng.choice(LOOKED_UP)
            yield questions(Draw(rng, world, rng.choice(tuple(REQUESTS))), skill)
            continue
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
    high = BOUNDS[d.level][1]
    while True:
        tools = offer(d, [lacking(d) if d.chance(0.3) else wanted(d)], others(d))
        if size(Draft([], tools)) < high * 0.6:
            break
    return requested(d, tools, weights, high, REQUESTS[d.level])


def choosing(rng: random.Random, world: World) -> list[Example]:
    """Make requests to two to five tools under names that say what they do, each request to another tool."""
    d, tools = told_apart(rng, world, (2, 2, 3, 3, 4, 5))
    return requested(d, tools, CHOICES, CHOICE_TOKENS, 8)


def pointing(rng: random.Random, world: World) -> list[Example]:
    """Make requests to three to six tools that take no arguments: all there is to learn is the choice."""
    d, tools = told_apart(rng, world, (3, 4, 5, 6), bare)
    schemas = translate(d.rng, shuffled(d.rng, Draft([], [bare(tool) for tool in tools])))
    made = []
    for _ in range(POINTED):
        tool = d.choice(tools)
        asked = request(d, tool, draw_values(d, tool, 0.1))
        made.append(finished("call", d.level, Draft([*before(d), asked, calls((bare(tool), {}))]), schemas))
    return made


def told_apart(
    rng: random.Random, world: World, counts: Sequence[int], shown: Callable[[Tool], Tool] = lambda tool: tool
) -> tuple[Draw, list[Tool]]:
    """Build one of `counts` tools under names that say what they do, no two for the same requests."""
    d = Draw(rng, replace(world, own_names=PLAIN), "short" if rng.random() < 0.4 else "medium")
    d.head = system(d)
    form, offered = d.choice(STYLES), dict[str, Tool]()
    while not 1 < len(offered) or size(Draft([], [shown(t) for t in offered.values()])) > CHOICE_TOKENS * 0.6:
        families = [toolbox.pick(d, made=0.2)]
        for _ in range(d.choice(counts) - 1):  # half of the others have to do with the same things
            families.append(toolbox.near(d, families[0]) if d.chance(0.5) else toolbox.pick(d, made=0.2))
        apart = {group(family): family for family in families}.values()
        offered = {tool.name: tool for tool in (build(d, family, form) for family in apart)}
    return d, list(offered.values())


def bare(tool: Tool) -> Tool:
    """Return the tool without its parameters."""
    function = tool.schema["function"]
    function = {**function, "parameters": {"type": "object", "properties": {}, "required": []}}
    return replace(tool, params=(), names={}, schema={**tool.schema, "function": function})


def requested(
    d: Draw, tools: list[Tool], weights: Mapping[str, float], high: int, count: int
) -> list[Example]:
    """Make `count` requests to one offer of tools, each of at most `high` tokens with its offer."""
    schemas = translate(d.rng, shuffled(d.rng, Draft([], tools)))
    made: list[Example] = []
    while len(made) < count:
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
