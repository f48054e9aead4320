"""Alerts begin actions and end them; alert rules fire when they should (promtool, and a real Prometheus)."""

import asyncio
import re
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from labkit.errors import OptionInvalid
from labkit.serving import alerts as module
from labkit.serving.alerts import HOLD_S, RULES, Alerts
from labkit.serving.telemetry import Telemetry

RULE_FILE = Path(module.__file__).with_name("alerts.yml")
TEST_FILE = Path(__file__).with_name("alerts_test.yml")


class Switches:
    """Actions that note what they are told; `broken` ones raise."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bool]] = []
        self.broken: set[str] = set()

    def actions(self) -> dict[str, module.Action]:
        def action(name: str) -> module.Action:
            async def switch(on: bool) -> None:
                if name in self.broken:
                    raise RuntimeError("no")
                self.told.append((name, on))

            return switch

        return {name: action(name) for name in RULES}


def sent(action: str, seconds: float, name: str = "A") -> dict[str, Any]:
    """Return an alert as Prometheus 2.42 sends it, which ends so many seconds from now."""
    end = datetime.fromtimestamp(time.time() + seconds, UTC).isoformat(timespec="milliseconds")
    labels = {"alertname": name, "instance": "127.0.0.1:8000", "action": action}
    return {
        "annotations": {"summary": "…"},
        "endsAt": end.replace("+00:00", "Z"),
        "startsAt": "2026-01-01T00:00:00.000Z",
        "generatorURL": "http://here:9090/graph?g0.expr=up",
        "labels": labels,
    }


def on(telemetry: Telemetry, action: str) -> float | None:
    return telemetry.registry.get_sample_value("labkit_action_on", {"action": action})


def test_a_full_queue_sheds_load_and_an_empty_one_ends_that() -> None:
    telemetry, switches = Telemetry(), Switches()
    alerts = Alerts(telemetry, switches.actions())
    telemetry.queue_limit.set(10)

    async def hour() -> None:
        for at in range(0, 100, 2):
            telemetry.queue_depth.set(9 if at < 20 else 0)
            alerts.look(at)
            await alerts.act(at)
            if at == 2:
                assert not alerts.on, "two samples are chance"
            if at == 4:
                assert alerts.on == {"shed_load"} and on(telemetry, "shed_load") == 1

    asyncio.run(hour())
    assert switches.told == [("shed_load", True), ("shed_load", False)]
    assert alerts.on == set() and on(telemetry, "shed_load") == 0


def test_slow_first_tokens_ask_for_a_smaller_model_and_full_memory_for_room() -> None:
    telemetry, switches = Telemetry(), Switches()
    alerts = Alerts(telemetry, switches.actions())
    telemetry.budget_bytes.set(1e9)
    telemetry.backend("one", True, 960_000_000)

    async def minute() -> None:
        for at in range(0, 20, 2):
            telemetry.ttft.observe(3.0)
            alerts.look(at)
            await alerts.act(at)

    asyncio.run(minute())
    assert sorted(switches.told) == [("smaller_model", True), ("unload_idle", True)]


def test_an_idle_gateway_asks_for_nothing() -> None:
    telemetry, switches = Telemetry(), Switches()
    alerts = Alerts(telemetry, switches.actions())
    telemetry.ttft.observe(60.0)

    async def minute() -> None:
        for at in range(0, 60, 2):
            alerts.look(at)
            await alerts.act(at)

    asyncio.run(minute())
    assert switches.told == [], "one slow answer is no state"


def test_an_action_that_fails_is_tried_again_and_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    telemetry, switches = Telemetry(), Switches()
    alerts = Alerts(telemetry, switches.actions())
    switches.broken = {"shed_load"}

    async def twice() -> None:
        await alerts.receive([sent("shed_load", 60), sent("unload_idle", 60)])
        assert alerts.on == {"unload_idle"} and "shed_load failed" in caplog.text
        switches.broken = set()
        await alerts.act(time.time())

    asyncio.run(twice())
    assert switches.told == [("unload_idle", True), ("shed_load", True)]


def test_an_alert_from_outside_holds_until_its_end() -> None:
    telemetry, switches = Telemetry(), Switches()
    alerts = Alerts(telemetry, switches.actions())

    async def day() -> None:
        await alerts.receive([sent("shed_load", 60), sent("shed_load", 600, "B")])
        await alerts.receive([sent("shed_load", 60)])
        assert alerts.on == {"shed_load"}
        await alerts.receive([sent("shed_load", -1)])
        assert alerts.on == {"shed_load"}, "the other one still wants it"
        await alerts.act(time.time() + 601)

    asyncio.run(day())
    assert switches.told == [("shed_load", True), ("shed_load", False)]


def test_an_alert_without_an_end_holds_for_five_minutes() -> None:
    telemetry, switches = Telemetry(), Switches()
    alerts = Alerts(telemetry, switches.actions())

    async def day() -> None:
        await alerts.receive([{"labels": {"action": "shed_load"}}])
        await alerts.act(time.time() + 290)
        assert alerts.on == {"shed_load"}
        await alerts.act(time.time() + 310)

    asyncio.run(day())
    assert alerts.on == set()


def test_unknown_actions_are_passed_over() -> None:
    switches = Switches()
    alerts = Alerts(Telemetry(), switches.actions())
    asyncio.run(alerts.receive([sent("rm -rf /", 60), {"labels": {"alertname": "BackendDown"}}]))
    assert not alerts.held and not alerts.on


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        {},
        "x",
        [1],
        [{}],
        [{"labels": 3}],
        [{"labels": {}, "endsAt": "soon"}],
        [{"labels": {}, "endsAt": 4}],
        [{"labels": {}}] * 1001,
    ],
    ids=range(9),
)
def test_what_is_no_alert_is_refused(wrong: object) -> None:
    with pytest.raises(OptionInvalid):
        asyncio.run(Alerts(Telemetry(), Switches().actions()).receive(wrong))


def test_many_different_alerts_take_bounded_room() -> None:
    alerts = Alerts(Telemetry(), Switches().actions())

    async def flood() -> None:
        for part in range(3):
            await alerts.receive([sent("shed_load", 60, f"{part}-{n}") for n in range(1000)])

    asyncio.run(flood())
    assert len(alerts.held) == module.MOST


def test_run_looks_until_it_is_cancelled() -> None:
    telemetry, switches = Telemetry(), Switches()
    telemetry.queue_limit.set(10)
    telemetry.queue_depth.set(10)
    alerts = Alerts(telemetry, switches.actions())

    async def watch() -> None:
        task = asyncio.create_task(alerts.run(every=0.01))
        async with asyncio.timeout(30):
            while not alerts.on:
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(watch())
    assert switches.told == [("shed_load", True)]
    assert HOLD_S > 10, "an action lasts longer than the window of its rule"


def test_every_rule_has_a_test_where_it_fires_and_one_where_it_does_not() -> None:
    rules = [rule for group in yaml.safe_load(RULE_FILE.read_text())["groups"] for rule in group["rules"]]
    tests = [
        test for part in yaml.safe_load(TEST_FILE.read_text())["tests"] for test in part["alert_rule_test"]
    ]
    fires = {test["alertname"] for test in tests if test["exp_alerts"]}
    quiet = {test["alertname"] for test in tests if not test["exp_alerts"]}
    assert fires == quiet == {rule["alert"] for rule in rules}
    assert {rule["labels"].get("action") for rule in rules} - {None} == set(RULES)


def test_rules_go_by_names_that_the_gateway_has() -> None:
    page = Telemetry().page().decode()
    known = {name for line in re.findall(r"^# TYPE (labkit_\w+)", page, re.MULTILINE) for name in [line]}
    used = set(re.findall(r"labkit_\w+", re.sub(r"#.*", "", RULE_FILE.read_text())))
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in used} <= known


@pytest.mark.heavy
def test_promtool_finds_that_all_rules_fire() -> None:
    done = subprocess.run(["promtool", "test", "rules", str(TEST_FILE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
