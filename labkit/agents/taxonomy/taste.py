"""Learning: a customer whose taste nobody knows (a bandit with five arms), and a recommender that finds out."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Discrete

from labkit.agents.taxonomy.episode import World

GENRES = ("news", "music", "sport", "film", "science")
VALUES = np.array([1.0, 1.5, 2.0, 1.2, 0.8])  # what a click earns


class Tastes(World):
    """Recommend one of `GENRES` (action 0 to 4), `limit` times. Percept: always 0. Reward: its value if clicked.

    `chances` of a click are drawn at a reset; with `drift`, they change places after every `drift` steps.
    """

    def __init__(self, drift: int = 0, limit: int = 600) -> None:
        self.drift, self.limit = drift, limit
        self.action_space, self.observation_space = Discrete(len(GENRES)), Discrete(1)

    def _begin(self) -> None:
        self.chances, self.regret = self.np_random.uniform(0.05, 0.6, len(GENRES)), 0.0

    def _act(self, action: int) -> tuple[float, bool]:
        worth = self.chances * VALUES
        self.regret = float(worth.max() - worth[action])
        clicked = self.np_random.random() < self.chances[action]
        if self.drift and (self.steps + 1) % self.drift == 0:
            self.chances = self.np_random.permutation(self.chances)
        return clicked * float(VALUES[action]), False

    def _percept(self) -> int:
        return 0

    def _info(self) -> dict[str, Any]:
        return {"regret": self.regret, "chances": self.chances.copy()}


class Learner:
    """Estimate what each genre earns; recommend the best one or, with probability `epsilon`, any.

    An estimate is the mean of its rewards. With `forget`, the newest always counts at least that share.
    """

    def __init__(self, epsilon: float = 0.1, forget: float = 0.0, seed: int = 0) -> None:
        self.epsilon, self.forget, self.dice = epsilon, forget, np.random.default_rng(seed)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.estimates, self.counts = np.zeros(len(GENRES)), np.zeros(len(GENRES), int)

    def __call__(self, percept: int) -> int:
        """Return the genre to recommend."""
        explores = self.dice.random() < self.epsilon
        return int(self.dice.integers(len(GENRES)) if explores else self.estimates.argmax())

    def learn(self, action: int, reward: float) -> None:
        """Move the estimate toward the reward."""
        self.counts[action] += 1
        step = max(1 / self.counts[action], self.forget)
        self.estimates[action] += step * (reward - self.estimates[action])
