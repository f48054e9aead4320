"""Tool families: what one is, and the parser of their tables."""

from __future__ import annotations

from dataclasses import dataclass

from .tables import blocks


@dataclass(frozen=True)
class Param:
    """A parameter: its slot in the wordings, possible names, descriptions, type and values."""

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


def cut(text: str, mark: str) -> tuple[str, ...]:
    """Split at a mark and strip the parts."""
    return tuple(part.strip() for part in text.split(mark) if part.strip())


def read_param(line: str) -> Param:
    """Parse `! slot = type kind : names : descriptions : fragments`."""
    fields = [field.strip() for field in line[1:].split(" : ")]
    slot, _, spec = fields[0].partition(" = ")
    kind, _, values = spec.partition(" ")
    fragments = tuple(fields[3].split(" | ")) if len(fields) > 3 else ()
    return Param(
        slot.strip(), kind, values, cut(fields[1], ","), cut(fields[2], "|"), line[0] == "!", fragments
    )


def read_family(block: str) -> Family:
    """Parse one block of a table; see `tables` for the format."""
    lines = [line.strip() for line in block.strip().splitlines() if line.strip()]
    head, verbs, nouns = (lines[0] + " : : ").split(" : ")[:3]
    rows = {mark: tuple(line[1:].strip() for line in lines[1:] if line[0] == mark) for mark in "#>-="}
    params = tuple(read_param(line) for line in lines[1:] if line[0] in "!?")
    results = tuple(
        tuple((key, kind) for key, _, kind in (f.partition(" ") for f in cut(row, ","))) for row in rows["="]
    )
    return Family(
        head.strip(), cut(verbs, ","), cut(nouns, ","), rows["#"], params, rows[">"], rows["-"], results
    )


DOMAINS = ("home", "life", "money", "shop", "work")
FAMILIES = tuple(read_family(block) for domain in DOMAINS for block in blocks(f"families_{domain}"))
