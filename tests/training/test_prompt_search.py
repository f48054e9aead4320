"""Prompts are searched on rewards: the best survives, the others cost little."""

import random
from collections import Counter

import pytest

from labkit.errors import OptionInvalid
from labkit.training.prompt_search import edited, search

TRUE = {"bad": 0.1, "poor": 0.3, "fair": 0.5, "good": 0.9}


def noisy(prompt: str, task: int) -> float:
    return float(random.Random(f"{prompt}{task}").random() < TRUE[prompt])


def test_edits_are_combined_behind_the_base() -> None:
    assert edited("Do.", ["A", "B", "C"]) == [
        "Do.",
        "Do. A",
        "Do. B",
        "Do. C",
        "Do. A B",
        "Do. A C",
        "Do. B C",
    ]
    assert edited("", ["A", "A"]) == ["", "A", "A A"]
    assert edited("Do.", []) == ["Do."]


def test_the_best_prompt_wins_and_was_tried_on_most_tasks() -> None:
    trials = search(list(TRUE), range(64), noisy, first=16, seed=1)
    assert trials[0].prompt == "good" and trials[0].reward > 0.7
    assert [trial.tasks for trial in trials] == sorted((trial.tasks for trial in trials), reverse=True)
    assert len(trials) == 4 and trials[-1].tasks == 16


def test_the_same_seed_asks_the_same_tasks_once_each() -> None:
    asked: Counter[tuple[str, int]] = Counter()

    def count(prompt: str, task: int) -> float:
        asked[prompt, task] += 1
        return noisy(prompt, task)

    assert search(list(TRUE), range(30), count, seed=5) == search(list(TRUE), range(30), noisy, seed=5)
    assert set(asked.values()) == {1}
    first = {task for prompt, task in asked if prompt == "bad"}
    assert first <= {task for prompt, task in asked if prompt == "good"}


def test_one_prompt_or_few_tasks_end_at_once() -> None:
    assert search(["good"], range(3), noisy)[0].tasks == 3
    assert {trial.tasks for trial in search(list(TRUE), range(2), noisy, first=8)} == {2}


@pytest.mark.parametrize(("prompts", "tasks", "first"), [([], [1], 1), (["a"], [], 1), (["a"], [1], 0)])
def test_nothing_to_search_is_named(prompts: list[str], tasks: list[int], first: int) -> None:
    with pytest.raises(OptionInvalid, match="nothing to search"):
        search(prompts, tasks, lambda *_: 0.0, first=first)
