"""Score an agent model: ask it every case once, greedily, and count exact answers with their intervals.

Free decoding is the model alone. Constrained decoding lets it choose between prose and calls as before, but once
it begins a call, a grammar admits only the offered tools and their schemas, and with "copy" only values that stand in
the conversation: it tells nothing of the right answer.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from labkit.engines.base import Model
from labkit.engines.toolgrammar import Constrained, grammar_for
from labkit.errors import LabkitError, OptionInvalid
from labkit.metrics.cases import Case, choose, read_cases
from labkit.metrics.intervals import wilson
from labkit.metrics.matching import matches, why
from labkit.metrics.records import about
from labkit.types import GenerationOptions

__all__ = ["Case", "Result", "Scores", "Share", "choose", "compare", "matches", "read_cases", "score", "why"]

MAX_TOKENS = 512
EDGES = (256, 512, 768, 1024, 1536)
LENGTHS = (*(f"≤{edge} tokens" for edge in EDGES), f">{EDGES[-1]} tokens", "unknown length")
GROUPS = ((), ("split",), ("skill",), ("split", "skill"), ("length",))


@dataclass(frozen=True, slots=True)
class Share:
    """Count hits among n cases; `low` and `high` bound the share with 95 % confidence (Wilson)."""

    n: int
    hits: int
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Result:
    """Keep what came of one case: `reason` says why it is a miss ("" for a hit), an error's name included."""

    case: Case
    reason: str
    text: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    def group(self, name: str) -> str:
        """Return the case's split, skill or level, or the bucket of its prompt's length."""
        if name != "length":
            return str(getattr(self.case, name))
        over = sum(self.prompt_tokens > edge for edge in EDGES)
        return LENGTHS[over if self.prompt_tokens else -1]

    def record(self) -> dict[str, Any]:
        """Return a plain dict that names its case by id."""
        case = {name: getattr(self.case, name) for name in ("id", "split", "skill", "level", "expected")}
        return {**case, **{name: getattr(self, name) for name in self.__slots__[1:]}}


@dataclass(frozen=True, slots=True)
class Scores:
    """Hold every result of one run, and `about`: model, variant, engine, version, machine, settings, data."""

    results: tuple[Result, ...]
    about: Mapping[str, Any]

    def by(self, *names: str) -> dict[str, Share]:
        """Count hits for each value of split, skill, level or length, or of several of them together."""
        found: dict[str, list[bool]] = {}
        shorter = sorted(self.results, key=lambda r: r.prompt_tokens or math.inf)
        for r in shorter if names == ("length",) else self.results:
            found.setdefault(" · ".join(map(r.group, names)) or "all", []).append(not r.reason)
        return {k: Share(len(v), sum(v), sum(v) / len(v), *wilson(sum(v), len(v))) for k, v in found.items()}

    def failures(self) -> dict[str, int]:
        """Count the misses by reason, the most frequent first."""
        return dict(Counter(r.reason for r in self.results if r.reason).most_common())

    def table(self) -> str:
        """Return a table for people."""
        return compare([self])

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield records for JSON lines: the run with all its figures, then every case with its raw answer."""
        run = {name: self.about[name] for name in ("model", "variant", "engine", "engine_version")}
        figures = {
            " · ".join(names): {key: asdict(share) for key, share in self.by(*names).items()}
            for names in GROUPS
        }
        yield {"kind": "run", **self.about, "by": figures, "failures": self.failures()}
        yield from ({"kind": "case", **run, **result.record()} for result in self.results)


def score(
    model: Model,
    cases: Sequence[Case],
    *,
    constrained: Constrained = False,
    max_tokens: int = MAX_TOKENS,
    progress: Callable[[], object] | None = None,
    **settings: Any,
) -> Scores:
    """Ask the model every case. An error of one case (`ContextOverflow`, …) is a miss, and the run goes on.

    `progress` is called after each case; `settings`, such as the engine's options, go into the record.
    Raises `OptionInvalid` for an engine that cannot constrain its output.
    """
    if constrained and not model.engine.constrained:
        raise OptionInvalid(f"{model.engine.name} cannot constrain its output", fix="leave out constrained")
    began, results = time.perf_counter(), []
    for case in cases:
        results.append(_ask(model, case, constrained, max_tokens))
        if progress:
            progress()
    used = {"temperature": 0, "max_tokens": max_tokens, "constrained": constrained, **settings}
    return Scores(tuple(results), _about(model, cases, used, time.perf_counter() - began))


def _about(model: Model, cases: Sequence[Case], settings: dict[str, Any], seconds: float) -> dict[str, Any]:
    return {
        **about(model, **settings),
        "cases_sha256": hashlib.sha256(json.dumps([asdict(c) for c in cases]).encode()).hexdigest(),
        "seconds": seconds,
    }


def _ask(model: Model, case: Case, constrained: Constrained, max_tokens: int) -> Result:
    began = time.perf_counter()
    try:
        grammar = grammar_for(case.tools, case.messages, constrained)
        options = GenerationOptions(max_tokens=max_tokens, grammar=grammar)
        reply = model.chat(case.messages, tools=case.tools, options=options)
    except LabkitError as error:
        return Result(case, type(error).__name__, error.what, seconds=time.perf_counter() - began)
    calls = tuple({"name": call.name, "arguments": call.arguments} for call in reply.tool_calls)
    used, reason = reply.usage, why(case.expected, reply, case.tools)
    return Result(
        case, reason, reply.text, calls, used.prompt_tokens, used.completion_tokens, reply.timing.total
    )


def compare(runs: Sequence[Scores]) -> str:
    """Return one table with a column for each run, in percent; a single run has its hits and intervals too."""
    about, single = runs[0].about, len(runs) == 1
    rows = [["% exact", "n", *(str(run.about["variant"]) for run in runs)]]
    rows[0] += ["hits", "95 % interval"] if single else []
    for names in GROUPS:
        columns = [run.by(*names) for run in runs]
        rows.append([])
        for key, first in columns[0].items():
            cells = (f"{100 * column[key].share:.1f}" if key in column else "-" for column in columns)
            more = [f"{first.hits:,}", f"{100 * first.low:.1f}–{100 * first.high:.1f}"] if single else []
            rows.append([key, f"{first.n:,}", *cells, *more])
    misses = [run.failures() for run in runs]
    reasons = dict.fromkeys(reason for found in misses for reason in found)
    rows += [[], *([f"misses: {r}", "", *(f"{found.get(r, 0):,}" for found in misses)] for r in reasons)]
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(rows[0]))]
    kind = {True: "constrained", "copy": "copying"}.get(about["settings"]["constrained"], "free")
    seconds = sum(run.about["seconds"] for run in runs)
    title = (
        f"{about['model']} on {about['engine']} {about['engine_version']}, {kind} decoding, {seconds:,.0f} s"
    )
    return "\n".join([title, "", *(_line(row, widths) for row in rows)]).rstrip()


def _line(row: list[str], widths: list[int]) -> str:
    cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=False)]
    return "  ".join([row[0].ljust(widths[0]), *cells[1:]]) if row else ""
