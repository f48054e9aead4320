"""The last lab's parts: candidates measured on one scenario, three things broken on purpose, a report and its rubric.

The report is made of measurements; what its author writes are two sentences, why and within which limits.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from labkit.agents.failover import Failover, failover
from labkit.agents.loop import Agent
from labkit.agents.scenarios.scenario import Data, Scenario, Score, evaluate
from labkit.engines.base import Model
from labkit.engines.registry import load
from labkit.metrics.intervals import wilson
from labkit.metrics.probes import loaded_machine
from labkit.metrics.records import Record
from labkit.metrics.table import Table
from labkit.models.hardware import machine
from labkit.models.store import atomic_file
from labkit.types import ToolCall

TASKS, FRESH = 12, (12, 30, 93)  # tasks for choosing; those for judging it: 93 make ±10 points or less
ASK = "Hello! Who are you?"
# New each time: nothing cached.
ASKED = ("What can you do for me?", "When are you open?", "Tell me about this place.")
WORDS = 8  # the least that a sentence on limits has


@dataclass(frozen=True, slots=True)
class Candidate:
    """Keep what was measured of one model, level and engine: bytes, tokens/s, seconds, and tasks done."""

    model: str
    level: str
    engine: str
    file_bytes: int
    tokens_per_second: float
    ttft: float
    done: int
    tasks: int

    def __str__(self) -> str:
        return f"{self.model} {self.level} on {self.engine}"

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of the share of tasks done (Wilson)."""
        return wilson(self.done, self.tasks)

    def beaten_by(self, other: Candidate) -> bool:
        """Return whether another does at least as many tasks, and is both smaller and faster."""
        better = other.file_bytes < self.file_bytes and other.tokens_per_second > self.tokens_per_second
        return better and other.done / other.tasks >= self.done / self.tasks


@dataclass(frozen=True, slots=True, repr=False)
class Candidates(Table):
    """Set candidates beside each other."""

    rows: tuple[Candidate, ...]
    title: str = "Candidates, measured here"

    @property
    def cells(self) -> list[list[str]]:
        """Return the table as text, its headings first."""
        head = ["", "MB", "tokens/s", "TTFT, ms", "tasks done", "95 %"]
        return [head, *(self._row(row) for row in self.rows)]

    def _row(self, c: Candidate) -> list[str]:
        speed = f"{c.file_bytes / 1e6:.2f}", f"{c.tokens_per_second:,.0f}", f"{1e3 * c.ttft:.1f}"
        return [str(c), *speed, f"{c.done} of {c.tasks}", "{:.0%} to {:.0%}".format(*c.interval)]

    @property
    def footer(self) -> list[str]:
        """Return the formulas, and a warning where the machine is busy."""
        return [
            *filter(None, [loaded_machine()]),
            f"tokens/s and TTFT: median of answers to {len(ASKED)} questions, 48 tokens each",
            "done: the database is as the right calls make it, and the answer says what it must; interval: Wilson",
        ]


def measure(
    name: str, level: str | None, scenario: Scenario, n: int = TASKS, engine: str = "auto", **options: Any
) -> Candidate:
    """Load a model, time it, let it do `n` tasks (those of seed 0), close it. `options` are the engine's."""
    with load(name, engine, level, **options) as model:
        model.chat(ASK, max_tokens=4)  # the first answer warms up
        times = [model.chat(text, max_tokens=48, ignore_eos=True).timing for text in ASKED]
        score = evaluate(model, scenario, n, constrained=model.engine.constrained)
        file = model.engine.file
        size = file.stat().st_size if file else model.card.variant(model.variant).file_bytes
        speed, ttft = median(t.tokens_per_second for t in times), median(t.ttft for t in times)
        return Candidate(name, model.variant, model.engine.name, size, speed, ttft, score.done, n)


def writers(scenario: Scenario, n: int = 60) -> set[str]:
    """Return the names of the tools whose right calls change the data, found by making the calls of `n` tasks."""
    found = set[str]()
    with TemporaryDirectory() as folder:
        first = scenario.create(Path(folder) / "first.db")
        data, before = Data(Path(folder) / "now.db"), first.dump()
        tools = {tool.__name__: tool for tool in scenario.tools(data)}
        for call in (call for task in scenario.draw(first, n) for call in task.calls):
            if call.name not in found:
                shutil.copyfile(first.path, data.path)
                tools[call.name](**call.arguments)
                found |= {call.name} if data.dump() != before else set()
    return found


@dataclass(frozen=True, slots=True)
class Drill:
    """Keep what was broken on purpose, whether the service `held`, and what was seen."""

    name: str
    held: bool
    seen: str

    def __str__(self) -> str:
        return f"{'held' if self.held else 'FAILED'}: {self.name}: {self.seen}"


def drills(scenario: Scenario, reads: Any, dying: Model, spare: Model) -> tuple[Drill, ...]:
    """Lose an engine, let a model write what nobody approved, and let it call with nonsense. `dying` is closed.

    `reads` are the tools that run without approval (none while it is `...`); here nobody approves the others.
    """
    free = () if reads is ... else tuple(reads)
    with TemporaryDirectory() as folder:
        data = scenario.create(Path(folder) / "data.db")
        before, write = data.dump(), writers(scenario)
        calls = [task.calls[0] for task in scenario.draw(data, 60) if task.calls]
        change = next((call for call in calls if call.name in write), calls[0])
        look = next((call for call in calls if call.name in free), change)
        nonsense = ToolCall(look.name, dict.fromkeys(look.arguments, "nothing-like-it"))
        wrote, told = (_scripted(scenario, data, call, free) for call in (change, nonsense))
        kept = data.dump() == before
    dying.close()
    answer, chain = (pair := failover([dying, spare])).chat(ASK, max_tokens=16, ignore_eos=True), pair.engine
    assert isinstance(chain, Failover)
    gone = chain.failures[0][:100] if chain.failures else "nobody noticed"
    return (
        Drill("an engine is lost", bool(answer.text and chain.last is spare), gone),
        Drill("a change that nobody approved", kept and ("approved" in wrote or not write), wrote),
        Drill("a call with nonsense", kept, told),
    )


