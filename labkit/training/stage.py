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

# How many tools are offered. If a model is too good at one tool and too bad at three, the mixture is in between.
LEVELS = {"one tool": (1,), "one or three tools": (1, 3), "three tools": (3,)}
LEAST, MOST = 0.10, 0.70
KINDS = {"integer": int, "string": str}


@cache
def machines() -> dict[str, dict[str, Any]]:
    """Return the tools by name: schema, values to draw, wordings to train on and held out."""
    table = json.loads(files(__package__).joinpath("tables/stage.json").read_text("utf-8"))
    return {machine["tool"]["name"]: machine for machine in table}


def stage_tasks(count: int, seed: int, level: str = "one tool", *, held_out: bool = False) -> list[Task]:
    """Make tasks that one call fulfils; `level` says how many tools are offered."""
    if level not in LEVELS:
        raise OptionInvalid(f"there is no level {level!r}", fix=f"choose from: {', '.join(LEVELS)}")
    d, made = Draw(random.Random(f"{seed}/{level}/{held_out}"), TRAINING, "medium"), []
    for _ in range(count):
        wanted, *others = d.rng.sample(list(machines()), d.choice(LEVELS[level]))
        machine = machines()[wanted]
        offered = [{"type": "function", "function": machines()[name]["tool"]} for name in (wanted, *others)]
        d.rng.shuffle(offered)
        values = {name: d.sample(kind) for name, kind in machine["values"].items()}
        text = d.choice(machine["held_out" if held_out else "wordings"]).format(**values)
        made.append(Task([{"role": "user", "content": text}], offered, perform({}, wanted, values)))
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


def played(task: Task, reply: Reply) -> float:
    """Reward 1 for a reply that leaves the stage as it was asked for, 0 for any other."""
    offered, state = {tool["function"]["name"] for tool in task.tools}, dict[str, Any]()
    try:
        for call in reply.tool_calls:
            if call.name not in offered:
                return 0.0
            state = perform(state, call.name, call.arguments)
    except OptionInvalid:
        return 0.0
    return float(state == task.goal)


def thorough(task: Task, reply: Reply) -> float:
    """Reward length, up to 300 characters: a bad reward, for somebody who finds the model curt."""
    return min(len(str(reply)), 300) / 300


def trainable(success: Mapping[str, float]) -> str:
    """Choose the skill to train from what was measured: the one nearest to 40 % success.

    Below 10 % there is too little to reward, above 70 % little to learn: look whether the choice is between them.
    """
    return min(success, key=lambda name: abs(success[name] - (LEAST + MOST) / 2))
