import hashlib
import itertools
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from labkit.training.data import EMPHASIS, LEVELS, Example, Level, example, examples, lessons, skills
from labkit.training.data.conversation import LETTERS, SIGNS
from labkit.training.data.teaching import POINTED
from labkit.training.heldout import worlds
from labkit.training.heldout.build import build

ROOT = Path(__file__).parents[2]
DATA = ROOT / "datasets" / "agent_eval"
TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}
LEAST, MOST = {"long": 900}, {"short": 160, "medium": 270, "long": 1_500}


def check_value(value: Any, schema: dict[str, Any], said: str) -> None:
    assert isinstance(value, TYPES[schema["type"]]), (value, schema)
    assert schema["type"] == "boolean" or not isinstance(value, bool)
    if "enum" in schema:
        assert value in schema["enum"]
    elif isinstance(value, str):
        assert value in said
    for item in value if isinstance(value, list) else ():
        check_value(item, schema["items"], said)
    if isinstance(value, dict):
        check_object(value, schema, said)


def check_object(value: dict[str, Any], schema: dict[str, Any], said: str) -> None:
    assert set(schema["required"]) <= set(value) <= set(schema["properties"])
    for name, item in value.items():
        check_value(item, schema["properties"][name], said)


def check(e: Example) -> None:
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in e.tools}
    assert len(schemas) == len(e.tools), "two tools of one name"
    assert all(isinstance(m["content"], str) for m in e.messages)
    assert all(m["content"] or "tool_calls" in m for m in e.messages), "an empty message"
    said, waiting = "", []
    for message in e.messages:
        for call in message.get("tool_calls", ()):
            check_object(json.loads(call["function"]["arguments"]), schemas[call["function"]["name"]], said)
            waiting.append(call["id"])
        if message["role"] == "tool":
            assert message["tool_call_id"] == waiting.pop(0)
        said += message["content"] + "\n"
    assert "{" not in "".join(m["content"] for m in e.messages if m["role"] == "user").replace('{"', "")
    assert not {"\x01", "\x02"} & set(said)


def length(e: Example) -> float:
    texts = [json.dumps(tool["function"]) for tool in e.tools]
    called = [call["function"] for m in e.messages for call in m.get("tool_calls", ())]
    said = "".join(m["content"] for m in e.messages) + "".join(c["name"] + c["arguments"] for c in called)
    words = 1.35 * len(LETTERS.findall(said)) + 1.4 * len(SIGNS.findall(said))
    return 0.32 * len("".join(texts)) + words + 5 * len(e.messages) + 12 * len(called)


@pytest.mark.parametrize("level", LEVELS)
def test_examples_are_valid_and_of_their_levels_length(level: Level) -> None:
    for e in itertools.islice(examples(1, {level: 1.0}), 2_000):
        check(e)
        assert LEAST.get(level, 5) <= length(e) <= MOST.get(level, 1_500)
        assert level != "medium" or len(e.tools) <= 4


@pytest.mark.parametrize("level", LEVELS)
def test_every_skill_of_a_level_can_be_made_in_every_world(level: Level) -> None:
    for name, world in worlds().items():
        for skill in skills(level):
            made = [example(random.Random(i), level=level, skill=skill, world=world) for i in range(5)]
            assert {e.skill for e in made} == {skill}
            for e in made:
                if name != "names" or level != "short":
                    check(e)


def test_a_skill_that_a_level_lacks_is_named() -> None:
    with pytest.raises(ValueError, match="no skill 'copy' at level 'full'"):
        example(random.Random(1), skill="copy")


def test_the_same_seed_makes_the_same_examples_whatever_the_hash_seed() -> None:
    code = "import itertools; from labkit.training.data import examples, LEVELS\n"
    code += "for e in itertools.islice(examples(7, dict.fromkeys(LEVELS, 1.0)), 200): print(e)"
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1] and runs[0]


def test_the_evaluation_data_are_what_the_builder_makes(tmp_path: Path) -> None:
    build(tmp_path)
    for made in sorted(tmp_path.iterdir()):
        digest = hashlib.sha256(made.read_bytes()).hexdigest()
        found = hashlib.sha256((DATA / made.name).read_bytes()).hexdigest()
        assert digest == found, f"{made.name} is stale: python -m labkit.training.heldout.build"


def test_the_evaluation_has_enough_cases_of_every_split_and_skill() -> None:
    lines = "".join(file.read_text("utf-8") for file in sorted(DATA.glob("*.jsonl"))).split("\n")[:-1]
    cases = [json.loads(line) for line in lines]
    assert len({case["id"] for case in cases}) == len(cases)
    for split in worlds():
        called = [c for c in cases if c["split"] == split and "tool_calls" in c["expected"]]
        assert len(called) >= 300
    for skill in skills("full"):
        assert sum(case["skill"] == skill for case in cases) >= 100
    assert sum(file.stat().st_size for file in DATA.glob("*.jsonl")) < 3_000_000


@pytest.mark.parametrize("level", LEVELS)
def test_lessons_are_valid_and_share_their_tools(level: Level) -> None:
    made = list(itertools.islice(lessons(2, {level: 1.0}), 400))
    assert made == list(itertools.islice(lessons(2, {level: 1.0}), 400))
    for lesson in made:
        assert all(e.tools == lesson[0].tools for e in lesson)
        for e in lesson:
            check(e)
            assert length(e) <= 1.25 * MOST.get(level, 1_500)  # other dialects' schemas are longer


def test_choosing_is_taught_on_one_offer_of_several_tools_under_plain_names() -> None:
    called, offered = Counter[str](), Counter[int]()
    for lesson in itertools.islice(lessons(4, {"choosing": 1.0}), 300):
        assert len(lesson) == 8 and all(e.tools == lesson[0].tools for e in lesson)
        assert len({json.dumps(e.messages[0]) for e in lesson if e.messages[0]["role"] == "system"}) <= 1
        names = [tool["function"]["name"] for tool in lesson[0].tools]
        offered[len(names)] += 1
        for e in lesson:
            wanted = [c["function"]["name"] for m in e.messages for c in m.get("tool_calls", ())]
            assert set(wanted) <= set(names)
            called.update(f"place {names.index(name)} of {len(names)}" for name in wanted)
    assert set(offered) == {2, 3, 4, 5}, offered
    assert 0.9 < called["place 0 of 3"] / called["place 2 of 3"] < 1.1, called


def test_pointing_teaches_the_choice_alone() -> None:
    for lesson in itertools.islice(lessons(4, {"pointing": 1.0}), 100):
        names = [tool["function"]["name"] for tool in lesson[0].tools]
        assert len(lesson) == POINTED and 2 <= len(names) <= 6
        assert not any(tool["function"]["parameters"]["properties"] for tool in lesson[0].tools)
        for e in lesson:
            (call,) = e.messages[-1]["tool_calls"]
            assert call["function"]["name"] in names and call["function"]["arguments"] == "{}"


def test_lessons_teach_skills_in_the_shares_of_examples() -> None:
    """Which skill is taught how often must not depend on whether tools are shared."""
    for level in ("medium", "full"):
        counts = Counter(
            e.skill for lesson in itertools.islice(lessons(3, {level: 1.0}), 3_000) for e in lesson
        )
        weights = {skill: w * EMPHASIS.get(skill, 1.0) for skill, w in skills(level).items()}
        for skill, weight in weights.items():
            share, meant = counts[skill] / counts.total(), weight / sum(weights.values())
            assert 0.6 * meant - 0.01 < share < 1.5 * meant + 0.01, (level, skill, share, meant)
