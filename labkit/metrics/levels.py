"""What each quantization level of one model costs and what it buys: one row a level, all measured here.

Speed and memory come from `bench`, guesses from `quality`, tool calls from `agent_eval`. Samples are small, so that
a lesson can wait for them; every error and interval stands beside its figure. More: `labkit bench`, `labkit eval`.
"""

from __future__ import annotations

import itertools
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labkit.engines.base import Model
from labkit.engines.registry import load
from labkit.errors import OptionInvalid
from labkit.metrics.agent_eval import Case, Scores, Share, choose, read_cases, score
from labkit.metrics.bench import bench_all
from labkit.metrics.cases import data_folder
from labkit.metrics.probes import loaded_machine
from labkit.metrics.quality import divergence
from labkit.metrics.records import METRICS, Record
from labkit.metrics.table import Column, Table
from labkit.models.gguf import inspect
from labkit.models.hardware import free_cores
from labkit.types import require_whole

LEVELS = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_1", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")
LEAST_TEXT = 4_000  # characters: more than one window of 512 tokens
TOKENS = 64  # read for pp, written for tg


COLUMNS = {
    "file_bytes": Column("size", "MB", 1e-6, 2, "bytes of the file"),
    "bits": Column("bits/weight", "", 1, 2, "8 × bytes of the tensors / weights"),
    "load_time": Column("load", "ms", 1e3, 0, METRICS["load_time"].formula),
    "tg": Column("tg", "tokens/s", 1, 0, f"{METRICS['tg'].formula}; ± sd of the runs"),
    "peak_memory": Column("peak memory", "MB", 1e-6, 0, METRICS["peak_memory"].formula),
    "ppl": Column("PPL", "", 1, 2, METRICS["ppl"].formula),
    "kl": Column("KL", "nats", 1, 4, METRICS["kl_mean"].formula),
    "same_top": Column("same top", "%", 100, 1, METRICS["same_top"].formula),
    "calls": Column(
        "calls right", "%", 100, 0, "exact calls / cases; in brackets the 95 % interval (Wilson)"
    ),
}


@dataclass(frozen=True, slots=True)
class Level:
    """Hold what was measured of one level, in bytes, seconds, tokens/s, nats and shares from 0 to 1.

    `errors` has the standard error of ppl, kl and same_top, and the standard deviation of tg.
    """

    level: str
    file_bytes: int
    bits: float
    load_time: float
    tg: float
    peak_memory: float
    ppl: float
    kl: float
    same_top: float
    calls: Share
    errors: Mapping[str, float]


@dataclass(frozen=True, slots=True, repr=False)
class LevelTable(Table):
    """Hold one row a level, the base first; `records` and `scores` keep every raw sample behind them."""

    title: str
    rows: tuple[Level, ...]
    notes: tuple[str, ...]
    records: tuple[Record, ...]
    scores: tuple[Scores, ...]

    @property
    def cells(self) -> list[list[str]]:
        """Return the table as text, its headings first."""
        return [
            ["", *(c.head for c in COLUMNS.values())],
            *([row.level, *(_cell(row, name) for name in COLUMNS)] for row in self.rows),
        ]

    @property
    def footer(self) -> list[str]:
        """Return what to know about this run, then the formula of every column."""
        formulas = (f"{c.heading} = {c.formula}" for c in COLUMNS.values())
        return [*self.notes, *formulas, "± without more said is the standard error"]


