"""Checks of lab 16, answers from documents at the edge."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from labkit.agents.knowledge import plan
from labkit.checks.core import Exercises, Wrong, require_function

lab = Exercises("16")


def _figures(ranks: Any, recall: float, mrr: float) -> str:
    if np.ndim(recall) or np.ndim(mrr):
        raise Wrong("recall_3 and mrr are one number each: take the mean")
    right, mean = float(np.mean(ranks <= 3)), float(np.mean(1 / ranks))
    if not abs(float(recall) - right) < 0.005:
        reasons = {
            100 * right: "give a share from 0 to 1",
            float(np.mean(ranks < 3)): "place 3 counts, too: <= 3",
        }
        near = (why for value, why in reasons.items() if abs(float(recall) - value) < 0.005)
        raise Wrong(
            next(near, f"recall_3 is not {float(recall):.3g}: which share of the ranks is 3 or less?")
        )
    if not abs(float(mrr) - mean) < 0.005:
        if abs(float(mrr) * float(np.mean(ranks)) - 1) < 0.01:
            raise Wrong("that is 1 / the mean rank: take 1 / rank of each question first, then the mean")
        raise Wrong(f"mrr is not {float(mrr):.3g}: it is the mean of 1 / rank over all questions")
    return f"recall@3 is {right:.2f}, MRR {mean:.2f}: the same as in the table"


q1 = lab.add(
    _figures,
    hints=(
        "ranks <= 3 is an array of yes and no; the mean of such an array is a share.",
        "1 / ranks is an array, too; a passage that was never found has rank infinity, and 1 / infinity is 0.",
    ),
    code="recall_3 = (ranks <= 3).mean()\nmrr = (1 / ranks).mean()",
)


def _nearest(nearest: Callable[..., Any]) -> str:
    require_function(nearest, "nearest")
    random = np.random.default_rng(5)
    vectors = random.normal(size=(200, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for k, query in ((1, vectors[7]), (5, vectors[40]), (8, -vectors[3])):
        fit = vectors @ query
        right = np.argsort(-fit)[:k].tolist()
        given = np.asarray(nearest(vectors, query, k)).ravel().tolist()
        if given == right:
            continue
        if given == np.argsort(fit)[:k].tolist():
            raise Wrong("those are the farthest: argsort puts the smallest first, so sort -fit")
        if given == right[::-1] or sorted(given) == sorted(right):
            raise Wrong("the right places in another order: the best comes first")
        if (
            all(isinstance(item, float) for item in given)
            and np.isin(np.asarray(given, np.float32), fit).all()
        ):
            raise Wrong("those are the cosines; wanted are the places (row numbers) of the texts")
        raise Wrong(f"for k = {k} the nearest are {right}, and yours gave {str(given):.60}")
    return "that is a whole vector index: exact, and fast enough for tens of thousands of passages"


q2 = lab.add(
    _nearest,
    hints=(
        "All vectors have length 1, so the cosine of each text with the query is vectors @ query.",
        "np.argsort gives places from the smallest to the largest; sort the negative, and take the first k.",
    ),
    code="def nearest(vectors, query, k):\n    return np.argsort(-(vectors @ query))[:k]",
)


def _overlap(texts: Sequence[str], overlap: int) -> str:
    longest = max(len(text.split()) for text in texts)
    if float(overlap) == longest - 1:
        return f"a sentence of {longest} words fits whole into some window, wherever the cuts fall"
    if float(overlap) == longest:
        raise Wrong("that is safe, but one word more than needed: the cut falls between two words")
    if 0 <= float(overlap) < longest:
        raise Wrong(
            f"a sentence of {longest} words that begins {longest - 1} words before a cut would be torn"
        )
    raise Wrong(
        f"{float(overlap):g} is not it: how long, in words, is the longest sentence that must stay whole?"
    )


q3 = lab.add(
    _overlap,
    hints=(
        "len(text.split()) counts words. Which is the longest sentence?",
        "Worst case: the last word of a sentence is the first one behind a cut. All its other words must be repeated.",
    ),
    code="overlap = max(len(text.split()) for text in evidence) - 1",
)


def decided(fit: Any, there: Any, floor: float) -> int:
    """Count the questions on which a floor decides rightly: answer where there is an answer, refuse elsewhere."""
    return int(((np.asarray(fit) >= floor) == np.asarray(there)).sum())


def _floor(fit: Any, there: Any, floor: float) -> str:
    given = decided(fit, there, float(floor))
    best = max(decided(fit, there, value) for value in [*np.asarray(fit).tolist(), np.inf])
    if best - given <= 1:
        return f"{given} of {len(fit)} right with {float(floor):.3f}; no floor gets more than {best}"
    asked, kept = np.asarray(there), np.asarray(fit) >= float(floor)
    lost, passed = int((asked & ~kept).sum()), int((~asked & kept).sum())
    raise Wrong(
        f"{given} of {len(fit)} right, {best} are possible: {lost} answerable questions are refused, and {passed} "
        f"without an answer pass; {'lower' if lost > passed else 'raise'} it"
    )


q4 = lab.add(
    _floor,
    hints=(
        "decided(fit, there, floor) counts right decisions. Try every value in fit as the floor.",
        "max(values, key=function) returns the value for which the function is largest.",
    ),
    code="floor = max(fit, key=lambda value: decided(fit, there, value))",
)


def _plan(
    here: Mapping[str, str], there: Mapping[str, str], fetch: Collection[str], drop: Collection[str]
) -> str:
    if isinstance(fetch, str) or isinstance(drop, str):
        raise Wrong("fetch and drop are collections of names")
    right, wanted, gone = plan(here, there), set(fetch), set(drop)
    if wanted != set(right.fetch):
        if wanted == set(there):
            raise Wrong("that fetches everything: what has the same hash here need not travel")
        if wanted == set(there) - set(here):
            raise Wrong("a document whose hash differs has changed: fetch it, too")
        raise Wrong(f"fetch: {_differ(wanted, set(right.fetch))}")
    if gone != set(right.drop):
        raise Wrong(f"drop: {_differ(gone, set(right.drop))}")
    return f"{len(wanted)} to fetch, {len(gone)} to drop, {len(right.keep)} stay where they are"


def _differ(given: set[str], right: set[str]) -> str:
    more, less = sorted(map(str, given - right)), sorted(right - given)
    return f"{more[0]} does not belong there" if more else f"{less[0]} is missing"


q5 = lab.add(
    _plan,
    hints=(
        "To fetch: every name in `there` whose hash is not the one in `here` (here.get(name) is None for a new one).",
        "To drop: the names that are in `here` and no longer in `there`.",
    ),
    code="fetch = {name for name in there if here.get(name) != there[name]}\ndrop = set(here) - set(there)",
)
