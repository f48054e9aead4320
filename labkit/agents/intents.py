"""Which specialist gets a request? By keywords, by a model, or by keywords first; measured on generated requests.

A route is any function from a request's text to a specialist's name, or "" where it cannot tell.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from labkit.engines.base import Model
from labkit.metrics.agent_eval import Share
from labkit.metrics.cases import data_folder
from labkit.metrics.intervals import wilson
from labkit.types import Message

Route = Callable[[str], str]
SPECIALISTS = {
    "customer_service": "orders, bills and refunds",
    "technical": "things that do not work, errors and faults",
    "scheduling": "appointments, dates and times",
}
# Beginnings of words, as somebody writes them down who knows the shop.
KEYWORDS = {
    "customer_service": "order bill invoice receipt price cost pay paid charg money refund return discount "
    "voucher deliver parcel buy bought sell warranty complain colour",
    "technical": "error fault crash broken work start connect network wifi screen freez reset update noise slow "
    "log password install battery button app",
    "scheduling": "appointment book move date time meet visit call free remind plan calendar reserve "
    "monday tuesday wednesday thursday friday saturday sunday tomorrow",
}


@dataclass(frozen=True, slots=True)
class Request:
    """Hold a request and the specialist it is for."""

    text: str
    specialist: str


def requests(count: int = 100, split: str = "new", seed: int = 0) -> list[Request]:
    """Make requests to the specialists in turn. No wording is in two of the splits `known`, `new` and `odd`."""
    lists, draw = _wordings(), random.Random(f"{split} {seed}")
    made = []
    for place in range(count):
        name = list(SPECIALISTS)[place % len(SPECIALISTS)]
        made.append(Request(_fill(draw.choice(lists[f"{name} {split}"]), lists, draw), name))
    return made


def _fill(form: str, lists: Mapping[str, Sequence[str]], draw: random.Random) -> str:
    def value(slot: re.Match[str]) -> str:
        return str(draw.randint(100, 9999)) if slot[1] == "number" else draw.choice(lists[slot[1]])

    return re.sub(r"\{(\w+)\}", value, form)


@cache
def _wordings() -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    for line in (data_folder("intents") / "wordings.txt").read_text("utf-8").splitlines():
        if line.startswith("@"):
            rows = lists[line[1:]] = []
        elif line and not line.startswith("#"):
            rows.append(line)
    return lists


def by_keywords(keywords: Mapping[str, str] = KEYWORDS) -> Route:
    """Return the route to the specialist most of whose words begin a word of the text; "" for none, and for a tie."""
    stems = {name: re.compile(rf"\b(?:{'|'.join(words.split())})") for name, words in keywords.items()}

    def route(text: str) -> str:
        hits = {name: len(set(stem.findall(text.lower()))) for name, stem in stems.items()}
        best = [name for name, count in hits.items() if count == max(hits.values()) > 0]
        return best[0] if len(best) == 1 else ""

    return route


def question(text: str, specialists: Mapping[str, str] = SPECIALISTS) -> list[Message]:
    """Return the question for a label, in the form that nano was trained on."""
    labels = "".join(f"\n- {about} -> {name}" for name, about in specialists.items())
    task = f"Classify the message. Reply with the label only.{labels}\n\nMessage: {text}"
    return [{"role": "user", "content": task}]


def by_model(model: Model, specialists: Mapping[str, str] = SPECIALISTS, held: bool | None = None) -> Route:
    """Return the route that a model chooses; `held` to the labels by a grammar, which is so where the engine can."""
    held = model.engine.constrained if held is None else held
    grammar = "root ::= " + " | ".join(map(json.dumps, specialists)) if held else None

    def route(text: str) -> str:
        said = model.chat(question(text, specialists), grammar=grammar, max_tokens=24).text
        return said if said in specialists else ""  # exactly: "not technical" is no vote for technical

    return route


def first_of(*routes: Route) -> Route:
    """Return the route that asks each in turn until one can tell."""
    return lambda text: next(filter(None, (route(text) for route in routes)), "")


def measure(route: Route, cases: Sequence[Request]) -> Share:
    """Return the share of requests that come to the right specialist, with its 95 % interval."""
    hits = sum(route(case.text) == case.specialist for case in cases)
    return Share(len(cases), hits, hits / len(cases), *wilson(hits, len(cases)))
