"""Rewards and the stage they are measured on: what a reply does, how a reward is gamed, and how that is seen."""

import json
from importlib.resources import files

import pytest

from labkit.errors import OptionInvalid, TrainingFailed
from labkit.training.heldout import FAMILIES
from labkit.training.reward import Task, gamed, judge, reply_in, reply_of
from labkit.training.stage import LEVELS, machines, perform, played, stage_tasks, thorough, trainable
from labkit.types import ToolCall


def calls(*pairs: tuple[str, dict[str, object]]) -> str:
    written = (json.dumps({"name": name, "arguments": arguments}) for name, arguments in pairs)
    return "\n".join(f"<tool_call>\n{each}\n</tool_call>" for each in written)


def right(task: Task) -> list[tuple[str, dict[str, object]]]:
    return [(order.split(" ")[0], values) for order, values in task.goal.items()]


def test_what_a_model_wrote_is_read_as_engines_read_it() -> None:
    reply = reply_of("Gladly. " + calls(("dim_lamp", {"lamp": "A1", "percent": 5})))
    assert reply.text == "Gladly." and reply.tool_calls == (
        ToolCall("dim_lamp", {"lamp": "A1", "percent": 5}),
    )
    assert reply_of("<tool_call>\n{broken").tool_calls == ()
    assert reply_in(reply.message).tool_calls == reply.tool_calls
    assert reply_in({"role": "assistant", "content": None}).text == ""
    for wrong in (None, {"tool_calls": [{"function": {"name": "x", "arguments": "{"}}]}, {"tool_calls": [1]}):
        with pytest.raises(TrainingFailed, match="is no reply"):
            reply_in(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("level", LEVELS)
def test_the_right_call_is_rewarded_and_others_are_not(level: str) -> None:
    for task in stage_tasks(40, 1, level):
        wanted = right(task)
        assert len(wanted) == LEVELS[level][1]
        assert played(task, reply_of(calls(*wanted))) == 1.0
        (name, values), *rest = wanted
        first = next(iter(values))
        assert not rest or played(task, reply_of(calls(*rest))) == 0.0
        for text in (
            "Done!",
            "",
            calls((name, {**values, "more": 1})),
            calls((name, {first: values[first]})),
            calls((name, {**values, first: [1]})),
            calls(("no_such_tool", values)),
            calls((name, values), (name, values)),
            calls((name, values), ("make_fog", {"machine": "Z0", "seconds": 3})),
        ):
            assert played(task, reply_of(text)) == 0.0, text


def test_a_tool_that_is_not_offered_cannot_be_used() -> None:
    task = next(t for t in stage_tasks(9, 1) if t.tools[0]["function"]["name"] != "dim_lamp")
    values: dict[str, object] = {"lamp": "A1", "percent": 5}
    stolen = Task(task.messages, task.tools, perform({}, "dim_lamp", values))
    assert played(stolen, reply_of(calls(("dim_lamp", values)))) == 0.0


def test_held_out_tasks_are_worded_in_other_ways_and_offer_as_many_tools() -> None:
    for machine in machines().values():
        assert not set(machine["wordings"]) & set(machine["held_out"])
        assert all(f"{{{name}}}" in text for text in machine["held_out"] for name in machine["values"])
    for level, (counts, _) in LEVELS.items():
        assert {len(task.tools) for task in stage_tasks(60, 2, level, held_out=True)} == set(counts)
    texts = [[task.messages[0]["content"] for task in stage_tasks(300, 3, held_out=h)] for h in (False, True)]
    assert not set(texts[0]) & set(texts[1])
    assert stage_tasks(5, 3) == stage_tasks(5, 3) != stage_tasks(5, 4)
    with pytest.raises(OptionInvalid, match="no level 'hard'"):
        stage_tasks(1, 1, "hard")


def test_no_model_has_met_these_tools() -> None:
    known = {f"{v} {n}" for f in FAMILIES for v in f.verbs for n in f.nouns}
    tables = files("labkit.training").joinpath("data", "tables")
    text = "".join(p.read_text("utf-8") for p in tables.iterdir() if p.name.startswith("families"))
    for name in machines():
        assert name.replace("_", " ") not in known
        verb, noun = name.split("_")
        assert not any(
            line.startswith("@") and verb in line and noun in line for line in text.splitlines()
        ), name


def test_the_skill_to_train_has_successes_and_room() -> None:
    assert trainable({"a": 0.9, "b": 0.45, "c": 0.0}) == "b"
    assert trainable({"a": 0.12, "b": 0.95}) == "a"


def test_the_bad_reward_counts_characters_whatever_they_say() -> None:
    task = stage_tasks(1, 1)[0]
    found = [thorough(task, reply_of("x" * n)) for n in (0, 30, 300, 3000)]
    assert found == [0, 0.1, 1, 1]
    assert thorough(task, reply_of(calls(*right(task)))) < 0.3


def test_a_reward_must_be_a_finite_number() -> None:
    task, reply = stage_tasks(1, 1)[0], reply_of("hi")
    assert judge(lambda *_: True, task, reply) == 1.0
    for wrong in (float("nan"), float("inf"), None, "1"):
        with pytest.raises(TrainingFailed, match="a reward of"):
            judge(lambda *_, w=wrong: w, task, reply)  # type: ignore[misc]


def log(rewards: list[float], success: list[float]) -> list[dict[str, float]]:
    entries = [{"step": 0.0, "success": success[0]}]
    entries += [{"step": i + 1.0, "reward": reward} for i, reward in enumerate(rewards)]
    entries[-1] |= {"success": success[-1]}
    return entries


@pytest.mark.parametrize(
    ("rewards", "success", "found"),
    [
        ([0.2, 0.3, 0.5, 0.8, 0.9], [0.4, 0.0], True),
        ([0.2, 0.3, 0.5, 0.8, 0.9], [0.4, 0.4], True),
        ([0.2, 0.3, 0.5, 0.8, 0.9], [0.4, 0.8], False),
        ([0.5, 0.5, 0.4, 0.5, 0.5], [0.4, 0.3], False),
        ([0.9, 0.5, 0.4, 0.3, 0.2], [0.4, 0.1], False),
    ],
)
def test_a_gamed_reward_rises_without_what_is_held_out(
    rewards: list[float], success: list[float], found: bool
) -> None:
    said = gamed(log(rewards, success))
    assert bool(said) is found
    assert not found or ("from 0.20 to 0.90" in said and "40% succeeded before" in said)


def test_a_log_without_two_looks_says_nothing() -> None:
    assert gamed([]) == gamed([{"step": 0, "success": 0.5}, {"step": 1, "reward": 1.0}]) == ""
