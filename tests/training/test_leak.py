"""Nothing that is held out occurs in training: templates and names are compared, not whole cases."""

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from labkit.training.data import EXAMINED, LEVELS, TRAINING, World, examples
from labkit.training.data.draw import MARKS
from labkit.training.data.world import Family
from labkit.training.heldout import FAMILIES, WORDINGS, WORDS, read_held, worlds

DATA = Path(__file__).parents[2] / "datasets" / "agent_eval"
# Words that tie a sentence together and say nothing about a tool.
SMALL = frozenset("a an and at by for from in of on or out the to up with number code id name title".split())
# Lists that hold values and patterns of values, not wordings or names.
ANSWERS = {"your name is", "you live in", "you work at"}  # the assistant's, which never change
CATALOGUES = frozenset(("fact kinds", "setting verbs", "types", "passage keys"))


def variants(template: str) -> Iterator[str]:
    """Yield a template with every choice decided."""
    found = re.search(r"\(([^()]*\|[^()]*)\)", template)
    if not found:
        yield template
        return
    for choice in found[1].split("|"):
        yield from variants(template[: found.start()] + choice + template[found.end() :])


def normalised(templates: Iterable[str]) -> set[str]:
    """Return templates in lower case, without slots, digits and signs."""
    texts = set()
    for template in templates:
        columns = [column for column in template.split(" : ") if " : " not in template or "{" in column]
        parts = [part for column in columns for part in [column, *column.split("|")]]
        for text in itertools.chain.from_iterable(map(variants, parts)):
            texts.add(" ".join(re.findall(r"[^\W\d_]+", re.sub(r"\{[^{}]*\}", " ", text.lower()))))
    return {text for text in texts if len(text.split()) > 1}


def wordings(world: World) -> set[str]:
    """Return all that a user, a description or a task may say in a world."""
    lists = [lines for name, lines in world.lists.items() if name not in CATALOGUES]
    families = [text for f in world.families for text in (*f.requests, *f.missing, *f.texts)]
    return normalised(itertools.chain(families, *lists))


def words(texts: Iterable[str]) -> set[str]:
    """Return the single words of texts, in lower case and without ties."""
    return set(re.findall(r"[^\W\d_]+", " ".join(texts).lower())) - SMALL


def names(families: Iterable[Family]) -> set[str]:
    """Return the names that tools may have, as words in lower case."""
    return {text.lower() for f in families for text in (*f.verbs, *f.nouns)}


TRAINING_NAMES = (
    names(TRAINING.families)
    | {word for name in ("nouns", "verbs", "adjectives") for word in TRAINING.lists[name]}
    | {verb for row in TRAINING.lists["verb rows"] for verb in row.split(",")}
)


def test_no_held_out_wording_is_one_of_training() -> None:
    held_out = normalised(itertools.chain(*WORDINGS.values()))
    families = (*FAMILIES, *read_held().values())
    held_out |= normalised(text for f in families for text in (*f.requests, *f.missing, *f.texts))
    assert held_out & wordings(TRAINING) <= ANSWERS


def test_what_is_examined_is_taught() -> None:
    taught = {family.key: family for family in TRAINING.families}
    for family in EXAMINED.families:
        assert (
            set(family.requests) <= set(taught[family.key].requests)
            and len(taught[family.key].requests) >= 25
        )
    assert all(set(lines) <= set(TRAINING.lists[name]) for name, lines in EXAMINED.lists.items())


def test_every_examined_family_is_evaluated_under_other_wordings_and_other_names() -> None:
    held = read_held()
    assert {f.key for f in EXAMINED.families} == held.keys()
    for family in EXAMINED.families:
        other = held[family.key]
        assert other.requests and other.verbs and other.nouns
        assert not set(other.verbs) & set(family.verbs) and not set(other.nouns) & set(family.nouns)
        for param, kept in zip(family.params, other.params, strict=True):
            assert param.slot == kept.slot
            assert not set(kept.names) & set(param.names), (family.key, param.slot)
            assert not set(kept.fragments) & set(param.fragments), (family.key, param.slot)


def test_no_held_out_tool_is_named_as_one_of_training() -> None:
    assert len(FAMILIES) >= 15
    assert not names(FAMILIES) & TRAINING_NAMES
    for family in FAMILIES:
        pairs = {f"{verb} {noun}" for verb in family.verbs for noun in family.nouns}
        assert all(words([pair]) - words(TRAINING_NAMES) for pair in pairs), family.key
    assert not {f.key.partition(".")[0] for f in FAMILIES} - {"search"} & {f.key for f in TRAINING.families}


def test_no_held_out_word_for_names_is_one_of_training() -> None:
    for name in ("nouns", "verbs", "adjectives", "names", "places"):
        assert not set(map(str.lower, WORDS[name])) & words([*TRAINING_NAMES, *TRAINING.lists[name]]), name
    rows = {verb for row in WORDINGS["verb rows"] for verb in row.split(",")}
    assert not rows & TRAINING_NAMES


def test_no_held_out_syllable_is_one_of_training() -> None:
    def syllables(lists: dict[str, tuple[str, ...]]) -> set[str]:
        return {onset + vowel for onset in lists["onsets"] for vowel in lists["vowels"]}

    assert not syllables(WORDS) & syllables(dict(TRAINING.lists))
    made_up = {syllable + coda for syllable in syllables(WORDS) for coda in WORDS["codas"]}
    assert not made_up & words([*TRAINING_NAMES, *TRAINING.lists["names"], *TRAINING.lists["places"]])


def test_the_worlds_of_the_evaluation_use_what_is_held_out() -> None:
    made = worlds()
    for split in ("phrasings", "families"):
        shared = {
            name
            for name, lines in made[split].lists.items()
            if lines == EXAMINED.lists.get(name) and any(" " in MARKS.sub("", line).strip() for line in lines)
        }
        assert not shared - {
            "found",
            "places",
            "phrase",
            "path",
            "hour",
            "person",
            "place",
            "day",
            "copy",
            "scripts",
            "types",
        }, split
    for split in ("names", "families"):
        assert made[split].naming["onsets"] == WORDS["onsets"]


def test_no_name_of_an_evaluated_tool_occurs_in_20_000_examples() -> None:
    held_out = set()
    for split in ("names", "families"):
        for line in (DATA / f"{split}.jsonl").read_text("utf-8").split("\n")[:-1]:
            held_out |= {tool["function"]["name"] for tool in json.loads(line)["tools"]}
    mix = {level: 0.02 if level == "long" else 1.0 for level in LEVELS}
    offered = {
        tool["function"]["name"] for e in itertools.islice(examples(3, mix), 20_000) for tool in e.tools
    }
    assert len(offered) > 10_000
    # Words set aside for one family may meet by chance in the name of another one's tool: a room to reserve.
    assert len(offered & held_out) <= len(held_out) / 1000
