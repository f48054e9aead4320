"""The same prompts and the same weights on every engine: who starts first, who is fast, who is small, who agrees?

Each engine runs in a process of its own, so that start-up and memory are its own, at the fullest precision it has.
A first process makes files and warms caches and is not kept; then the engines take turns in random order. What an
engine lacks, or breaks at, is a line of the result, and the race goes on.
"""

from __future__ import annotations

import json
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from labkit.engines.base import Model
from labkit.engines.doctor import WITHOUT_MODEL, availability
from labkit.engines.registry import engine_class, entries, load
from labkit.errors import EngineUnavailable, LabkitError
from labkit.metrics import records
from labkit.metrics.agreement import ANSWER_TOKENS, Parting, partings, spelled_out
from labkit.metrics.bench import WORDS
from labkit.metrics.cases import Case, data_folder, read_cases
from labkit.metrics.probes import loaded_machine, peak_of_tree
from labkit.metrics.records import METRICS, Record, about
from labkit.metrics.sweep import run_point
from labkit.metrics.table import Column, Table
from labkit.models.catalog import find
from labkit.models.hardware import usable_cores
from labkit.types import Reply, require_whole

HELLO = "Hello! Who are you?"
TIMED = " ".join((WORDS * 8)[:160])
TIMED_TOKENS, PROCESS_S = 64, 900.0
# The level at which each engine has the weights unrounded, and its options; the first that runs is the reference.
FULL: dict[str, tuple[str | None, dict[str, Any]]] = {
    "llamacpp": ("F16", {"threads": 0}),
    "llamaserver": ("F16", {"threads": 0, "slots": 1}),
    "ollama": ("F16", {}),
    "onnx": ("fp32", {"threads": 0}),
    "foundry": ("fp32", {"threads": 0}),
    "mlx": ("fp32", {}),
    "vllm": ("float32", {"threads": 0, "max_num_seqs": 4}),
}
SAMPLES = ("start", "tree_memory", "ttft", "prefill", "tpot")
COLUMNS = {
    "start": Column("start", "s", 1, 2, METRICS["start"].formula),
    "memory": Column("memory", "MB", 1e-6, 0, METRICS["tree_memory"].formula),
    "ttft": Column("TTFT", "ms", 1e3, 1, METRICS["ttft"].formula),
    "prefill": Column("prefill", "tokens/s", 1, 0, METRICS["prefill"].formula),
    "decode": Column("decode", "tokens/s", 1, 0, "1 / TPOT, of all answers"),
    "same": Column("same", "%", 100, 1, "greedy answers that are the reference's, to the letter / prompts"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """Hold one engine's medians, in seconds, bytes, tokens/s and shares, and what it is able to do."""

    engine: str
    start: float
    memory: float
    ttft: float
    prefill: float
    decode: float
    same: float
    concurrent: bool
    constrained: bool


@dataclass(frozen=True, slots=True, repr=False)
class Race(Table):
    """Hold a row for each engine that ran, why others did not (`missing`), and every raw sample (`records`)."""

    title: str
    rows: tuple[Row, ...]
    partings: tuple[Parting, ...]
    missing: dict[str, str]
    records: tuple[Record, ...]

    @property
    def cells(self) -> list[list[str]]:
        """Return the table as text, its headings first."""
        rows = [[r.engine, *(c.shown(getattr(r, name)) for name, c in COLUMNS.items())] for r in self.rows]
        return [["", *(c.head for c in COLUMNS.values())], *rows]

    @property
    def footer(self) -> list[str]:
        """Return who did not run and why, and the formula of every column."""
        lines = [f"{name} did not run: {why}" for name, why in self.missing.items()]
        return [*lines, *(f"{c.heading} = {c.formula}" for c in COLUMNS.values()), "figures are medians"]


def race(
    name: str = "nano",
    engines: Sequence[str] | None = None,
    *,
    prompts: int = 16,
    repeat: int = 5,
    starts: int = 1,
    threads: int | None = None,
    progress: Callable[[], object] = lambda: None,
) -> Race:
    """Run a model on engines (all that are installed) and return what was measured.

    `prompts` evaluation cases are asked for agreement and `repeat` long prompts timed, in `starts` processes each.
    `progress` is called after each of the (starts + 1) × engines processes. Raises `EngineUnavailable` for a name
    that no engine has, and where none is installed; a busy machine is noted, not refused.
    """
    work = {"prompts": prompts, "repeat": repeat, "threads": threads or usable_cores()}
    for what, value in {**work, "starts": starts}.items():
        require_whole(what, value, 1, 10_000)
    find(name), pick(1)  # what is wrong for every engine is found first
    names, missing = entrants(engines)
    busy, order, kept = loaded_machine(), random.Random(0), dict[str, list[Record]]()
    for turn in range(starts + 1):
        for engine in order.sample(names, len(names)):
            asked = work if turn else {**work, "prompts": 0, "repeat": 0}
            if engine not in missing:
                point = {"name": name, "engine": engine, "began": time.time(), **asked}
                found = run_point(point, __name__, PROCESS_S)
                if isinstance(found, str):
                    missing[engine] = found
                elif turn:
                    kept.setdefault(engine, []).append(found)
            progress()
    title = f"{name}: {', '.join(f'{what} {value}' for what, value in work.items())}; all measured"
    title += f"; not to be trusted: {busy}" * bool(busy)
    return result([_pooled(kept[e]) for e in names if e in kept and e not in missing], missing, title)


def entrants(asked: Sequence[str] | None = None) -> tuple[list[str], dict[str, str]]:
    """Return the engines that can run, in the order of `FULL`, and of the others why not and how to get them."""
    for engine in asked or ():
        engine_class(engine)
    wanted = asked or [engine for engine in entries() if engine not in WITHOUT_MODEL]
    names = [engine for engine in dict.fromkeys((*FULL, *entries())) if engine in wanted]
    states = {engine: availability(engine) for engine in names}
    missing = {e: f"{s.reason} → {s.fix}" for e, s in states.items() if not s.installed}
    if len(missing) == len(names):
        raise EngineUnavailable("none of these engines is installed", fix="labkit doctor")
    return [engine for engine in names if engine not in missing], missing


def result(found: Sequence[Record], missing: dict[str, str], title: str = "") -> Race:
    """Return the result of one record an engine, such as those that `labkit race --json` wrote."""
    answers = {record.about["engine"]: record.about["answers"] for record in found}
    base: dict[str, str] = next(iter(answers.values()), {})
    parted = tuple(p for engine, given in answers.items() for p in partings(engine, base, given))
    return Race(title, tuple(_row(record, parted) for record in found), parted, dict(missing), tuple(found))


def pick(count: int, name: str = "nano") -> list[Case]:
    """Return evaluation cases from everywhere in the set, the same ones each time, their tools spelled out."""
    cases = read_cases(data_folder()) if count else []
    return spelled_out(cases[:: max(1, len(cases) // max(1, count))][:count], name)


def _row(record: Record, parted: Sequence[Parting]) -> Row:
    facts, samples = record.about, record.samples
    middle = {name: statistics.median(samples.get(name) or [math.nan]) for name in SAMPLES}
    return Row(
        engine=facts["engine"],
        memory=middle.pop("tree_memory"),
        decode=1 / middle.pop("tpot"),
        same=1 - sum(p.engine == facts["engine"] for p in parted) / max(1, len(facts["answers"])),
        concurrent=facts["concurrent"],
        constrained=facts["constrained"],
        **middle,
    )


def _pooled(turns: Sequence[Record]) -> Record:
    return replace(turns[0], samples={k: [x for t in turns for x in t.samples[k]] for k in turns[0].samples})


def fullest(engine: str, threads: int) -> tuple[str | None, dict[str, Any]]:
    """Return the level and the options at which an engine has the weights unrounded."""
    level, options = FULL.get(engine, (None, {}))
    return level, {name: threads if name == "threads" else value for name, value in options.items()}


def measure(name: str, engine: str, began: float, prompts: int, repeat: int, threads: int) -> Record:
    """Measure one engine in this process, which was started for it alone when time.time() was `began`."""
    level, options = fullest(engine, threads)
    with load(name, engine, level, **options) as model:
        model.chat(HELLO, max_tokens=1)
        start = time.time() - began
        # A first word of its own, so that no cache has read the prompt before; the first of all warms up.
        texts = [f"{number}: repeat {TIMED}" for number in range(repeat + bool(repeat))]
        timed = [model.chat(text, max_tokens=TIMED_TOKENS) for text in texts][1:]
        replies = {case.id: _answer(model, case) for case in pick(prompts, name)}
        memory = float(peak_of_tree())
        facts = about(model, prompts=prompts, repeat=repeat, **options)
        facts |= {"concurrent": model.engine.concurrent, "constrained": model.engine.constrained}
    samples = {
        "start": [start],
        "tree_memory": [memory],
        "ttft": [r.timing.ttft for r in timed],
        "prefill": [(r.usage.prompt_tokens - r.usage.cached_tokens) / r.timing.ttft for r in timed],
        "tpot": [r.timing.tpot for r in (*timed, *replies.values()) if isinstance(r, Reply)],
    }
    return Record("race", {**facts, "answers": {k: str(r) for k, r in replies.items()}}, samples, {})


def _answer(model: Model, case: Case) -> Reply | str:
    try:
        return model.chat(case.messages, max_tokens=ANSWER_TOKENS)
    except LabkitError as error:  # an answer, too: engines should agree in what they refuse
        return type(error).__name__


def main(task: str, out: str) -> int:
    """Measure what `task` (JSON) asks for into the file `out`; print a `LabkitError` and its remedy in one line."""
    try:
        records.write(out, [measure(**json.loads(task))])
    except LabkitError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
