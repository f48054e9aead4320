"""Let an agent act in a world, step by step: the loop that every kind of agent shares.

A world is a Gymnasium environment. An agent is called with what it perceives and returns an action. That is all that
a simple reflex agent can do. One that remembers also has `reset()`, and one that learns has `learn(action, reward)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from labkit.errors import OptionInvalid

Agent = Callable[[Any], Any]


class World(gym.Env[Any, int]):
    """Be an environment whose episodes last `limit` steps at most; a subclass has what `reset` and `step` call."""

    limit: int

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; the same seed begins the same one."""
        super().reset(seed=seed)
        self.steps = 0
        self._begin()
        return self._percept(), self._info()

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act; return the percept, the reward, whether the world ended, whether time is up, and the info."""
        reward, ended = self._act(int(action))
        self.steps += 1
        return self._percept(), float(reward), bool(ended), self.steps >= self.limit, self._info()


class Step(NamedTuple):
    """Hold what the agent did, what came of it, and whether the world ended with it (arrived, all clean)."""

    action: int
    reward: float
    info: dict[str, Any]
    ended: bool


def play(world: World, agent: Agent, seed: int = 0) -> Iterator[Step]:
    """Yield an episode's steps as they happen; raise `OptionInvalid` on an action that the world does not have."""
    percept, _ = world.reset(seed=seed)
    getattr(agent, "reset", lambda: None)()
    learn, over = getattr(agent, "learn", lambda action, reward: None), False
    while not over:
        chosen = agent(percept)
        action = int(chosen) if isinstance(chosen, int | np.integer | np.bool_) else -1
        if not world.action_space.contains(action):
            raise OptionInvalid(f"the agent chose {chosen!r:.60}", fix=f"choose from {world.action_space}")
        percept, reward, ended, late, info = world.step(action)
        learn(action, reward)
        yield Step(action, reward, info, ended)
        over = ended or late
