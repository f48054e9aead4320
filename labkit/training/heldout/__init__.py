"""What training never sees: tool families, names, wordings and words for evaluation.

Nothing in `labkit.training` may import this package (import-linter), and `tests/training/test_leak.py` compares
it with all that training draws from.
"""

from __future__ import annotations

from dataclasses import replace

from labkit.training.data import EXAMINED, World
from labkit.training.data.draw import put
from labkit.training.data.world import Family, Param, read_families, read_lists

WORDS = read_lists(__name__, "words")
WORDINGS = read_lists(__name__, "wordings")
FAMILIES = read_families(__name__, "families")
# Lists that are names rather than wordings.
NAMING = ("verb rows", "setting verbs", "natural", "finders", "holders")


Held = dict[str, Family]


def read_held() -> Held:
    """Read what is held out of each family of training, by its key; a `-` stands for no name."""
    families = read_families(__name__, "requests")
    return {f.key: replace(f, params=tuple(map(without_dash, f.params))) for f in families}


def without_dash(param: Param) -> Param:
    """Return a held-out parameter with no name where a dash stands."""
    return replace(param, names=tuple(name for name in param.names if name != "-"))


def reworded(family: Family, held: Family) -> Family:
    """Return a family of training with held-out wordings of its requests."""
    parts = {param.slot: param for param in held.params}

    def rephrased(param: Param) -> Param:
        fragments = parts[param.slot].fragments
        return replace(param, fragments=fragments or own_forms(param)) if param.fragments else param

    def own_forms(param: Param) -> tuple[str, ...]:
        return tuple(put(form, l=param.names[0]) for form in WORDINGS["labelled"])

    params = tuple(rephrased(param) for param in family.params)
    return replace(
        family, texts=held.texts or family.texts, requests=held.requests, missing=held.missing, params=params
    )


def renamed(family: Family, held: Family) -> Family:
    """Return a family of training with held-out names for the tool and, where there are any, its arguments."""
    parts = {param.slot: param for param in held.params}
    params = tuple(replace(p, names=parts[p.slot].names or p.names) for p in family.params)
    return replace(family, verbs=held.verbs, nouns=held.nouns, params=params)


def worlds() -> dict[str, World]:
    """Return the world of each split of the evaluation."""
    known, held = dict(EXAMINED.lists), read_held()
    values = {name: WORDS[name] for name in ("names", "places")}
    topics = {name for name in known if is_topic(name)}
    reworded_lists = {name: lines for name, lines in WORDINGS.items() if name in topics or not is_topic(name)}
    other_topics = {name: lines for name, lines in WORDINGS.items() if name not in topics}
    told = known | reworded_lists
    elsewhere = {name: lines for name, lines in known.items() if name not in topics} | other_topics
    naming = {**known, **WORDS, **{name: WORDINGS[name] for name in NAMING}}
    handoffs = {"handoff verbs": WORDINGS["handoff verbs"]}
    rephrased = tuple(reworded(family, held[family.key]) for family in EXAMINED.families)
    other_names = tuple(renamed(family, held[family.key]) for family in EXAMINED.families)
    return {
        "seen": replace(EXAMINED, lists={**known, **values}),
        "phrasings": World(rephrased, told, {**known, "natural": WORDINGS["natural"]}),
        "names": World(other_names, known | handoffs, naming),
        "families": World(FAMILIES, {**elsewhere, **WORDS}, naming),
    }


def is_topic(name: str) -> bool:
    """Tell whether a list holds messages on a topic to send them on by."""
    return name.startswith("topic ") and " : " in name
