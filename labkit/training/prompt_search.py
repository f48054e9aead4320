"""Find a better prompt without touching a weight: try candidates on rewards, keep the better half, try harder.

Successive halving (Jamieson and Talwalkar, 2016): each round gives half as many prompts twice as many tasks.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

from labkit.errors import OptionInvalid

Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class Trial:
    """Keep what a prompt earned: its mean reward over so many tasks."""

    prompt: str
    reward: float
    tasks: int


def edited(base: str, edits: Sequence[str], most: int = 2) -> list[str]:
    """Return a base prompt, and the base with every choice of up to `most` edits (sentences) behind it."""
    chosen = [pick for count in range(most + 1) for pick in combinations(edits, count)]
    return list(dict.fromkeys(" ".join(filter(None, (base, *pick))) for pick in chosen))


def search(
    candidates: Sequence[str],
    tasks: Sequence[Kind],
    reward: Callable[[str, Kind], float],
    *,
    first: int = 4,
    seed: int = 0,
) -> list[Trial]:
    """Return a trial for each prompt, the best first; those that lasted longest were tried on most tasks.

    `reward(prompt, task)` asks a model and judges its reply: nobody needs to know the right one. The first round
    gives each prompt `first` tasks. Raises `OptionInvalid` where a prompt or a task is wanting.
    """
    if not candidates or not tasks or first < 1:
        what = f"{len(candidates)} prompts, {len(tasks)} tasks, first={first}"
        raise OptionInvalid(f"nothing to search: {what}", fix="give at least one of each")
    drawn = random.Random(seed).sample(list(tasks), len(tasks))
    earned: dict[str, list[float]] = {prompt: [] for prompt in candidates}
    left, count = list(earned), first
    while True:
        for prompt in left:
            done = len(earned[prompt])
            earned[prompt] += [float(reward(prompt, task)) for task in drawn[done:count]]
        left.sort(key=lambda prompt: -sum(earned[prompt]) / len(earned[prompt]))
        if len(left) == 1 or count >= len(drawn):
            break
        left, count = left[: (len(left) + 1) // 2], min(2 * count, len(drawn))
    trials = [Trial(prompt, sum(each) / len(each), len(each)) for prompt, each in earned.items()]
    return sorted(trials, key=lambda trial: (-trial.tasks, -trial.reward))