def measure_levels(
    name: str = "nano",
    levels: Sequence[str] = LEVELS,
    *,
    characters: int = 6_000,
    cases: int = 24,
    repeat: int = 3,
    progress: Callable[[int, int], object] | None = None,
    **options: Any,
) -> LevelTable:
    """Measure levels of a model on llama.cpp; the first is the base of KL and same top. Takes half a minute.

    `characters` of held-out conversations are guessed, and the `cases` shortest tool-call cases of the split *seen*
    asked. `options` are the engine's, as in `threads=1`. A busy machine is noted, not refused. `progress` is called
    with (steps done, all steps); without it a bar is drawn.
    """
    from tqdm import tqdm

    if not levels or isinstance(levels, str):
        raise OptionInvalid.of("levels", levels, "a list, the base first: ['F16', 'Q4_K_M']")
    text, asked, busy = _text(characters), _cases(cases), loaded_machine()
    # The same for all levels; threads that wait for a core that others use would stall the engine.
    options = {"threads": free_cores(), **options}
    rows, found, scores = [], [], []
    total, done = len(levels) * (repeat + 2 + len(asked)), itertools.count(1)
    quiet = progress is not None
    with tqdm(desc=f"measuring {name}", total=total, file=sys.stdout, mininterval=1, disable=quiet) as bar:

        def step() -> None:
            bar.update()
            if progress:
                progress(next(done), total)

        work = {"prompt": TOKENS, "generate": TOKENS, "repeat": repeat}
        speed = bench_all(name, "llamacpp", levels, progress=step, **work, **options)
        with load(name, "llamacpp", levels[0], **options) as base:
            for level, timed in zip(levels, speed, strict=True):
                with load(name, "llamacpp", level, **options) as model:
                    guesses = divergence(base, model, text)
                    step()
                    scores.append(score(model, asked, progress=step, **options))
                    rows.append(_row(model, timed, guesses, scores[-1]))
                    found += [timed, guesses]
    notes = (f"not to be trusted: {busy}",) * bool(busy) + _notes(speed)
    scored = found[1].about["settings"]["scored"]
    work_done = f"{scored:,} tokens guessed, {len(asked)} calls asked, threads: {options['threads']}"
    title = f"{name}, base {rows[0].level}: all measured; {work_done}"
    return LevelTable(title, tuple(rows), notes, tuple(found), tuple(scores))


def _row(model: Model, timed: Record, guesses: Record, scores: Scores) -> Level:
    path, tg, figures = Path(str(model.engine.file)), timed.samples["tg"], guesses.figures
    errors = {
        "ppl": figures["ppl_error"],
        "kl": figures["kl_mean_error"],
        "same_top": figures["same_top_error"],
    }
    return Level(
        level=model.variant.upper(),
        file_bytes=path.stat().st_size,
        bits=inspect(path).bits_per_weight,
        load_time=timed.figures["load_time"],
        tg=statistics.mean(tg),
        peak_memory=timed.figures.get("peak_memory", math.nan),
        ppl=figures["ppl"],
        kl=figures["kl_mean"],
        same_top=figures["same_top"],
        calls=scores.by()["all"],
        errors=errors | ({"tg": statistics.stdev(tg)} if len(tg) > 1 else {}),
    )


def _notes(speed: Sequence[Record]) -> tuple[str, ...]:
    """Return each kind of note once: what holds for a level's weights holds for smaller ones, too."""
    kept: dict[str, str] = {}
    for record in speed:
        for note in record.about["notes"]:
            kept.setdefault(note.partition("(")[0], f"{record.about['variant']}: {note}")
    return tuple(kept.values())


def _text(characters: int) -> str:
    require_whole("characters", characters, LEAST_TEXT, 10**9)
    return (data_folder("texts") / "agent_heldout.txt").read_text("utf-8")[:characters]


def _cases(count: int) -> list[Case]:
    require_whole("cases", count, 1, 10**6)
    calls = choose(read_cases(data_folder() / "seen.jsonl"), skills=["call"])
    return sorted(calls, key=lambda case: len(str(asdict(case))))[:count]


def _cell(row: Level, name: str) -> str:
    column = COLUMNS[name]
    value = row.calls.share if name == "calls" else getattr(row, name)
    shown = column.shown(value)
    if name == "calls":
        return f"{shown} ({100 * row.calls.low:.0f}–{100 * row.calls.high:.0f})"
    error = row.errors.get(name)
    return shown if error is None else f"{shown} ± {column.scale * error:,.{column.digits}f}"
