"""Machines in a plant: run diagnostics, read sensors, restart what hangs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from labkit.agents.scenarios.scenario import Data, Scenario, Task, wish

SCHEMA = """
create table devices (id text primary key, status text, code text, restarts integer default 0);
create table sensors (id text primary key, value real, unit text);
"""
UNITS = {"T": "C", "P": "bar", "V": "V"}


def fill(data: Data, rng: random.Random) -> None:
    """Make ten devices and ten sensors; a fault has a code."""
    for number in rng.sample(range(100, 999), 10):
        status = rng.choice(("ok", "fault", "warning"))
        code = "" if status == "ok" else f"E{rng.randrange(10, 99)}"
        data.rows("insert into devices (id, status, code) values (?, ?, ?)", f"M-{number}", status, code)
    for number in rng.sample(range(1_000, 9_999), 10):
        letter, value = rng.choice("TPV"), rng.randrange(10, 900) / 10
        data.rows("insert into sensors values (?, ?, ?)", f"{letter}{number}", value, UNITS[letter])


def tools(data: Data) -> list[Callable[..., Any]]:
    """Return what a technician can do from afar."""

    def run_diagnostics(device: str) -> dict[str, Any]:
        """Run diagnostics on a device."""
        found = data.one("device", "select status, code from devices where id = ?", device)
        return {key: value for key, value in found.items() if value}

    def restart_device(device: str) -> dict[str, Any]:
        """Restart a device."""
        data.one("device", "select id from devices where id = ?", device)
        data.rows("update devices set restarts = restarts + 1, status = 'ok', code = '' where id = ?", device)
        return {"status": "restarting"}

    def read_sensor(sensor: str) -> dict[str, Any]:
        """Read the value of a sensor."""
        return data.one("sensor", "select value, unit from sensors where id = ?", sensor)

    return [run_diagnostics, restart_device, read_sensor]


def tasks(data: Data, rng: random.Random) -> Iterator[Task]:
    """Make wishes of the people at the machines."""
    devices, sensors = data.rows("select * from devices"), data.rows("select * from sensors")
    while True:
        device, sensor = rng.choice(devices), rng.choice(sensors)
        name = device["id"]
        asks = [f"Run diagnostics on {name}.", f"What is wrong with {name}?", f"Is device {name} ok?"]
        said = filter(None, (device["status"], device["code"]))
        yield wish(rng, asks, "diagnosis", "run_diagnostics", *said, device=name)
        asks = [f"Restart device {name}.", f"{name} hangs, restart it.", f"Can you reboot {name}?"]
        yield wish(rng, asks, "restart", "restart_device", device=name)
        asks = [
            f"Read sensor {sensor['id']}.",
            f"What does sensor {sensor['id']} say?",
            f"I need the last value of sensor {sensor['id']}.",
        ]
        yield wish(rng, asks, "reading", "read_sensor", f"{sensor['value']:g}", sensor=sensor["id"])


ABOUT = "machines: diagnostics, sensors, restarts"
SCENARIO = Scenario(
    "diagnostics", ABOUT, SCHEMA, fill, tools, tasks, "You look after the machines of a plant."
)
