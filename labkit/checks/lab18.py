"""Checks of lab 18, a production service."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, repeat
from typing import Any

from labkit.checks.core import Exercises, Wrong, compare, require_function
from labkit.serving.settings import Settings

STUDENTS, HOURS = 30, 8
TRIES = 10
lab = Exercises("18")


def _share(speed: float, share: float) -> str:
    right = speed * 3600 * HOURS / STUDENTS
    reasons = {
        right * STUDENTS: f"that is for all {STUDENTS} of them",
        right / 3600: "an hour has 3,600 s",
        right * 24 / HOURS: f"the class works {HOURS} hours of the day, not 24",
    }
    compare(share, right, reasons, "tokens/s × seconds of a working day / students", within=0.02)
    return f"{right:,.0f} tokens a day for each, if {STUDENTS} students share {speed:,.0f} tokens/s evenly"


q1 = lab.add(
    _share,
    hints=(
        "In 8 hours there are 8 * 3600 seconds, and the machine writes `speed` tokens in each.",
        "speed * 8 * 3600 tokens are there for 30 students.",
    ),
    code="share = speed * 8 * 3600 / 30",
)


def _rescued(lines: Sequence[Mapping[str, Any]], rescued: int) -> str:
    tried = [line for line in lines if line.get("tried")]
    right = sum(line["status"] == 200 and len(line["tried"]) > 1 for line in tried)
    if rescued == sum(len(line["tried"]) > 1 for line in tried) != right:
        raise Wrong("some of these had a second try that failed as well: the status must be 200")
    if rescued == sum(line["status"] == 200 for line in tried) != right:
        raise Wrong("that counts all that were answered; rescued are those that took more than one try")
    if rescued == sum(len(line["tried"]) - 1 for line in tried) != right:
        raise Wrong("that counts tries; count requests")
    if not isinstance(rescued, int) or rescued != right:
        raise Wrong(f"{rescued!r:.40} is not it: look at len(line['tried']) and at line['status']")
    if not right:
        raise Wrong("none was rescued in this log: run the cells of this section again, the kill included")
    return f"{right} requests met a dead engine and were answered all the same"


q2 = lab.add(
    _rescued,
    hints=(
        "line['tried'] is a list of [backend, outcome]; one that is longer than 1 tells of a failover.",
        "Count the lines with a status of 200 whose list is longer than 1; not every line has one: line.get('tried').",
    ),
    code="rescued = sum(line['status'] == 200 and len(line.get('tried') or []) > 1 for line in lines)",
)

Answer = tuple[int, float]


def _try(patient: Callable[..., Any], answers: Sequence[Answer]) -> tuple[Any, int, list[float]]:
    """Return what a client said, how often it asked, and how long it slept each time."""
    script, slept, asked = chain(answers, repeat(answers[-1])), list[float](), 0

    def send() -> Answer:
        nonlocal asked
        asked += 1
        if asked > TRIES * 5:
            raise Wrong(
                "it asks on and on: give up after a few tries, or a crowd of such clients is an attack"
            )
        return next(script)

    return patient(send, slept.append), asked, slept


def _patient(patient: Callable[..., Any]) -> str:
    require_function(patient, "patient")
    said, asked, slept = _try(patient, [(200, 0)])
    if said != 200:
        raise Wrong(f"it returned {said!r:.40} for a status of 200: return the last status")
    if asked != 1 or slept:
        raise Wrong(
            f"an answer at once needs 1 request and no sleep; it sent {asked} and slept {len(slept)} times"
        )
    said, asked, slept = _try(patient, [(503, 7), (429, 3), (200, 0)])
    if said != 200 or asked != 3:
        raise Wrong(f"after a 503 and a 429 comes a 200; it sent {asked} requests and returned {said!r:.40}")
    if len(slept) != 2 or slept[0] < 7 or slept[1] < 3:
        raise Wrong(f"Retry-After was 7 s, then 3 s; it slept {slept}")
    for status in (400, 401):
        said, asked, _ = _try(patient, [(status, 0)])
        if asked > 1:
            raise Wrong(f"{status} will not get better by asking again; it asked {asked} times")
        if said != status:
            raise Wrong(f"it returned {said!r:.40} for a status of {status}")
    said, asked, _ = _try(patient, [(503, 1)])
    if asked > TRIES or said != 503:
        raise Wrong(
            f"where there is only 503, it should give up after {TRIES} requests at most, and return 503"
        )
    return (
        f"it waits as long as it was told, gives up after {asked} requests, and does not repeat what is wrong"
    )


q3 = lab.add(
    _patient,
    hints=(
        "for _ in range(5): status, after = send(); return if the status is neither 429 nor 503; else sleep(after).",
        "After the loop, return the status that came last.",
    ),
    code="def patient(send, sleep):\n    for _ in range(5):\n        status, after = send()\n"
    "        if status not in (429, 503):\n            break\n        sleep(after)\n    return status",
)
EMAIL = "ada@example.org"


def _site(site: Settings) -> str:
    if not isinstance(site, Settings):
        raise Wrong(f"give Settings(…) or Settings.read(…), not {type(site).__name__}")
    wrongs = (
        (site.host in ("127.0.0.1", "localhost", "::1"), "only its own machine reaches it: set host"),
        (not site.keys, "the clinic must know who asked: set keys"),
        (site.wait > 5, f"a nurse waits {site.wait:g} s for the first word, not 5: set wait"),
        (site.cache != "off", "answers about patients would lie in a file: set cache"),
        (site.audit_text, "the audit log would hold what was asked about patients: leave audit_text out"),
        (not site.mask, "an e-mail address would pass through: set mask to a regular expression"),
        (not re.search(site.mask, f"write to {EMAIL} now"), f"mask does not find {EMAIL}"),
        (bool(re.search(site.mask, "Take two pills at noon")), "mask blots out what is no address, too"),
        (not site.tls_cert, "keys and answers would travel in the clear: set tls_cert and tls_key"),
    )
    for wrong, why in wrongs:
        if wrong:
            raise Wrong(why)
    return "reachable for the ward, nobody without a key, encrypted, and nothing about patients on disk"


q4 = lab.add(
    _site,
    hints=(
        "Settings refuses an open host without keys; host='0.0.0.0' is every network of the machine.",
        r"mask=r'\S+@\S+\.\w+' finds e-mail addresses; wait is in seconds; cache may be 'off'.",
    ),
    code="site = Settings(host='0.0.0.0', keys=True, wait=5, cache='off', mask=r'\\S+@\\S+\\.\\w+',\n"
    "                tls_cert='ward.pem', tls_key='ward.key')",
)
