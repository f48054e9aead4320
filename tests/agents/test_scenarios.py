"""Scenarios: what is right can be done, what is wrong is seen, and nothing leaves the machine."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from labkit import load
from labkit.agents.loop import Run
from labkit.agents.scenarios import Scenario, Task, by_name, evaluate, names
from labkit.agents.scenarios.scenario import judge, wanted
from labkit.agents.tools import Result
from labkit.errors import OptionInvalid
from labkit.types import ToolCall

N = 100


def spoken(task: Task) -> list[str]:
    """Return what a model that does a task well would write: the calls, then the answer."""
    calls = "".join(
        f'<tool_call>\n{{"name": "{c.name}", "arguments": {json.dumps(c.arguments)}}}\n</tool_call>'
        for c in task.calls
    )
    return [calls, " ".join(["Done:", *task.says])]


@pytest.mark.parametrize("name", names())
def test_every_task_can_be_done_and_an_idle_agent_does_none(name: str, tmp_path: Path) -> None:
    scenario = by_name(name)
    tasks = scenario.draw(scenario.create(tmp_path / "x.db"), N)
    assert len(tasks) == N and len({task.kind for task in tasks}) >= 3
    script = [text for task in tasks for text in spoken(task)]
    with load("nano", engine="echo", script=script) as model:
        good = evaluate(model, scenario, N)
    assert good.done == N, str(good)
    with load("nano", engine="echo", script=["I cannot do that."] * N) as model:
        assert evaluate(model, scenario, N).done == 0


def test_the_same_seed_gives_the_same_data_and_tasks(tmp_path: Path) -> None:
    for name in names():
        one, two = (by_name(name).create(tmp_path / f"{k}.db", seed=3) for k in (1, 2))
        assert one.dump() == two.dump()
        assert by_name(name).draw(one, 20, seed=3) == by_name(name).draw(two, 20, seed=3)
        assert by_name(name).draw(one, 20, seed=4) != by_name(name).draw(one, 20, seed=3)


@pytest.fixture
def kiosk(tmp_path: Path) -> tuple[Scenario, Any]:
    scenario = by_name("retail")
    return scenario, scenario.create(tmp_path / "kiosk.db")


def test_the_judge_sees_a_side_effect_a_wrong_answer_and_a_loop(kiosk: tuple[Scenario, Any]) -> None:
    scenario, data = kiosk
    row = data.rows("select * from orders where status = 'packed'")[0]["id"]
    task = Task("Where is it?", (ToolCall("get_order_status", {"order": row}),), ("packed",))
    before, right = data.dump(), wanted(scenario, data, task)
    asked = [(task.calls[0], Result("{}"))]
    done = Run([], text="It is packed.", ended="answer", calls=asked)
    lost = Run([], text="It is lost.", ended="answer", calls=asked)
    looped = Run([], text="packed", ended="loop", calls=asked)
    assert judge(task, done, before, before, right) == ""
    assert judge(task, lost, before, before, right) == "does not say 'packed'"
    assert judge(task, looped, before, before, right) == "ended by loop"
    assert judge(Task("Hello"), done, right, right, right) == "called a tool that was not asked for"
    data.rows("delete from orders where id = ?", row)
    assert judge(task, done, before, data.dump(), right) == "changed the wrong things"


def test_a_call_that_failed_has_changed_nothing(kiosk: tuple[Scenario, Any]) -> None:
    scenario, data = kiosk
    before = data.dump()
    tasks = {task.kind: task for task in scenario.draw(data, 20)}
    for kind, why in (("order", "no call succeeded"), ("cart", "changed nothing")):
        task = tasks[kind]
        failed = [(task.calls[0], Result('{"error": "no such order"}', ok=False))]
        run = Run([], text="It is done.", ended="answer", calls=failed)
        assert judge(task, run, before, before, wanted(scenario, data, task)) == why


def test_values_are_bound_and_what_is_not_there_is_told(kiosk: tuple[Scenario, Any]) -> None:
    scenario, data = kiosk
    before = data.dump()
    tools = {tool.name: tool for tool in scenario.guarded(data)}
    for order in ("x' or '1'='1", "'; drop table orders; --", "A1\0"):
        result = tools["cancel_order"].start({"order": order})()
        assert not result.ok and "no order" in result.text
    assert data.dump() == before


def test_nothing_leaves_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The practice's data are patients': no tool, no engine and no judge opens a connection."""
    reached: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: reached.append(address))
    scenario = by_name("health")
    with load("nano", threads=1) as model:
        evaluate(model, scenario, 4)
    assert not reached


def test_an_unknown_scenario_is_named() -> None:
    with pytest.raises(OptionInvalid, match="retail"):
        by_name("bakery")