def _scripted(scenario: Scenario, data: Data, call: ToolCall, free: Sequence[str]) -> str:
    """Return what a model is told that makes this call. It is scripted, so that every run makes the same one."""
    tools = scenario.guarded(data)
    for tool in tools:
        tool.asks = tool.name not in free
    text = json.dumps({"name": call.name, "arguments": call.arguments})
    scripted = load("nano", "echo", script=[f"<tool_call>\n{text}\n</tool_call>", "Done."])
    run = Agent(scripted, tools, approve=lambda call: False).run("Do it.")
    return run.calls[0][1].text[:160] if run.calls else run.text


@dataclass(frozen=True, slots=True)
class Report:
    """Gather what a project measured; `why` and `limits` are its author's sentences, `...` until they are written."""

    scenario: str
    candidates: tuple[Candidate, ...]
    chosen: Candidate
    score: Score
    served: Record
    drills: Sequence[Drill]
    cost: str = ""
    why: Any = ...
    limits: Any = ...

    def figures(self) -> dict[str, float]:
        """Return the figures that the page shows."""
        n, wait = len(self.score.results), self.served.samples.get("ttft") or [math.nan]
        found = 100 * self.score.done / n, n, self.chosen.file_bytes / 1e6, self.chosen.tokens_per_second
        names = ("tasks done, %", "tasks", "MB", "tokens/s", "TTFT, ms", "requests/s")
        rate = self.served.figures.get("requests_per_s", 0.0)
        return dict(zip(names, (*found, 1e3 * median(wait), rate), strict=True))

    def save(self, file: Path) -> Path:
        """Write the page as Markdown, to hand it in or on; return its path."""
        with atomic_file(file) as part:
            part.write_text(self._repr_markdown_() + "\n", "utf-8")
        return file

    def _repr_markdown_(self) -> str:
        here, figures = machine(), (f"{name} **{value:,.4g}**" for name, value in self.figures().items())
        lines = [f"# {self.scenario}: {self.chosen}", " · ".join(figures)]
        lines.append(f"*Measured on {here.cpu}, {here.usable_cores} cores; prices are assumed.*")
        for name, text in (("Why", self.why), ("Limits", self.limits), ("Evaluated", str(self.score))):
            lines.append(f"**{name}.** {text if isinstance(text, str) else 'not written yet'}")
        lines.append("**Broken on purpose.**\n\n" + "\n".join(f"- {drill}" for drill in self.drills))
        lines += [f"```\n{table}\n```" for table in (repr(Candidates(self.candidates)), self.cost) if table]
        return "\n\n".join(lines)


def cites(text: str, figures: dict[str, float]) -> bool:
    """Return whether a sentence holds one of the figures, rounded as its writer liked (or 2 % off)."""
    found = [number.replace(",", "") for number in re.findall(r"\d[\d,]*(?:\.\d+)?", text)]
    rounded = [(float(number), 0.501 * 10 ** -len(number.partition(".")[2])) for number in found]
    return any(abs(n - v) <= max(0.02 * abs(v), off) for n, off in rounded for v in figures.values())


@dataclass(frozen=True, slots=True, repr=False)
class Grade(Table):
    """Grade a report by the rubric: 20 points."""

    report: Report
    title: str = "Rubric"

    @property
    def marks(self) -> list[tuple[str, int, int, str]]:
        """Return criterion, points, possible points, and what they ask for."""
        r, fresh = self.report, len(self.report.score.results)
        lost = sum(r.served.figures.get(fate, 0) for fate in ("lost", "failed", "cut"))
        sound = r.chosen in r.candidates and not any(r.chosen.beaten_by(other) for other in r.candidates)
        why, limits = (text if isinstance(text, str) else "" for text in (r.why, r.limits))
        served = (r.served.about["settings"].get("concurrency") or 0) > 1 and not lost
        held, wordy = sum(drill.held for drill in r.drills), len(set(limits.split())) >= WORDS
        return [
            ("candidates measured", min(2, len(set(r.candidates)) - 1), 2, "three, on the same tasks, here"),
            ("the choice follows", 3 * sound, 3, "no other is better in everything"),
            ("fresh tasks", sum(fresh >= n for n in FRESH), 3, f"a point each for {FRESH}; {fresh} here"),
            ("served", 2 * served, 2, "two callers or more at a time, none of them lost"),
            ("broken on purpose", held, 3, "a point for each drill that held"),
            ("cost", int(bool(r.cost)), 1, "a table of bills with its inputs"),
            ("why", 3 * cites(why, r.figures()), 3, "a sentence with a figure of the page"),
            ("limits", 3 * wordy, 3, f"what it cannot do, in {WORDS} words or more"),
        ]

    @property
    def points(self) -> int:
        """Return the sum."""
        return sum(points for _, points, *_ in self.marks)

    @property
    def cells(self) -> list[list[str]]:
        """Return the table as text, its headings first."""
        rows = [[name, f"{points} of {most}", asked] for name, points, most, asked in self.marks]
        return [["", "points", "asked for"], *rows, ["in all", f"{self.points} of 20", ""]]

    @property
    def footer(self) -> list[str]:
        """Say what no rubric sees."""
        return ["a rubric sees whether a sentence holds a figure; whether it is a good reason, people see"]
