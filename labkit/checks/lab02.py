"""Checks of lab 02, the taxonomy of agents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from labkit.agents.taxonomy.episode import play
from labkit.agents.taxonomy.language import Row
from labkit.agents.taxonomy.route import Place, Town, search
from labkit.agents.taxonomy.taste import Learner, Tastes
from labkit.agents.taxonomy.thermostat import TARGET, Room
from labkit.checks.core import Exercises, Wrong, compare, require_function

PER_HOUR, PER_ERROR = 0.02, 0.04  # euros, assumed
lab = Exercises("02")


def _number(what: str, value: Any) -> float:
    given = np.asarray(value)
    if given.size != 1 or given.dtype.kind not in "iuf" or not np.isfinite(given).all():
        raise Wrong(f"{what} must be one number, not {value!r:.60}")
    return float(given.item())


def _kept(band: float) -> tuple[float, int]:
    room = Room(noise=0.3)
    steps = play(room, lambda percept: percept[0] < TARGET + (band / 2 if percept[1] else -band / 2))
    return -float(np.mean([step.reward for step in steps])), room.switches


def _band(answer: float) -> str:
    band = _number("the band", answer)
    (cost, switches), costs = _kept(band), [_kept(tenths / 10)[0] for tenths in range(30)]
    if cost > 1.15 * (least := min(costs)):
        why = f"it switches {switches} times: wider" if band < 1 else "the room swings too far: narrower"
        raise Wrong(f"{band:g} K cost {cost:.2f} a minute, others as little as {least:.2f}; {why}")
    return f"{band:.1f} K: {cost:.2f} a minute with {switches} switches; a band of 0 costs {costs[0]:.2f}"


q1 = lab.add(
    _band,
    hints=(
        "sum(step.reward for step in play(Room(noise=0.3), banded(band))) is what one band earns.",
        "Try all of np.arange(0, 3, 0.1) and take the one that earns most: max(bands, key=earned).",
    ),
    code="def earned(band):\n    return sum(step.reward for step in play(Room(noise=0.3), banded(band)))\n\n\n"
    "best_band = max(np.arange(0, 3, 0.1), key=earned)",
)


def _estimate(estimate: Callable[[Place], float]) -> str:
    require_function(estimate, "estimate")
    for x, y in np.ndindex(20, 14):
        left, said = 32 - x - y, _number("an estimate", estimate((x, y)))
        if said > left + 1e-9:
            why = f"estimate({(x, y)}) is {said:g}, but {left} steps may be all that is left"
            raise Wrong(f"{why}: with an estimate too high, A* may miss the shortest way")
    looked = np.zeros(2, int)
    for seed in range(8):
        (town := Town(20, 14)).reset(seed=seed)
        ends = (0, 0), town.goal.__eq__, town.streets.__contains__
        looked += search(*ends)[1], search(*ends, estimate)[1]
    if looked[1] > 0.98 * looked[0]:
        raise Wrong(
            "never too high, but A* looks at as many squares as without it: say more where more is left"
        )
    return f"in 8 towns A* looked at {looked[1]} squares, and at {looked[0]} without an estimate"


q2 = lab.add(
    _estimate,
    hints=(
        "How many steps would be left if there were no walls? A step changes the column or the row by one.",
        "abs(place[0] - goal[0]) is how many columns are left. Add the rows.",
    ),
    code="def estimate(place):\n    return abs(place[0] - goal[0]) + abs(place[1] - goal[1])",
)


def _regret(update: Callable[[float, float, int], float]) -> float:
    total = 0.0
    for seed in range(20):
        world, learner = Tastes(drift=150), Learner(seed=seed)
        world.reset(seed=seed)
        for _ in range(world.limit):
            _, reward, _, _, info = world.step(action := learner(0))
            learner.counts[action] += 1
            new = update(float(learner.estimates[action]), reward, int(learner.counts[action]))
            learner.estimates[action], total = _number("the new estimate", new), total + info["regret"]
    return total / 20


def _update(update: Callable[[float, float, int], float]) -> str:
    require_function(update, "update")
    first, late = (_number("the new estimate", update(0.0, 1.0, count)) for count in (1, 500))
    if not 0 < late <= 1:
        raise Wrong("an estimate of 0 must move toward a reward of 1, and not beyond it")
    mean, theirs = _regret(lambda estimate, reward, n: estimate + (reward - estimate) / n), _regret(update)
    if theirs > 0.97 * mean:
        slow = "it hardly forgets" if first > 0.5 else "the first rewards must move an estimate of 0 faster"
        why = "it forgets too fast to know anything" if late > 0.4 else slow
        raise Wrong(f"regret {theirs:.0f}, and {mean:.0f} with the mean of all rewards: {why}")
    return f"regret {theirs:.0f} after 600 recommendations, where the mean of all rewards has {mean:.0f}"


q3 = lab.add(
    _update,
    hints=(
        "The mean moves the estimate by (reward - estimate) / count: the 500th reward hardly counts.",
        "Move it by at least a tenth of (reward - estimate), whatever count is: max(1 / count, 0.1).",
    ),
    code="def update(estimate, reward, count):\n    return estimate + max(1 / count, 0.1) * (reward - estimate)",
)


def _euros(row: Row) -> float:
    return row.seconds / 3600 * PER_HOUR + (1 - row.hits / row.n) * PER_ERROR


def _cost(rows: Sequence[Row], cost: Callable[[Row], float]) -> str:
    require_function(cost, "cost")
    given, right = (f(Row("a task", "an agent", 3, 4, 0.9)) for f in (cost, _euros))
    reasons = {
        right - PER_ERROR / 4: "that is the machine's time alone: a wrong decision costs, too",
        right + PER_ERROR / 2: "that charges for the right decisions: wrong are 1 - row.hits / row.n",
        0.9 * PER_HOUR + PER_ERROR / 4: "seconds are no hours: divide them by 3,600",
    }
    formula = f"for 3 right of 4 in 0.9 s each it should be {right:.6g}"
    compare(_number("cost(row)", given), right, reasons, formula, within=1e-4)
    best = {row.task: row.agent for row in sorted(rows, key=_euros, reverse=True)}
    return "the cheapest in your table: " + "; ".join(f"{task}: {best[task]}" for task in sorted(best))


q4 = lab.add(
    _cost,
    hints=(
        "row.seconds / 3600 is the hours that a decision takes; an hour costs 0.02 euros.",
        "The share of wrong decisions is 1 - row.hits / row.n; each costs 0.04 euros.",
    ),
    code="def cost(row):\n    return row.seconds / 3600 * 0.02 + (1 - row.hits / row.n) * 0.04",
)
