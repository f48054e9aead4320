"""Model-based: a house seen one square at a time, and a vacuum cleaner that draws a map of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete
from numpy.typing import NDArray

from labkit.agents.taxonomy.episode import World
from labkit.agents.taxonomy.route import Place, drawn, neighbours, search

WALL, CLEAN, DIRTY = 0, 1, 2
SIGNS = "#.*"


class House(World):
    """Clean four rooms. Percept: what lies north, east, south and west: wall (0), clean (1) or dirty floor (2).

    Action: move north, east, south, west (0 to 3); entering a square cleans it. Reward: 1 for a dirty square, −0.05 for
    the step. With probability `slip` the wheels slip: the cleaner stays where it is, and is not told.
    """

    def __init__(self, width: int = 12, height: int = 8, slip: float = 0.0, limit: int = 1000) -> None:
        self.size, self.slip, self.limit = (width, height), slip, limit
        self.action_space, self.observation_space = Discrete(4), MultiDiscrete([3, 3, 3, 3])

    def _begin(self) -> None:
        (width, height), draw = self.size, self.np_random.integers
        x, y = int(draw(3, width - 3)), int(draw(2, height - 2))  # the inner walls, with a door in each arm
        rooms = {(i, j) for i in range(width) for j in range(height) if i != x and j != y}
        doors = {(x, draw(y)), (x, draw(y + 1, height)), (draw(x), y), (draw(x + 1, width), y)}
        self.floor = {at: CLEAN + int(self.np_random.random() < 0.3) for at in sorted(rooms | doors)}
        self.at: Place = (0, 0)
        self.floor |= {self.at: CLEAN, (width - 1, height - 1): DIRTY}

    def _act(self, action: int) -> tuple[float, bool]:
        ahead = neighbours(self.at)[action]
        if ahead in self.floor and self.np_random.random() >= self.slip:
            self.at = ahead
        cleaned, self.floor[self.at] = self.floor[self.at] == DIRTY, CLEAN
        return cleaned - 0.05, DIRTY not in self.floor.values()

    def _percept(self) -> NDArray[np.int64]:
        return np.array([self.floor.get(place, WALL) for place in neighbours(self.at)])

    def _info(self) -> dict[str, Any]:
        return {"at": self.at, "dirty": sum(what == DIRTY for what in self.floor.values())}

    def render(self) -> str:
        """Return the house in signs: A agent, * dirt, # wall."""
        signs = {at: SIGNS[self.floor.get(at, WALL)] for at in np.ndindex(self.size)}
        return drawn(signs | {self.at: "A"})


class Mapper:
    """Remember every square that was seen; go to the nearest one that is dirty or has neighbours not seen yet."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the map. The place where it stands is (0, 0) from now on."""
        self.at: Place = (0, 0)
        self.seen = {self.at: CLEAN}

    def __call__(self, percept: NDArray[np.int64]) -> int:
        """Note what is seen, and return the next direction."""
        self.seen |= dict(zip(neighbours(self.at), percept.tolist(), strict=True)) | {self.at: CLEAN}
        path, _ = search(self.at, self._is_new, lambda place: self.seen.get(place, WALL) != WALL)
        if not path:  # nothing is left to do, and yet it is asked: the map must be wrong
            self.reset()
            return self(percept)
        direction, self.at = neighbours(self.at).index(path[1]), path[1]
        return direction

    def _is_new(self, place: Place) -> bool:
        return self.seen[place] == DIRTY or any(near not in self.seen for near in neighbours(place))

    def render(self) -> str:
        """Return the map that it has in mind, in the signs of the house."""
        return drawn({at: SIGNS[what] for at, what in self.seen.items()} | {self.at: "A"})
