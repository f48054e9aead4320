"""Checks of lab 11, the engine race."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from labkit.checks.core import Exercises, Wrong, compare
from labkit.metrics.agreement import lead
from labkit.metrics.guide import Needs, best, recommend
from labkit.metrics.race import Race
from labkit.metrics.records import Record

Array = NDArray[np.float32]
lab = Exercises("11")

# Three sites: what they cannot do without, and which figure counts first among the engines that are left.
SITES = {
    "till": Needs(memory=1.5e9, system="Linux", first="start"),
    "help desk": Needs(callers=20, system="Linux", first="decode"),
    "field laptop": Needs(offline=True, strict_tools=True, system="Windows", first="memory"),
}
# What somebody saw where two engines parted, the lead of the reference's token there, in logits, and the cause.
DISAGREEMENTS = {
    "A": ("one says 'on the desk', the other 'on the table'; both are fine", 0.004, "rounding"),
    "B": ("one answers, the other goes on writing the user's question", 6.2, "template"),
    "C": ("the same answer, but one then writes <|im_end|> and a second answer", 9.5, "stop"),
}
CAUSES = {
    "rounding": "a lead that small is within what sums in another order change",
    "template": "the model was not shown whose turn it is: the prompt was put together wrongly",
    "stop": "the answer is complete, and one engine did not know the token that ends it",
}


def _speed(record: Record, speed: float) -> str:
    samples = record.samples["tpot"]
    right = 1 / statistics.median(samples)
    reasons = {
        1 / right: "that is seconds per token: turn it over",
        1000 * right: "samples are in seconds already: there is no 1000 in it",
        1 / statistics.mean(samples): "that is by the mean, which one slow request spoils: take the median",
        statistics.mean(
            1 / x for x in samples
        ): "that is a mean of speeds: take the median of the times first",
    }
    compare(speed, right, reasons, "a token takes the median TPOT, in seconds", within=0.005)
    return f"{record.about['engine']} writes {right:,.0f} tokens/s here: the figure of its row"


q1 = lab.add(
    _speed,
    hints=(
        "A sample of TPOT is the time one token takes, in seconds. Take the median of all samples.",
        "If a token takes t seconds, 1 / t tokens are written in a second.",
    ),
    code='speed = 1 / statistics.median(record.samples["tpot"])',
)


def _risk(ours: Array, others: Array, noise: float, at_risk: int) -> str:
    moved, leads = np.abs(ours - others), lead(ours)
    right = float(moved.max())
    if np.ndim(noise) or np.ndim(at_risk):
        raise Wrong("noise and at_risk are one number each: .max() and .sum() make one of an array")
    if abs(float(noise) / right - 1) > 0.01:
        mean = abs(float(noise) / float(moved.mean()) - 1) < 0.01
        raise Wrong("that is the mean: the worst score decides" if mean else "noise is the largest |a - b|")
    low, high = ((leads < 2 * right * edge).sum() for edge in (0.99, 1.01))
    if not low <= float(at_risk) <= high:
        if float(at_risk) == (leads < right).sum():
            raise Wrong("the first may fall by the noise while the second rises by it: count below 2 × noise")
        raise Wrong(f"{float(at_risk):g} is not it: count the tokens whose lead is below 2 × noise")
    flipped = int((ours.argmax(1) != others.argmax(1)).sum())
    return f"{float(at_risk):g} of {len(leads):,} tokens could fall the other way; {flipped} really did"


q2 = lab.add(
    _risk,
    hints=(
        "noise: np.abs(ours - others).max(), over all tokens and all scores.",
        "The lead shrinks by at most 2 × noise, so count the tokens with lead(ours) < 2 * noise.",
    ),
    code="noise = np.abs(ours - others).max()\nat_risk = (lead(ours) < 2 * noise).sum()",
)


def _causes(given: Mapping[str, str]) -> str:
    if not isinstance(given, Mapping) or set(given) != set(DISAGREEMENTS):
        raise Wrong(f"give a dict with a cause for each of {', '.join(DISAGREEMENTS)}")
    for name, (_, gap, cause) in DISAGREEMENTS.items():
        said = str(given[name]).strip().lower()
        if said not in CAUSES:
            raise Wrong(f"{name}: choose from {', '.join(CAUSES)}, not {given[name]!r:.40}")
        if said == "rounding" != cause:
            raise Wrong(f"{name}: rounding moves scores by hundredths, and the lead was {gap:g}")
        if said != cause:
            raise Wrong(f"{name} is something else: there, {CAUSES[cause]}")
    return "only A is nobody's fault; B and C are faults of a program, and can be mended"


q3 = lab.add(
    _causes,
    hints=(
        "Compare the lead with the noise you measured. Which of the three could rounding turn over?",
        "Of the other two: which model did not see whose turn it is, and which did not see the end?",
    ),
    code='causes = {"A": "rounding", "B": "template", "C": "stop"}',
)


def _sites(race: Race, given: Mapping[str, str | None]) -> str:
    if not isinstance(given, Mapping) or set(given) != set(SITES):
        raise Wrong(f"give a dict with an engine, or None, for each of {', '.join(SITES)}")
    for site, needs in SITES.items():
        right, said = best(race.rows, needs), given[site]
        verdicts = {verdict.engine: verdict for verdict in recommend(race.rows, needs)}
        if said in right or (said is None and not right):
            continue
        if said is None:
            raise Wrong(f"{site}: there is one that fits, look at {needs}")
        if said not in verdicts:
            raise Wrong(f"{site}: {said!r:.40} is not in your table; choose from {', '.join(verdicts)}")
        why = "; ".join(verdicts[said].reasons)
        raise Wrong(f"{site}: {said} " + (f"fits ({why})" if verdicts[said].fits else f"does not: {why}"))
    return ", ".join(f"{site}: {given[site] or 'none of these'}" for site in SITES)


q4 = lab.add(
    _sites,
    hints=(
        "Strike out the engines that a site's needs forbid; recommend(table.rows, needs) gives the reasons.",
        "Of those left, take the best in `first`: less is better but for decode. None left? Then None.",
    ),
    code="choice = {site: next(iter(best(table.rows, needs)), None) for site, needs in SITES.items()}",
)
