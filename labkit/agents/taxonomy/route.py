"""Goal-based: A* over a map of squares, a town whose map may be wrong, and a planner that may plan anew."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Any

import numpy as np
from gymnasium.spaces import Dict, Discrete, MultiBinary, MultiDiscrete

from labkit.agents.taxonomy.episode import World

Place = tuple[int, int]  # column and row, from the top left
DIRECTIONS = ("north", "east", "south", "west")


def neighbours(place: Place) -> tuple[Place, ...]:
    """Return the places north, east, south and west of this one."""
    x, y = place
    return (x, y - 1), (x + 1, y), (x, y + 1), (x - 1, y)


def search(
    start: Place,
    is_goal: Callable[[Place], bool],
    free: Callable[[Place], bool],
    estimate: Callable[[Place], float] = lambda place: 0,
) -> tuple[list[Place], int]:
    """Find a way over free places with A*: look first where steps so far + estimate are least.

    Return the way ([] if there is none) and how many places were looked at. It is a shortest way if no estimate is more
    than what is left. Source: Hart, Nilsson, Raphael, IEEE Trans. Systems Science and Cybernetics 4 (1968), 100–107.
    """
    steps, came, looked = {start: 0}, dict[Place, Place](), 0
    queue = [(estimate(start), 0, start)]
    while queue:
        _, minus, place = heappop(queue)
        if -minus > steps[place]:
            continue  # a shorter way to it was found since
        looked += 1
        if is_goal(place):
            path = [place]
            while path[-1] in came:
                path.append(came[path[-1]])
            return path[::-1], looked
        for near in filter(free, neighbours(place)):
            if 1 - minus < steps.get(near, math.inf):
                steps[near], came[near] = 1 - minus, place
                heappush(queue, (1 - minus + estimate(near), minus - 1, near))
    return [], looked


def shortest(start: Place, goal: Place, streets: Iterable[Place]) -> list[Place]:
    """Return a shortest way over these streets, or [] where there is none."""
    return search(start, goal.__eq__, set(streets).__contains__, lambda place: math.dist(place, goal))[0]


class Town(World):
    """Get from the top left to the bottom right. Percept: "place", "goal" and the printed "map" (1 is a street).

    Action: north, east, south, west (0 to 3); into a wall it stays. Reward: −1 a step. Up to `closed` streets of the
    map are closed, each on what would be the shortest way; the map does not show it.
    """

    def __init__(self, width: int = 14, height: int = 9, closed: int = 0, limit: int = 300) -> None:
        self.size, self.closed, self.limit = (width, height), closed, limit
        self.goal, place = (width - 1, height - 1), MultiDiscrete([width, height])
        self.observation_space = Dict({"place": place, "goal": place, "map": MultiBinary([height, width])})
        self.action_space = Discrete(4)

    def _begin(self) -> None:
        self.place, way = (0, 0), list[Place]()
        while not way:
            self.map = (self.np_random.random(self.size[::-1]) > 0.3).astype(np.int8)
            self.map[0, 0] = self.map[-1, -1] = 1
            self.streets: set[Any] = set(map(tuple, np.argwhere(self.map.T).tolist()))
            way = shortest(self.place, self.goal, self.streets)
        for _ in range(self.closed):
            shut = {way[self.np_random.integers(1, len(way) - 1)]}
            if detour := shortest(self.place, self.goal, self.streets - shut):
                self.streets, way = self.streets - shut, detour
        self.shortest = len(way) - 1

    def _act(self, action: int) -> tuple[float, bool]:
        ahead = neighbours(self.place)[action]
        self.place = ahead if ahead in self.streets else self.place
        return -1, self.place == self.goal

    def _percept(self) -> dict[str, Any]:
        return {"place": np.array(self.place), "goal": np.array(self.goal), "map": self.map.copy()}

    def _info(self) -> dict[str, Any]:
        return {"place": self.place, "shortest": self.shortest}

    def render(self) -> str:
        """Return the town in signs: A agent, G goal, x closed though the map shows a street, # wall."""
        signs = {(x, y): "x" if on_map else "#" for (y, x), on_map in np.ndenumerate(self.map)}
        return drawn(signs | dict.fromkeys(self.streets, ".") | {self.goal: "G", self.place: "A"})


def drawn(signs: dict[Place, str]) -> str:
    """Return signs in rows, with ? at places that have none."""
    xs, ys = (range(min(axis), max(axis) + 1) for axis in zip(*signs, strict=True))
    return "\n".join("".join(signs.get((x, y), "?") for x in xs) for y in ys)


class Planner:
    """Plan a way by the map and follow it. Where a street is closed, plan anew if `replans`, else try again."""

    def __init__(self, replans: bool = True) -> None:
        self.replans = replans
        self.reset()

    def reset(self) -> None:
        """Forget the plan and every closed street."""
        self.closed, self.path = set[Place](), list[Place]()

    def __call__(self, percept: dict[str, Any]) -> int:
        """Return the direction of the next place of the plan."""
        place, goal = (tuple(percept[name].tolist()) for name in ("place", "goal"))
        if self.path and place == self.path[0]:
            self.path.pop(0)
        elif self.path and self.replans:
            self.closed.add(self.path[0])
            self.path = []
        if not self.path:
            streets: set[Any] = set(map(tuple, np.argwhere(percept["map"].T).tolist()))
            self.path = shortest(place, goal, streets - self.closed)[1:]
        return neighbours(place).index(self.path[0]) if self.path else 0
