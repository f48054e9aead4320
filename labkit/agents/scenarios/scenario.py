"""What all scenarios share: a database, tasks, and the judge.

A task is done if the database afterwards is what the right calls make of it, and the answer says what it has to. So it
does not matter how an agent gets there, and an agent that changes anything else has failed.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from labkit.agents.loop import Agent, Run
from labkit.agents.permissions import Permissions
from labkit.agents.tools import Guarded
from labkit.engines.base import Model
from labkit.errors import OptionInvalid
from labkit.metrics.intervals import wilson
from labkit.types import ToolCall

NAMES = ("retail", "health", "service", "invoices", "assistant", "diagnostics", "market")
SETTINGS: dict[str, Any] = {"max_rounds": 4, "max_tokens": 160}


class Data:
    """Read and change one SQLite file; values are always bound, never written into the SQL."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """Return what a query finds, and keep what it changes."""
        with closing(sqlite3.connect(self.path)) as opened, opened:
            opened.row_factory = sqlite3.Row
            opened.execute("pragma synchronous = off")  # a lesson's data need not survive a power cut
            return [dict(row) for row in opened.execute(sql, values)]

    def one(self, what: str, sql: str, *values: Any) -> dict[str, Any]:
        """Return the one row that a query finds; raise `LookupError` if there is none: the model is told."""
        found = self.rows(sql, *values)
        if not found:
            raise LookupError(f"there is no {what} {', '.join(map(str, values))}")
        return found[0]

    def dump(self) -> list[str]:
        """Return all that the file holds, as SQL."""
        with closing(sqlite3.connect(self.path)) as opened:
            return list(opened.iterdump())


@dataclass(frozen=True, slots=True)
class Task:
    """Say what a person wants, which calls do it, and words of which the answer must hold every one."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    says: tuple[str, ...] = ()
    kind: str = ""


def wish(rng: random.Random, asks: Sequence[str], kind: str, tool: str, *says: str, **arguments: Any) -> Task:
    """Make a task of one call, which is asked for in one of several ways."""
    return Task(rng.choice(asks), (ToolCall(tool, arguments),), says, kind)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Describe a place: `fill` makes its data, `tools` works on them, `tasks` makes wishes about them."""

    name: str
    about: str
    schema: str
    fill: Callable[[Data, random.Random], None]
    tools: Callable[[Data], Sequence[Callable[..., Any]]]
    tasks: Callable[[Data, random.Random], Iterator[Task]]
    instructions: str = ""

    def create(self, path: Path, seed: int = 0) -> Data:
        """Make the database at `path`; the same seed gives the same rows."""
        path.unlink(missing_ok=True)
        data = Data(path)
        with closing(sqlite3.connect(path)) as opened, opened:
            opened.executescript(self.schema)
        self.fill(data, random.Random(f"{self.name} {seed}"))
        return data

    def guarded(self, data: Data, seconds: float = 5) -> list[Guarded]:
        """Return the tools with their limits: files in the folder of the database, no network, no processes."""
        allow = Permissions(write=[data.path.parent])
        return [Guarded(tool, seconds=seconds, characters=600, allow=allow) for tool in self.tools(data)]

    def draw(self, data: Data, n: int, seed: int = 0) -> list[Task]:
        """Return `n` tasks on these data, the same for the same seed."""
        return list(islice(self.tasks(data, random.Random(f"{self.name} tasks {seed}")), n))


@dataclass(frozen=True, slots=True)
class Score:
    """Keep the verdict on every task of one scenario: `why` is "" for a task that was done."""

    scenario: str
    results: tuple[tuple[Task, Run, str], ...]

    @property
    def done(self) -> int:
        """Return how many tasks were done."""
        return sum(not why for *_, why in self.results)

    def failures(self) -> Counter[str]:
        """Count the reasons of failure."""
        return Counter(why for *_, why in self.results if why)

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {why}" for why, count in self.failures().most_common())
        n, (low, high) = len(self.results), wilson(self.done, len(self.results))
        share = f"{self.done / n:4.0%} of {n} tasks done (95 %: {low:.0%} to {high:.0%})"
        return f"{self.scenario:12} {share}" + f"; missed: {reasons}" * bool(reasons)


def names() -> tuple[str, ...]:
    """List the scenarios."""
    return NAMES


def by_name(name: str) -> Scenario:
    """Return a scenario; raise `OptionInvalid` for a name that is none."""
    if name not in NAMES:
        raise OptionInvalid(f"there is no scenario {name!r}", fix=f"choose from: {', '.join(NAMES)}")
    found: Scenario = import_module(f"labkit.agents.scenarios.{name}").SCENARIO
    return found


def evaluate(
    model: Model,
    scenario: Scenario,
    n: int = 100,
    *,
    seed: int = 0,
    progress: Callable[[], object] = lambda: None,
    **settings: Any,
) -> Score:
    """Let an agent do `n` tasks, each on fresh data; `settings` are those of `Agent`, as in `constrained=True`."""
    results = []
    with TemporaryDirectory() as folder:
        first = scenario.create(Path(folder) / "first.db", seed)
        data, before = Data(Path(folder) / "now.db"), first.dump()
        for task in scenario.draw(first, n, seed):
            shutil.copyfile(first.path, data.path)
            tools, asked = scenario.guarded(data), scenario.instructions
            run = Agent(model, tools, instructions=asked, **{**SETTINGS, **settings}).run(task.text)
            after = data.dump()
            shutil.copyfile(first.path, data.path)
            verdict = judge(task, run, before, after, wanted(scenario, data, task))
            results.append((task, run, verdict))
            progress()
    return Score(scenario.name, tuple(results))


def wanted(scenario: Scenario, data: Data, task: Task) -> list[str]:
    """Make the right calls; return what the database holds then."""
    tools = {tool.__name__: tool for tool in scenario.tools(data)}
    for call in task.calls:
        tools[call.name](**call.arguments)
    return data.dump()


def judge(task: Task, run: Run, before: Sequence[str], after: Sequence[str], right: Sequence[str]) -> str:
    """Say why a task was not done, "" if it was; the data as they were, as they are, and as they should be."""
    if list(after) != list(right):
        return "changed the wrong things" if list(after) != list(before) else "changed nothing"
    called = any(result.ok for _, result in run.calls)
    if called != bool(task.calls):
        return "called a tool that was not asked for" if called else "no call succeeded"
    said = run.text.lower()
    if missing := [word for word in task.says if word.lower() not in said]:
        return f"does not say {missing[0]!r}" if len(missing[0]) < 20 else "does not say what was found"
    return "" if run.ended == "answer" else f"ended by {run.ended}"
