"""Checks of lab 17, training agents."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean, pstdev
from typing import Any

from labkit.checks.core import Exercises, Wrong, require_function
from labkit.metrics.intervals import paired
from labkit.training.reward import Reward, Task, reply_of
from labkit.training.rollouts import Rollout, Turn, examples, only
from labkit.training.stage import machines, outcome, played, stage_tasks
from labkit.types import Reply

lab = Exercises("17")


def _written(name: str, arguments: dict[str, Any]) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def replies(task: Task) -> dict[str, Reply]:
    """Return replies to a task of one order by what they are: the right one, and others."""
    ((order, values),) = task.goal.items()
    name = order.split(" ")[0]
    right, last = _written(name, values), list(values)[-1]
    changed = {**values, last: values[last] + 1 if isinstance(values[last], int) else values[last] + "x"}
    other = next(n for n in machines() if n not in {tool["function"]["name"] for tool in task.tools})
    texts = {
        "the right call": right,
        "a call with a wrong value": _written(name, changed),
        "talk that says it is done": f"Done! I called {name} as you asked.",
        "silence": "",
        "the right call twice": f"{right}\n{right}",
        "the right call and a tool that is not there": f"{right}\n{_written(other, values)}",
        "a call without arguments": _written(name, {}),
    }
    return {what: reply_of(text) for what, text in texts.items()}


def _a_number(value: Any, what: str) -> float:
    if not isinstance(value, bool | int | float) or not math.isfinite(value):
        raise Wrong(f"{what} is given {value!r:.60}: a reward is a finite number, always")
    return float(value)


def _rewards_outcomes(reward: Reward) -> str:
    require_function(reward, "reward")
    for task in stage_tasks(12, 17, "one tool"):
        for what, reply in replies(task).items():
            paid, wanted = _a_number(reward(task, reply), what), played(task, reply)
            if paid != wanted:
                state = outcome(task, reply)
                raise Wrong(f"{what} is paid {paid:g}, not {wanted:g}: the stage is then {state}")
    return "it pays for what became of the stage, whatever the reply says"


q1 = lab.add(
    _rewards_outcomes,
    hints=(
        "outcome(task, reply) is the stage after the reply's calls, None where a machine refused; task.goal is the "
        "stage that was asked for.",
        "Compare the two, and make a number of it: float(True) is 1.0.",
    ),
    code="def reward(task, reply):\n    return float(outcome(task, reply) == task.goal)",
)


def team() -> list[Rollout]:
    """Return four rollouts of a team, made up: two that succeeded, one that failed, one that nobody judged."""
    found = []
    for place, (label, reward) in enumerate(
        (("billing", 1.0), ("sales", 0.0), ("technical", 1.0), ("sales", None))
    ):
        said = {"router": label, "specialist": f"Answer {place}."}
        asked = [{"role": "user", "content": f"Question {place}"}]
        told = {who: {"role": "assistant", "content": text} for who, text in said.items()}
        turns = tuple(Turn(who, asked, [], {}, reply) for who, reply in told.items())
        found.append(Rollout(f"rollout-{place + 1}", f"Question {place}", turns, reward))
    return found


def _routers_lessons(lessons: Callable[[list[Rollout]], Any]) -> str:
    require_function(lessons, "lessons")
    given = team()
    made = lessons([replace(rollout) for rollout in given])
    right = examples(only(given, "router"))
    if not isinstance(made, list) or not all(hasattr(one, "messages") for one in made):
        raise Wrong(f"return a list of examples, as examples() makes them, not {made!r:.60}")
    said = [one.messages[-1]["content"] for one in made]
    if any(text.startswith("Answer") for text in said):
        raise Wrong("the specialist's answers are in it: it would be trained, too")
    if "sales" in said:
        raise Wrong("'sales' is in it: that rollout failed, or nobody judged it")
    if said != [one.messages[-1]["content"] for one in right]:
        raise Wrong(f"the router's lessons are {len(right)}, not {said}")
    return "the router learns from the team's successes; the specialist stays as it is"


q2 = lab.add(
    _routers_lessons,
    hints=(
        'only(rollouts, "router") keeps that agent\'s turns; examples(rollouts) keeps what was rewarded.',
        "Put the one into the other.",
    ),
    code='def lessons(rollouts):\n    return examples(only(rollouts, "router"))',
)

GROUPS = ((1.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 1.0), (1.0, 1.0, 1.0, 1.0), (0.0, 0.0), (0.2, 0.4, 0.9))


def _baseline(advantages: Callable[[Sequence[float]], Any]) -> str:
    require_function(advantages, "advantages")
    for group in GROUPS:
        try:
            found = [float(value) for value in advantages(list(group))]
        except ZeroDivisionError as error:
            raise Wrong(
                f"{list(group)} divides by 0: where all are alike, nobody has an advantage"
            ) from error
        mean, spread = fmean(group), pstdev(group)
        right = [(value - mean) / spread if spread else 0.0 for value in group]
        if len(found) != len(group):
            raise Wrong(f"{len(group)} rewards have {len(group)} advantages, not {len(found)}")
        if all(math.isclose(a, b, abs_tol=1e-3) for a, b in zip(found, right, strict=True)):
            continue
        centred = [value - mean for value in group]
        if all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(found, centred, strict=True)):
            raise Wrong("that is the distance from the mean: divide it by the standard deviation")
        wanted = ", ".join(f"{value:.2f}" for value in right)
        given = ", ".join(f"{value:.2f}" for value in found)
        raise Wrong(f"of {list(group)} you make {given}; it is {wanted} (pstdev, not stdev)")
    return "above 0 is better than the other replies to the same prompt, and is made likelier"


q3 = lab.add(
    _baseline,
    hints=(
        "statistics.fmean(rewards) and statistics.pstdev(rewards) are mean and standard deviation.",
        "Where pstdev is 0 return 0 for each; `spread or 1` is a short way to write that.",
    ),
    code="def advantages(rewards):\n    mean, spread = fmean(rewards), pstdev(rewards)\n"
    "    return [(reward - mean) / (spread or 1) for reward in rewards]",
)

BEFORE = (1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0) * 10
PAIRS = {
    "learned": (BEFORE, (1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0) * 10),
    "unlearned": (BEFORE, (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0) * 10),
    "unclear": (BEFORE, (0.0, *BEFORE[1:-1], 1.0)),
}


def _judges(verdict: Callable[..., Any]) -> str:
    require_function(verdict, "verdict")
    few = (PAIRS["learned"][0][:6], (1.0, 1.0, 0.0, 1.0, 0.0, 1.0))
    for wanted, (before, after) in (*PAIRS.items(), ("unclear", few), ("unclear", (BEFORE[:8], BEFORE[:8]))):
        said = verdict(list(before), list(after))
        change, low, high = (100 * each for each in paired(before, after))
        if said != wanted:
            raise Wrong(
                f"{len(before)} tasks, {change:+.0f} points (95 % interval {low:+.0f} to {high:+.0f}) are {wanted!r}, "
                f"and you say {said!r:.40}"
            )
    return "a change counts where its interval leaves out 0"


q4 = lab.add(
    _judges,
    hints=(
        "change, low, high = paired(before, after)",
        'Above 0 as a whole (low > 0) is "learned", below 0 as a whole (high < 0) "unlearned".',
    ),
    code="def verdict(before, after):\n    _, low, high = paired(before, after)\n"
    '    return "learned" if low > 0 else "unlearned" if high < 0 else "unclear"',
)


def _cannot_be_gamed(mended: Reward) -> str:
    require_function(mended, "mended")
    for task in stage_tasks(6, 18, "one tool"):
        call = replies(task)["the right call"]
        long = [replace(call, text="word " * words) for words in (0, 4, 20)]
        paid = [_a_number(mended(task, reply), "a success") for reply in long]
        failed = [*replies(task).items(), ("a long story", reply_of("word " * 200))]
        most, who = max((_a_number(mended(task, r), what), what) for what, r in failed if not played(task, r))
        if most >= paid[0]:
            raise Wrong(f"{who} is paid {most:.2f}, a success without a word {paid[0]:.2f}: it can be gamed")
        if not paid[0] < paid[1] < paid[2]:
            told = ", ".join(f"{value:.2f}" for value in paid)
            raise Wrong(f"successes with 0, 4 and 20 words are paid {told}: more words should pay more")
    return "words pay only where the work is done, so that talk alone earns nothing"


q5 = lab.add(
    _cannot_be_gamed,
    hints=(
        "A failure must never be paid as much as a success, however long it is.",
        "played(task, reply) is 1 or 0: multiply by it.",
    ),
    code="def mended(task, reply):\n    return played(task, reply) * (1 + thorough(task, reply))",
)
