"""What examples are drawn from: tool families, words and wordings, read from text tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files

OWN_NAMES = 0.9
Lists = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Param:
    """A parameter: its slot in the wordings, type and kind of values, possible names, descriptions."""

    slot: str
    type: str
    kind: str
    names: tuple[str, ...]
    texts: tuple[str, ...]
    required: bool = True
    fragments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """Tools that do the same thing, under many names, with many wordings of the request."""

    key: str
    verbs: tuple[str, ...]
    nouns: tuple[str, ...]
    texts: tuple[str, ...]
    params: tuple[Param, ...]
    requests: tuple[str, ...]
    missing: tuple[str, ...]
    results: tuple[tuple[tuple[str, str], ...], ...]
    made_up: bool = False


@dataclass(frozen=True)
class World:
    """All that an example is drawn from.

    `lists` holds words and wordings by name, `naming` those that names of tools and arguments are made of.
    A share `own_names` of those names speaks of what the tool does; the others are words at random.
    """

    families: tuple[Family, ...]
    lists: Lists
    naming: Lists
    own_names: float = OWN_NAMES


def cut(text: str, mark: str) -> tuple[str, ...]:
    """Split at a mark and strip the parts."""
    return tuple(part.strip() for part in text.split(mark) if part.strip())


def read_blocks(package: str, name: str) -> list[str]:
    """Return the blocks of a table, each without the `@` it begins with."""
    text = files(package).joinpath("tables", f"{name}.txt").read_text("utf-8")
    return ("\n" + text).split("\n@")[1:]


def read_lists(package: str, *names: str) -> dict[str, tuple[str, ...]]:
    """Read tables of lists: `@name` and a line an item, or `@name,` and items apart by commas."""
    lists: dict[str, tuple[str, ...]] = {}
    for block in (block for name in names for block in read_blocks(package, name)):
        head, _, body = block.partition("\n")
        if head.endswith(","):
            lists[head[:-1]] = tuple(word.replace("-", "") for word in cut(body.replace("\n", " "), ","))
        else:
            lists[head] = tuple(repeated(line for line in body.splitlines() if line.strip()))
    return lists


def repeated(lines: Iterable[str]) -> Iterable[str]:
    """Yield lines, one that begins with `3* ` three times."""
    for line in lines:
        times = re.match(r"(\d+)\* ", line)
        text = line[times.end() if times else 0 :].replace("\\n", "\n")
        yield from [text] * int(times[1] if times else 1)


def read_param(line: str) -> Param:
    """Parse `! slot = type kind : names : descriptions : fragments`."""
    head, names, texts, fragments = (line[1:] + " : ").split(" : ")[:4]
    slot, _, spec = head.partition(" = ")
    form, _, kind = spec.strip().partition(" ")
    return Param(
        slot.strip(), form, kind, cut(names, ","), cut(texts, "|"), line[0] == "!", cut(fragments, " | ")
    )


def read_family(block: str) -> Family:
    """Parse one block of a table; see tables/README.md for the format. One that adds wordings is headed by its key."""
    lines = [line.strip() for line in block.strip().splitlines() if line.strip()]
    key, verbs, nouns = [*lines[0].split(" : "), "", ""][:3]
    rows = {mark: tuple(line[1:].strip() for line in lines[1:] if line[0] == mark) for mark in "#>-="}
    params = tuple(read_param(line) for line in lines[1:] if line[0] in "!?")
    pairs = [[field.partition(" ")[::2] for field in cut(row, ",")] for row in rows["="]]
    results = tuple(tuple(row) for row in pairs)
    return Family(key, cut(verbs, ","), cut(nouns, ","), rows["#"], params, rows[">"], rows["-"], results)


def read_families(package: str, *names: str) -> tuple[Family, ...]:
    """Read tables of tool families."""
    return tuple(read_family(block) for name in names for block in read_blocks(package, name))


def widened(families: Iterable[Family], added: Iterable[Family]) -> Iterable[Family]:
    """Yield families with further descriptions and requests of the same keys."""
    more = {family.key: family for family in added}
    for family in families:
        if other := more.get(family.key):
            texts, requests = family.texts + other.texts, family.requests + other.requests
            family = replace(family, texts=texts, requests=requests, missing=family.missing + other.missing)
        yield family


DOMAINS = ("home", "life", "money", "shop", "work")
LISTS = read_lists(__package__, "words", "values", "wordings", "made_up", "facts", "routes")
# What the evaluation's split of seen tools draws from. It stays as it is, so that figures of one version can be
# compared with those of the next; what is added for training has tables of its own.
EXAMINED = World(read_families(__package__, *(f"families_{name}" for name in DOMAINS)), LISTS, LISTS)
FURTHER = read_families(__package__, "families_town", "families_craft", "families_wide")
MORE = read_lists(__package__, "more_wordings", "more_made_up", "more_facts", "more_routes")
TAUGHT = LISTS | {name: LISTS.get(name, ()) + lines for name, lines in MORE.items()}
ADDED = read_families(__package__, *(f"more_{name}" for name in DOMAINS))
TRAINING = World((*widened(EXAMINED.families, ADDED), *FURTHER), TAUGHT, TAUGHT)
