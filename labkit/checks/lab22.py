"""Checks of lab 22, the capstone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from labkit.agents.capstone import Candidate, Grade, Report, writers
from labkit.agents.scenarios import Scenario
from labkit.checks.core import Exercises, Wrong, require_function
from labkit.metrics.intervals import wilson

lab = Exercises("22")
Choose = Callable[[Sequence[Candidate]], Candidate]


def _rows(*rows: tuple[str, float, int]) -> list[Candidate]:
    """Make candidates of a name, megabytes, and the tasks done of 40."""
    return [Candidate(name, "Q8_0", "echo", int(mb * 1e6), 100.0, 0.01, done, 40) for name, mb, done in rows]


# Rows, the right name, and what is wrong with another choice.
CASES = [
    (
        _rows(("big", 8, 36), ("middle", 4, 35), ("small", 1, 5)),
        "middle",
        "35 of 40 cannot be told from 36, 5 can",
    ),
    (_rows(("big", 8, 36), ("small", 1, 5)), "big", "5 of 40 is clearly worse than 36"),
    (_rows(("small", 1, 20), ("big", 8, 21)), "small", "20 and 21 of 40 cannot be told apart"),
    (_rows(("a", 2, 0), ("b", 1, 0)), "b", "none does a task, so the smaller one costs less"),
]


def _choice(choose: Choose) -> str:
    require_function(choose, "choose")
    for rows, right, why in CASES:
        found = choose(list(rows))
        if not isinstance(found, Candidate):
            raise Wrong(f"choose should return one of the candidates, not {found!r:.60}")
        if found.model != right:
            offered = ", ".join(
                f"{row.model} ({row.file_bytes / 1e6:g} MB, {row.done} of 40)" for row in rows
            )
            raise Wrong(f"of {offered} yours takes {found.model}, and {right} is the one: {why}")
    return "the smallest that is not measurably worse than the best"


q1 = lab.add(
    _choice,
    hints=(
        "best is the highest row.done / row.tasks. row.interval is (low, high) of a row's own share.",
        "Keep the rows whose high end reaches the best share; of those take the one with the fewest file_bytes.",
    ),
    code="def choose(rows):\n    best = max(row.done / row.tasks for row in rows)\n"
    "    near = [row for row in rows if row.interval[1] >= best]\n"
    "    return min(near, key=lambda row: row.file_bytes)",
)

WIDTH = 0.2


def _tasks(n: int) -> str:
    if isinstance(n, bool) or not isinstance(n, int):
        raise Wrong(f"give a whole number of tasks, not {n!r:.40}")
    if n < 2:
        raise Wrong("one task tells next to nothing")
    widths = [high - low for low, high in (wilson(m // 2, m) for m in (n, n - 2))]
    if widths[0] > WIDTH:
        raise Wrong(
            f"with {n} tasks the interval is {100 * widths[0]:.0f} points wide, ±{50 * widths[0]:.0f}"
        )
    if widths[1] <= WIDTH - 0.005:
        raise Wrong(f"{n} are enough, and so are fewer: tasks cost time")
    return f"{n} tasks for ±10 points; for half of that it takes about four times as many"


q2 = lab.add(
    _tasks,
    hints=(
        "wilson(n // 2, n) gives (low, high) for a share of one half, where the interval is widest.",
        "Count n up until high - low is at most 0.2.",
    ),
    code="needed = next(n for n in range(2, 1000) if wilson(n // 2, n)[1] - wilson(n // 2, n)[0] <= 0.2)",
)


def _reads(scenario: Scenario, names: Iterable[str]) -> str:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise Wrong("give a set of names, as in {'get_product'}")
    known, given, write = _tools(scenario), set(names), writers(scenario)
    if given - known:
        raise Wrong(
            f"{scenario.name} has no tool {min(given - known)!r}: choose from {', '.join(sorted(known))}"
        )
    if given & write:
        raise Wrong(f"{min(given & write)} changes the data: a person should say yes to it first")
    if known - write - given:
        raise Wrong(
            f"{min(known - write - given)} only reads: asking for each look teaches people to click yes"
        )
    return f"{', '.join(sorted(write)) or 'none'} will ask before they act"


def _tools(scenario: Scenario) -> set[str]:
    with TemporaryDirectory() as folder:
        return {tool.__name__ for tool in scenario.tools(scenario.create(Path(folder) / "data.db"))}


q3 = lab.add(
    _reads,
    hints=(
        "Read the docstrings of the tools: which could you call twice, or by mistake, without anybody noticing?",
        "What looks something up reads; what adds, books, cancels, refunds or restarts changes the data.",
    ),
    code='reads = {"get_product", "get_order_status"}  # of retail',
)


def _report(report: Report, why: str, limits: str) -> str:
    if not isinstance(report, Report) or (report.why, report.limits) != (why, limits):
        raise Wrong("run the cell that makes the report again: it has not got your sentences yet")
    grade = Grade(report)
    for name, points, most, asked in grade.marks:
        if name in ("why", "limits") and points < most:
            raise Wrong(f"{name}: {points} of {most} points; asked for: {asked}")
    return f"{grade.points} of 20 points"


q4 = lab.add(
    _report,
    hints=(
        "report.figures() are the figures of the page: a reason names the one that decided.",
        "Limits: how many tasks it was judged on, what it was never asked, what was not tried.",
    ),
    code='why = f"It does {100 * score.done / len(score.results):.0f} % of the tasks, and no other did clearly more."\n'
    'limits = "Judged on made-up tasks in English only; real customers will word them otherwise."',
)
