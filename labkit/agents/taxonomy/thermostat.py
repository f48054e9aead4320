"""Simple reflex: a room to keep warm by looking at what is measured now, and at nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from labkit.agents.taxonomy.episode import World

TARGET, OUTSIDE, WATER = 20.0, 5.0, 60.0  # °C; the last is a hot radiator's
GIVES, LOSES = 0.004, 1 / 300  # K a minute, for each K between radiator and room, room and outside
LAG, SWITCH = 5.0, 2.0  # minutes of a radiator's delay; a switch costs as much as a minute 2 K off target


class Room(World):
    """Keep a room at `TARGET` for `limit` minutes. Percept: measured °C, and whether the heating is on.

    Action: heating off (0) or on (1). Reward: minus the degrees off target, and minus `SWITCH` for a switch. The
    radiator warms up late and cools down late. `noise` is the thermometer's standard deviation, in K.
    """

    def __init__(self, noise: float = 0.0, limit: int = 600) -> None:
        self.noise, self.limit = noise, limit
        self.action_space = Discrete(2)
        self.observation_space = Box(np.array([-50, 0], np.float32), np.array([100, 1], np.float32))

    def _begin(self) -> None:
        self.temperature = self.radiator = TARGET - 2
        self.on, self.switches = False, 0

    def _act(self, action: int) -> tuple[float, bool]:
        switched, self.on = bool(action) != self.on, bool(action)
        self.radiator += ((WATER if self.on else self.temperature) - self.radiator) / LAG
        warmed = GIVES * (self.radiator - self.temperature)
        self.temperature += warmed - LOSES * (self.temperature - OUTSIDE)
        self.switches += switched
        return -abs(self.temperature - TARGET) - SWITCH * switched, False

    def _percept(self) -> NDArray[np.float32]:
        measured = self.temperature + self.noise * self.np_random.standard_normal()
        return np.array([np.clip(measured, -50, 100), self.on], np.float32)

    def _info(self) -> dict[str, Any]:
        return {"temperature": self.temperature, "switches": self.switches}
