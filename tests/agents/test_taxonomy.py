"""Every world passes Gymnasium's own check, every kind of agent works in its world, and fails where it should."""

import json
from pathlib import Path

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from labkit import ToolCall, load
from labkit.agents.taxonomy.episode import World, play
from labkit.agents.taxonomy.language import ask, judge, rows_of
from labkit.agents.taxonomy.route import Planner, Town, search, shortest
from labkit.agents.taxonomy.taste import Learner, Tastes
from labkit.agents.taxonomy.thermostat import Room
from labkit.agents.taxonomy.vacuum import DIRTY, House, Mapper
from labkit.errors import OptionInvalid
from labkit.metrics.agent_eval import score

WORLDS = (Room(noise=0.3), House(slip=0.1), Town(closed=2), Tastes(drift=50))


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: type(world).__name__)
def test_every_world_is_a_gymnasium_environment(world: World) -> None:
    check_env(world, skip_render_check=True)


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: type(world).__name__)
def test_the_same_seed_is_the_same_episode(world: World) -> None:
    def rewards(seed: int) -> list[float]:
        dice = np.random.default_rng(0)
        return [step.reward for step in play(world, lambda _: dice.integers(world.action_space.n), seed)]

    assert rewards(3) == rewards(3)
    first, other = (str(world.reset(seed=seed)[0]) for seed in (3, 4))
    assert first != other or isinstance(world, Tastes)


@pytest.mark.parametrize("action", [2, -1, 1.0, "on", None, True, np.True_, np.int64(1)])
def test_an_action_is_a_number_that_the_world_has(action: object) -> None:
    steps = play(Room(limit=1), lambda percept: action)
    if isinstance(action, bool | np.bool_ | np.int64):
        assert [step.action for step in steps] == [1]
    else:
        with pytest.raises(OptionInvalid, match="the agent chose"):
            list(steps)


def switches(noise: float, band: float) -> tuple[int, float]:
    """Return the switches of ten hours, and how far the room swings after the first."""
    room = Room(noise=noise)
    steps = play(room, lambda p: p[0] < 20 + (band / 2 if p[1] else -band / 2))
    degrees = [step.info["temperature"] for step in steps][60:]
    return room.switches, max(degrees) - min(degrees)


def test_a_thermostat_trades_switches_for_swing_and_noise_makes_it_chatter() -> None:
    (narrow, still), (wide, swing) = switches(0, 0), switches(0, 2)
    assert narrow > 3 * wide and swing > 3 * still
    assert swing > 2  # the radiator lags, so the limit cycle is wider than the band
    assert switches(0.3, 0.5)[0] > 2 * switches(0, 0.5)[0]


def test_a_map_cleans_what_a_reflex_does_not_reach() -> None:
    reflex, mapper = [list(play(House(), lambda p: p.argmax(), k)) for k in range(4)], []
    assert not any(run[-1].ended for run in reflex)
    mapper = [list(play(House(), Mapper(), k)) for k in range(8)]
    assert all(run[-1].ended and len(run) < 200 for run in mapper)
    slipped = [list(play(House(slip=0.2), Mapper(), k)) for k in range(8)]
    assert sum(map(len, slipped)) > 1.2 * sum(map(len, mapper))


def test_a_mapper_draws_the_house_that_it_is_in() -> None:
    world, mapper = House(), Mapper()
    for _ in play(world, mapper, seed=1):
        x, y = (mind - real for mind, real in zip(mapper.at, world.at, strict=True))
        for place, what in world.floor.items():
            seen = mapper.seen.get((place[0] + x, place[1] + y), what)
            assert (seen == 0) == (what == 0) and (what != DIRTY or seen == DIRTY)


def test_every_house_can_be_cleaned_and_every_town_crossed() -> None:
    for seed in range(30):
        (house := House()).reset(seed=seed)
        assert all(search((0, 0), place.__eq__, house.floor.__contains__)[0] for place in house.floor)
        (town := Town(closed=4)).reset(seed=seed)
        way = shortest((0, 0), town.goal, town.streets)
        assert way[-1] == town.goal and len(way) - 1 == town.shortest


def test_a_star_finds_a_shortest_way_with_fewer_looks() -> None:
    looks = np.zeros(2)
    for seed in range(20):
        (town := Town(20, 14)).reset(seed=seed)
        blind, wide = search((0, 0), town.goal.__eq__, town.streets.__contains__)
        way, few = search((0, 0), town.goal.__eq__, town.streets.__contains__, lambda p: 32 - p[0] - p[1])
        assert len(way) == len(blind) and set(way) <= town.streets
        looks += wide, few
    assert looks[1] < looks[0]


