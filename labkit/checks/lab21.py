"""Checks of lab 21, deployment."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from labkit.checks.core import Exercises, Wrong, require_function
from labkit.deploy.settings import Deployment
from labkit.metrics.intervals import wilson

lab = Exercises("21")


def _clinic(clinic: Deployment) -> str:
    if not isinstance(clinic, Deployment):
        raise Wrong("give a Deployment(…)")
    rules = (
        (clinic.host == "ai.clinic.example", f"host is {clinic.host}: theirs is ai.clinic.example"),
        (
            clinic.replicas >= 3,
            f"{clinic.replicas} replicas: with one drained and one failed, none may be left",
        ),
        (clinic.max_replicas >= clinic.replicas, "max_replicas is below replicas"),
        (
            clinic.grace >= 60,
            f"grace is {clinic.grace} s: an answer may take a minute, and must not be cut off",
        ),
        (clinic.memory_gb >= 4, f"{clinic.memory_gb:g} GB a replica: their model needs 4"),
    )
    for kept, why in rules:
        if not kept:
            raise Wrong(why)
    return f"{clinic.replicas} to {clinic.max_replicas} replicas at {clinic.host}, {clinic.grace} s to end a stream"


q1 = lab.add(
    _clinic,
    hints=(
        "help(Deployment) lists the settings; the defaults stay for what nobody asked for.",
        "Two replicas may be away at once and one must remain; a stream needs 60 s of grace.",
    ),
    code='clinic = Deployment(host="ai.clinic.example", replicas=3, grace=60, memory_gb=4)',
)


def desired(replicas: int, queue: float, cpu: float, d: Deployment) -> int:
    """Return what the HPA asks for: the largest of ceil(replicas × figure / target), within its limits."""
    wishes = [
        math.ceil(replicas * figure / aim) for figure, aim in ((queue, d.queue_target), (cpu, d.cpu_target))
    ]
    return min(max(*wishes, d.replicas), d.max_replicas)


CASES = ((2, 8, 35), (2, 0, 10), (3, 4, 105), (4, 5, 70), (5, 100, 20), (8, 1, 20))


def _desired(wanted: Callable[[int, float, float, Deployment], int]) -> str:
    require_function(wanted, "wanted")
    d = Deployment()
    for replicas, queue, cpu in CASES:
        right, given = desired(replicas, queue, cpu, d), wanted(replicas, queue, cpu, d)
        if given == right:
            continue
        case = f"{replicas} replicas, {queue} waiting each, {cpu} % busy"
        both = [replicas * queue / d.queue_target, replicas * cpu / d.cpu_target]
        if given == math.floor(max(both)) or given == round(max(both)):
            raise Wrong(f"{case}: a part of a replica is a whole one more; round up")
        if given == math.ceil(max(both)):
            raise Wrong(f"{case}: {given} is outside of {d.replicas} to {d.max_replicas}")
        if given == max(d.replicas, min(math.ceil(min(both)), d.max_replicas)):
            raise Wrong(f"{case}: the figure that asks for more decides")
        raise Wrong(f"{case}: the HPA asks for {right}, yours for {given!r:.40}")
    return f"right in {len(CASES)} cases: the figure that asks for most decides, within the limits"


q2 = lab.add(
    _desired,
    hints=(
        "For each figure: math.ceil(replicas * figure / target). Its target is d.queue_target or d.cpu_target.",
        "Take the larger wish, then at least d.replicas and at most d.max_replicas.",
    ),
    code="def wanted(replicas, queue, cpu, d):\n"
    "    wish = max(replicas * queue / d.queue_target, replicas * cpu / d.cpu_target)\n"
    "    return min(max(math.ceil(wish), d.replicas), d.max_replicas)",
)

Ledger = dict[str, tuple[str, str]]
NORTH: Ledger = {"a": ("north", "6 lamps"), "b": ("south", "a chair"), "d": ("north", "cancelled")}
SOUTH: Ledger = {"b": ("south", "a chair"), "c": ("south", "2 kettles"), "d": ("south", "shipped")}


def _merge(merge: Callable[[Ledger, Ledger], Ledger]) -> str:
    require_function(merge, "merge")
    left, right = dict(NORTH), dict(SOUTH)
    one, other = merge(dict(left), dict(right)), merge(dict(right), dict(left))
    if not isinstance(one, dict) or not isinstance(other, dict):
        raise Wrong(f"merge returns a ledger, not {one!r:.40}")
    if lost := (left.keys() | right.keys()) - (one.keys() & other.keys()):
        raise Wrong(f"record {min(lost)} is lost")
    if one != other:
        raise Wrong("the nodes disagree: merge(here, there) and merge(there, here) differ for record d")
    if one.keys() != left.keys() | right.keys():
        raise Wrong("there is a record that nobody wrote")
    if one["d"] != NORTH["d"]:
        raise Wrong(f"record d is {one['d']}: of two with one id, the node whose name comes first remains")
    if merge(dict(one), dict(right)) != one:
        raise Wrong("the same message twice changes the ledger: it must not")
    return "in any order, and however often it is sent, every node ends with the same four records"


q3 = lab.add(
    _merge,
    hints=(
        "Begin with a copy of here. A record of there is new, or its id is known: what then?",
        "Tuples compare by their first item, here the node: min(mine, theirs) is the one that remains.",
    ),
    code="def merge(here, there):\n    both = dict(here)\n    for id, record in there.items():\n"
    "        both[id] = min(record, both.get(id, record))\n    return both",
)

WEIGHED = ((2, 1000, 0, 20), (2, 1000, 1, 400), (2, 1000, 30, 400), (10, 1000, 12, 1000), (0, 50, 20, 50))
ANSWERS = ("go on", "wait", "go back")


def judged(bad: int, n: int, canary_bad: int, canary_n: int) -> str:
    """Judge a new version by the shares of failed requests: clearly worse, hardly worse, or unknown."""
    low, high = wilson(canary_bad, canary_n)
    old_low, old_high = wilson(bad, n)
    return "go back" if low > old_high else "go on" if high <= old_high + 0.02 else "wait"


def _judge(judge: Callable[[int, int, int, int], str]) -> str:
    require_function(judge, "judge")
    for case in WEIGHED:
        bad, n, canary_bad, canary_n = case
        given, right = judge(*case), judged(*case)
        what = f"{bad} of {n} failed, and {canary_bad} of {canary_n} with the new version"
        if given not in ANSWERS:
            raise Wrong(f"answer with one of {', '.join(ANSWERS)}, not {given!r:.40}")
        if given != right:
            low, high = wilson(canary_bad, canary_n)
            raise Wrong(f"{what}: {right}, not {given}; its share is between {low:.1%} and {high:.1%} (95 %)")
    return f"right in {len(WEIGHED)} cases; one of them had no failure and still said nothing yet"


q4 = lab.add(
    _judge,
    hints=(
        "wilson(bad, n) returns the ends of the 95 % interval. Compare ends, not the shares themselves.",
        "Clearly worse: the canary's low end is above the old one's high end.",
    ),
    code="def judge(bad, n, canary_bad, canary_n):\n    old, new = wilson(bad, n), wilson(canary_bad, canary_n)\n"
    '    if new[0] > old[1]:\n        return "go back"\n    return "go on" if new[1] <= old[1] + 0.02 else "wait"',
)


def answers(records: Iterable[Any]) -> int:
    """Count the answers among records of a ledger."""
    return sum(record.id.endswith("/done") for record in records)
