"""What training never sees: tool families, names, wordings and words for evaluation.

Nothing in `labkit.training` may import this package (import-linter), and `tests/training/test_leak.py` compares
it with all that training draws from.
"""

from __future__ import annotations

from dataclasses import replace

from labkit.training.data import TRAINING, World
from labkit.training.data.draw import put
from labkit.training.data.world import Family, Lists, Param, read_blocks, read_families, read_lists

WORDS = read_lists(__name__, "words")
WORDINGS = read_lists(__name__, "wordings")
FAMILIES = read_families(__name__, "families")
# Lists that are names rather than wordings.
NAMING = ("verb rows", "setting verbs", "natural", "finders", "holders")


def reworded(family: Family, requests: Lists) -> Family:
    """Return a family of training with held-out wordings of its requests."""

    def rephrased(param: Param) -> Param:
        return replace(param, fragments=tuple(put(form, l=param.names[0]) for form in WORDINGS["labelled"]))

    params = tuple(rephrased(param) for param in family.params)
    return replace(family, requests=requests[family.key], missing=(), params=params)


def read_requests() -> Lists:
    """Read the held-out requests for the families of training, by the family's key."""
    blocks = [block.splitlines() for block in read_blocks(__name__, "requests")]
    return {block[0]: tuple(line[2:] for line in block[1:] if line) for block in blocks}


def worlds() -> dict[str, World]:
    """Return the world of each split of the evaluation."""
    known = dict(TRAINING.lists)
    values = {name: WORDS[name] for name in ("names", "places")}
    told = {name: lines for name, lines in known.items() if not name.startswith("topic ")} | WORDINGS
    naming = {**known, **WORDS, **{name: WORDINGS[name] for name in NAMING}}
    handoffs = {"handoff verbs": WORDINGS["handoff verbs"]}
    requests = read_requests()
    families = tuple(reworded(family, requests) for family in TRAINING.families)
    return {
        "seen": replace(TRAINING, lists={**known, **values}),
        "phrasings": World(families, told, {**known, "natural": WORDINGS["natural"]}),
        "names": World(TRAINING.families, known | handoffs, naming, own_names=0.0),
        "families": World(FAMILIES, {**told, **WORDS}, naming),
    }
