"""Views of worlds say in text all that they draw, stay small, and change in place."""

import xml.etree.ElementTree as ElementTree

import pytest

from labkit.agents.taxonomy.episode import World, play
from labkit.agents.taxonomy.language import Row
from labkit.agents.taxonomy.route import Planner, Town
from labkit.agents.taxonomy.taste import Learner, Tastes
from labkit.agents.taxonomy.thermostat import Room
from labkit.agents.taxonomy.vacuum import House, Mapper
from labkit.widgets import worlds
from labkit.widgets.worlds import Comparison, Squares, view, watch

PAIRS = ((Room(limit=60), lambda p: p[0] < 20), (House(), Mapper()), (Town(closed=2), Planner()))


def svg(page: str) -> ElementTree.Element:
    return ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])


@pytest.mark.parametrize(("world", "agent"), [*PAIRS, (Tastes(limit=40), Learner())])
def test_every_world_has_a_small_picture_with_a_name_and_a_text(world: World, agent: object) -> None:
    steps = list(play(world, agent, 1))  # type: ignore[arg-type]
    bundle = view(world, agent, steps)._repr_mimebundle_()  # type: ignore[arg-type]
    picture = svg(bundle["text/html"])
    assert picture.get("role") == "img" and picture.get("aria-label")
    assert len(bundle["text/html"]) < 16_000
    assert str(len(steps)) in bundle["text/plain"]


def test_squares_are_counted_in_words_and_drawn() -> None:
    shown = Squares("#A.\n*?x\nG..", "a <b>title</b>")
    assert (
        shown.legend
        == "A agent: 1, G goal: 1, * dirt: 1, x closed, not on the map: 1, # wall: 1, ? not seen: 1, . free: 3"
    )
    page = shown._repr_mimebundle_()["text/html"]
    assert len(svg(page)) == 7
    assert "<b>title</b>" not in page
    assert "#A.\n*?x" in repr(shown)


def test_the_agents_map_stands_beside_the_house() -> None:
    world, mapper = House(), Mapper()
    steps = [step for step, _ in zip(play(world, mapper, 2), range(9), strict=False)]
    drawn = view(world, mapper, steps)
    assert isinstance(drawn, Squares) and "mind" in drawn.title
    assert drawn.rows.count("A") == 2 and "?" in drawn.rows
    house = world.render().splitlines()
    assert [row[: len(house[0])].rstrip() for row in drawn.rows.splitlines()][: len(house)] == house


def test_watching_changes_one_picture_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    from IPython.display import DisplayHandle

    calls: list[tuple[str, str]] = []

    def keep(name: str) -> object:
        return lambda self, bundle, raw: calls.append((name, bundle["text/plain"]))

    monkeypatch.setattr(worlds, "PAUSE_S", 0)
    monkeypatch.setattr(DisplayHandle, "display", keep("display"))
    monkeypatch.setattr(DisplayHandle, "update", keep("update"))
    steps = watch(Room(limit=50), lambda percept: 1, every=10, frames=3)
    assert [name for name, _ in calls] == ["display", "update", "update", "update"]
    assert [text.split()[0] for _, text in calls] == ["10", "20", "30", "50"]
    assert len(steps) == 50
    calls.clear()
    watch(Room(limit=5), lambda percept: 1, every=10)
    assert [name for name, _ in calls] == ["display"]
    calls.clear()
    watch(Room(limit=5), lambda percept: 1, frames=0)
    assert [name for name, _ in calls] == ["display"]


def test_a_comparison_gives_counts_intervals_and_costs() -> None:
    table = Comparison((Row("room", "classical", 24, 24, 2e-6), Row("room", "<model>", 6, 24, 0.05, 210.4)))
    assert "24/24" in repr(table) and "100% (86%–100%)" in repr(table)
    assert "6/24" in repr(table) and "25% (12%–45%)" in repr(table) and "210" in repr(table)
    page = table._repr_mimebundle_()["text/html"]
    assert "&lt;model&gt;" in page and "<model>" not in page
