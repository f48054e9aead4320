"""Checks of lab 14, several agents."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from labkit.agents.intents import SPECIALISTS, Request, Route, by_keywords
from labkit.checks.core import Exercises, Wrong, compare, require_function
from labkit.errors import EngineFailed, EngineUnavailable
from labkit.metrics.trace import Event

lab = Exercises("14")

# What a model may say, and the label in it; None for an answer that is no label.
SAID = {
    "technical": "technical",
    " scheduling\n": "scheduling",
    "customer_service": "customer_service",
    "not customer_service": None,
    "technical or scheduling": None,
    "technical.": None,
    "the customer wants help": None,
    "sales": None,
    "": None,
}


def _label(read: Callable[[str], str | None]) -> str:
    require_function(read, "read_label")
    for said, right in SAID.items():
        found = read(said)
        if (found or None) == right:
            continue
        if right is None:
            raise Wrong(f"{said!r} is no label, and your function takes it for {found!r}: ask for equality")
        raise Wrong(f"{said!r} is the label {right!r}, and your function says {found!r}")
    return "what is no label counts as no answer, so that somebody else can be asked"


q1 = lab.add(
    _label,
    hints=(
        "Take the spaces off with .strip(), then look whether the rest is one of the labels.",
        "x in 'text' looks for a part of a text; x in SPECIALISTS asks whether it is one of the names.",
    ),
    code="def read_label(answer):\n    answer = answer.strip()\n    return answer if answer in SPECIALISTS else None",
)


def _guess(cases: Sequence[Request], share: float) -> str:
    route = by_keywords()
    told = [(route(case.text), case.specialist) for case in cases]
    hits, silent = sum(a == b for a, b in told), sum(not a for a, _ in told)
    n, labels = len(cases), len(SPECIALISTS)
    right = (hits + silent / labels) / n
    reasons = {
        hits / n: "that is the keywords alone: a guess is right for one silent request in three",
        (hits + silent) / n: "a guess is not always right: of three labels it hits one",
        (hits + silent / 2) / n: "there are three labels, not two",
        silent / n / labels: "those are the guesses alone: add what the keywords got right",
        100 * right: "give a share from 0 to 1, not percent",
    }
    formula = "(keywords' hits + a third of the requests on which they are silent) / all requests"
    compare(share, right, reasons, formula, within=0.002 / right)
    return f"dice would bring {hits} hits of {n} to {100 * right:.0f} %: a model has to beat that, not 0"


q2 = lab.add(
    _guess,
    hints=(
        'The keywords are silent where their route returns "". Count those, and the hits.',
        "Of the silent requests, a guess among three labels gets one third right on average.",
    ),
    code="hits = sum(keywords(case.text) == case.specialist for case in cases)\n"
    "silent = sum(not keywords(case.text) for case in cases)\nguessed = (hits + silent / 3) / len(cases)",
)


def _saved(event: Event, saved: float) -> str:
    runs = [child for child in event.children if child.kind == "run"]
    alone = sum(run.seconds for run in runs)
    right = alone - event.seconds
    reasons = {
        alone: "that is the time one after another: take off what they took together",
        event.seconds: "that is the time they took together",
        -right: "turn it over: one after another minus together",
        1000 * right: "give seconds, not milliseconds",
    }
    formula = "the sum of the children's seconds, less the seconds of the whole event"
    compare(saved, right, reasons, formula, within=max(0.002 / abs(right or 1), 0.01))
    return f"{alone:.2f} s of work in {event.seconds:.2f} s"


q3 = lab.add(
    _saved,
    hints=(
        "together.children are the runs of the three agents, and each has its seconds.",
        "One after another they would take sum(run.seconds for run in together.children).",
    ),
    code="saved = sum(run.seconds for run in together.children) - together.seconds",
)


def _safe(make: Callable[[Route], Route]) -> str:
    require_function(make, "safe")

    def failing(error: Exception) -> Route:
        def route(text: str) -> str:
            raise error

        return route

    if not callable(made := make(lambda text: "technical")):
        raise Wrong(f"safe(route) should return a function from a text to a name, not {made!r:.60}")
    if (said := made("my radio is dead")) != "technical":
        raise Wrong(f"a route that works should be left as it is: it said 'technical', yours says {said!r}")
    if make(lambda text: text)("the text") != "the text":
        raise Wrong("hand the text on to the route")
    for error in (EngineUnavailable("no network"), EngineFailed("the server ended")):
        try:
            said = make(failing(error))("my radio is dead")
        except type(error):
            raise Wrong(f"{type(error).__name__} came through: catch LabkitError, and return ''") from None
        if said != "":
            raise Wrong(f"where a route fails, the answer is '', so that the next can be asked; not {said!r}")
    try:
        make(failing(KeyError("a mistake")))("my radio is dead")
    except KeyError:
        return "a failing engine is passed over, and a mistake in the program still comes to light"
    raise Wrong("a KeyError is a mistake in the program: hide only LabkitError")


q4 = lab.add(
    _safe,
    hints=(
        "safe gets a route and returns a new one: define a function inside and return it.",
        'In it: try: return route(text), and except LabkitError: return "".',
    ),
    code="def safe(route):\n    def tried(text):\n        try:\n            return route(text)\n"
    '        except LabkitError:\n            return ""\n\n    return tried',
)