def test_there_may_be_no_way() -> None:
    assert search((0, 0), (5, 5).__eq__, {(0, 0), (1, 0)}.__contains__) == ([], 2)
    assert shortest((0, 0), (0, 0), [(0, 0)]) == [(0, 0)]
    stuck = {"place": np.array([0, 0]), "goal": np.array([1, 1]), "map": np.array([[1, 0], [0, 1]])}
    assert Planner()(stuck) == 0


def test_an_estimate_that_is_not_consistent_still_finds_a_shortest_way() -> None:
    free = {(x, y) for x in range(4) for y in range(4)} - {(1, 1)}
    high = {(1, 0): 5.0, (2, 0): 4.0}  # never too high, but it falls by more than a step makes
    path, _ = search((0, 0), (3, 3).__eq__, free.__contains__, lambda place: high.get(place, 0.0))
    assert len(path) == 7


def test_planning_anew_arrives_where_the_map_is_wrong() -> None:
    once = [list(play(Town(closed=4), Planner(replans=False), k))[-1].ended for k in range(10)]
    anew = [list(play(Town(closed=4), Planner(), k)) for k in range(10)]
    assert sum(once) < 5
    assert all(run[-1].ended and len(run) >= run[-1].info["shortest"] for run in anew)
    right = [list(play(Town(), Planner(), k)) for k in range(10)]
    assert all(len(run) == run[-1].info["shortest"] for run in right)


def regret(world: Tastes, **settings: float) -> float:
    runs = (play(world, Learner(seed=k, **settings), k) for k in range(15))  # type: ignore[arg-type]
    return float(np.mean([sum(step.info["regret"] for step in run) for run in runs]))


def test_to_explore_and_to_forget_pay_where_they_should() -> None:
    assert regret(Tastes(), epsilon=0.1) < 0.6 * regret(Tastes(), epsilon=0)
    drifting = Tastes(drift=150)
    assert regret(drifting, epsilon=0.1, forget=0.1) < 0.95 * regret(drifting, epsilon=0.1)


def test_a_learner_without_forgetting_keeps_the_mean() -> None:
    learner = Learner()
    for reward in (1.0, 0.0, 0.5, 2.5):
        learner.learn(2, reward)
    assert learner.estimates.tolist() == [0, 0, 1, 0, 0]
    learner.reset()
    assert learner.estimates.tolist() == [0] * 5


def move(direction: str) -> None:
    """Move."""


def test_models_and_classical_agents_are_judged_alike() -> None:
    calls = [f'<tool_call>{{"name": "move", "arguments": {{"direction": "{d}"}}}}</tool_call>' for d in "ns"]
    cases = [ask("house", "Go north.", [move], ToolCall("move", {"direction": "n"}))] * 2
    with load("nano", "echo", script=calls) as model:
        (row,) = rows_of("echo", score(model, cases))
    assert (row.task, row.agent, row.hits, row.n) == ("house", "echo", 1, 2)
    assert row.tokens > 0 and row.interval[0] < 0.5 < row.interval[1]
    classical = judge("house", "rule", lambda percept: percept, ["n", "s"], ["n", "n"])
    assert (classical.hits, classical.n, classical.tokens) == (1, 2, 0)


def test_the_wishes_fit_the_labs_rules_and_tools() -> None:
    root = Path(__file__).parents[2]
    lines = (root / "datasets/home_requests/requests.jsonl").read_text("utf-8").splitlines()
    wishes = [json.loads(line) for line in lines]
    cells = (root / "labs/source/02_agent_taxonomy.py").read_text("utf-8").split("# %%\n")
    scope: dict[str, object] = {"ToolCall": ToolCall}
    for cell in cells:
        if "RULES = {" in cell or "def keywords(" in cell:
            exec(cell, scope)
    keywords = scope["keywords"]
    assert callable(keywords)
    hits = {"plain": 0, "free": 0}
    for wish in wishes:
        hits[wish["wording"]] += keywords(wish["text"]) == ToolCall(**wish["call"])
    assert hits["plain"] == 32 and hits["free"] < 8
    assert len({wish["text"] for wish in wishes}) == 64
