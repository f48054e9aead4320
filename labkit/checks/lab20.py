"""Checks of lab 20, scaling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labkit.checks.core import Exercises, Wrong, compare
from labkit.serving.simulation import Arrival, Autoscale, replay
from labkit.serving.sizing import Window, class_trace, most_students, recommend
from labkit.serving.speed import Speed

EVERY, TARGET, FIXED, SHARE = 30.0, 1.0, 6, 0.8
ASK = {
    "up": "What does one request take to its first token when it is alone?",
    "out": "How many requests/s came, those that still wait among them, and how many does a box end?",
    "down": "How many requests/s came for each box, and how many does a box end?",
    "stay": "Is anything too slow, or more than half idle?",
}
lab = Exercises("20")


def _bound(speed: Speed, bound: float) -> str:
    best = max(speed.rates)
    reasons = {best: "that is requests/s: multiply", best / EVERY: "multiplied by 30 s, not divided"}
    formula = "the most requests/s of speed.rates × 30 s between two questions"
    compare(bound, best * EVERY, reasons, formula, within=0.01 + 1 / (best * EVERY))
    return f"{best:.2f} requests/s × 30 s = {best * EVERY:,.0f} students, and not one more (estimated)"


q1 = lab.add(
    _bound,
    hints=(
        "speed.rates has the requests/s for each of speed.callers; the box is at its best at the largest.",
        "Each student brings 1/30 request per second. How many of those make max(speed.rates)?",
    ),
    code="bound = int(max(speed.rates) * 30)",
)


def _in_time(speed: Speed, students: int) -> str:
    most = most_students(speed, TARGET, EVERY)
    if type(students) is not int or students < 0:
        raise Wrong(f"give a whole number of students, not {students!r:.60}")
    if students > most * 1.02 + 1:
        wait = replay(class_trace(min(students, 2 * most + 10), EVERY), speed).p95
        raise Wrong(f"with {students:,} the p95 is {wait:.2f} s or more: too many")
    if students < 0.95 * most - 1:
        raise Wrong(f"{students:,} are answered in time, and more would be")
    return f"{students:,} students: {students / (max(speed.rates) * EVERY):.0%} of the bound (simulated)"


q2 = lab.add(
    _in_time,
    hints=(
        "Below the bound the p95 is short, above it is long: try 90 % of the bound, then go up or down.",
        "most_students of labkit.serving.sizing halves the interval for you: most_students(speed, target=1.0).",
    ),
    code="from labkit.serving.sizing import most_students\n\nin_time = most_students(speed, target=1.0)",
)


def _moves(services: Mapping[str, tuple[Window, float]], box: Speed, moves: Mapping[str, str]) -> str:
    for name, (window, target) in services.items():
        right, said = recommend(window, box, target).action, str(moves[name]).strip().lower()
        if said != right:
            raise Wrong(f"{name}: {said!r:.20} is not it. {ASK[right]}")
    return "; ".join(f"{name} {moves[name]}" for name in services)


q3 = lab.add(
    _moves,
    hints=(
        "box.ttft(1) is the wait of a request that is alone: where the target is shorter, only one move is left.",
        "window.rate is the requests/s that came. Divide by the boxes, and compare with the 4 of a full box.",
    ),
    code='moves = {"library": "down", "dictation": "up", "exam": "out", "homework": "stay"}',
)


def _scale(day: Sequence[Arrival], box: Speed, mine: Autoscale) -> str:
    if not isinstance(mine, Autoscale):
        raise Wrong(f"give an Autoscale(least=…, …), not {mine!r:.60}")
    if mine.start < 20 or mine.most > 10:
        raise Wrong("start stays 20 and most 10: money buys no faster start, and there are ten boxes")
    found, fixed = replay(day, box, mine.least, mine), replay(day, box, FIXED).replica_seconds
    cost = found.replica_seconds / fixed
    if found.p95 > TARGET:
        raise Wrong(f"the p95 is {found.p95:.2f} s: boxes come too late or too few (cost {cost:.0%})")
    if cost > SHARE:
        raise Wrong(f"{cost:.0%} of the box-seconds is too dear (p95 {found.p95:.2f} s)")
    return f"p95 {found.p95:.2f} s for {cost:.0%} of the box-seconds (simulated)"


q4 = lab.add(
    _scale,
    hints=(
        "Boxes come too late: believe a rush at once (up_after=0), and hold a box for fewer requests (ongoing).",
        "When it is in time and too dear, lower least, or let boxes go sooner (down_after).",
    ),
    code="mine = Autoscale(least=1, most=10, ongoing=2, up_after=0, down_after=60, start=20)",
)
