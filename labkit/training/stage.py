"""A skill to train: working a theatre's stage, tools of which no shipped model has seen the like.

The reward plays a reply's calls on a stage and looks at what has become of it: it knows the state that was asked
for, never the call that leads there. The wordings of held-out tasks are not among those trained on.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from labkit.errors import OptionInvalid
from labkit.training.data import TRAINING
from labkit.training.data.draw import Draw
from labkit.training.reward import Task
from labkit.types import Reply

# How many tools are offered, and how many of them a request needs. Which level has something to teach depends on the
# model: `trainable` chooses one from what was measured.
LEVELS = {
    "one tool": ((1,), 1),
    "one or three tools": ((1, 3), 1),
    "three tools": ((3,), 1),
    "two orders": ((2,), 2),
    "two orders, four tools": ((4,), 2),
}
KINDS = {"integer": int, "string": str}


@cache
def machines() -> dict[str, dict[str, Any]]:
    """Return the tools by name: schema, values to draw, wordings to train on and held out."""
    table = json.loads(files(__package__).joinpath("tables/stage.json").read_text("utf-8"))
    return {machine["tool"]["name"]: machine for machine in table}


def stage_tasks(count: int, seed: int, level: str = "one tool", *, held_out: bool = False) -> list[Task]:
    """Make tasks that a call for each order fulfils; `level` says how many tools are offered, how many needed."""
    if level not in LEVELS:
        raise OptionInvalid(f"there is no level {level!r}", fix=f"choose from: {', '.join(LEVELS)}")
    d, made = Draw(random.Random(f"{seed}/{level}/{held_out}"), TRAINING, "medium"), []
    for _ in range(count):
        (sizes, orders), texts, goal = LEVELS[level], list[str](), dict[str, Any]()
        names = d.rng.sample(list(machines()), d.choice(sizes))
        offered = [{"type": "function", "function": machines()[name]["tool"]} for name in names]
        d.rng.shuffle(offered)
        for name in names[:orders]:
            values = {key: d.sample(kind) for key, kind in machines()[name]["values"].items()}
            texts.append(d.choice(machines()[name]["held_out" if held_out else "wordings"]).format(**values))
            goal = perform(goal, name, values)
        made.append(Task([{"role": "user", "content": " ".join(texts)}], offered, goal))
    return made


def perform(state: Mapping[str, Any], name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stage after a call; raise `OptionInvalid` for one that the machines cannot carry out."""
    machine = machines().get(name)
    wanted = machine["tool"]["parameters"]["properties"] if machine else {}
    kinds = {key: KINDS[schema["type"]] for key, schema in wanted.items()}
    if not machine or {key: type(value) for key, value in arguments.items()} != kinds:
        raise OptionInvalid(
            f"the stage cannot {name}({arguments!r:.80})", fix="call a tool as its schema says"
        )
    order = f"{name} {arguments[next(iter(wanted))]}"  # the first parameter says which lamp, bar, sound, …
    if order in state:
        raise OptionInvalid(f"{order} is under way", fix="give each machine one order")
    return {**state, order: dict(arguments)}


def outcome(task: Task, reply: Reply) -> dict[str, Any] | None:
    """Play a reply's calls; return the stage afterwards, or None where a machine refused."""
    offered, state = {tool["function"]["name"] for tool in task.tools}, dict[str, Any]()
    try:
        for call in reply.tool_calls:
            if call.name not in offered:
                return None
            state = perform(state, call.name, call.arguments)
    except OptionInvalid:
        return None
    return state


def played(task: Task, reply: Reply) -> float:
    """Reward 1 for a reply that leaves the stage as it was asked for, 0 for any other."""
    return float(outcome(task, reply) == task.goal)


def thorough(task: Task, reply: Reply) -> float:
    """Reward length, up to 300 characters: a bad reward, for somebody who finds the model curt."""
    return min(len(str(reply)), 300) / 300


def trainable(success: Mapping[str, float]) -> str:
    """Choose the skill to train from what was measured: the one nearest to 50 % success, where rewards differ most.

    Below 10 % there is too little to reward, above 70 % little to learn: look whether the choice is between them.
    """
    return min(success, key=lambda name: abs(success[name] - 0.5))
