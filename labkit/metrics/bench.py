"""How fast is a model on this machine, and what does it take? One record for each variant.

pp and tg are llama-bench's (`tools/llama-bench/README.md` of llama.cpp): the network alone, without tokenization
and sampling. TTFT, TPOT, ITL and E2EL are those of real chat requests through `Model`, as a client sees them.
Variants take turns in random order; the first round warms up and is not kept. A model in this process is loaded
anew for each turn: what chance decides at loading, such as where the weights lie in memory, then shows in the spread,
as it does between two runs.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from labkit.engines.base import Model
from labkit.engines.registry import load
from labkit.errors import LabkitError, OptionInvalid
from labkit.metrics.probes import Bandwidth, memory_bandwidth, peak_rss
from labkit.metrics.records import METRICS, Record, about
from labkit.metrics.table import aligned
from labkit.models.gguf import inspect
from labkit.models.hardware import last_level_cache, usable_cores
from labkit.models.trial import run_in_child
from labkit.types import require_whole

WARM_UP = {"prompt": 16, "generate": 8}  # once all weights have been read, the system has them at hand
WORDS = "the lamp in the hall is on and the kettle is in the kitchen so nobody sits in the dark".split()
CHILD_TIMEOUT_S = 600.0
SHOWN = {"s": (1e3, "ms"), "bytes": (1e-6, "MB"), "bytes/s": (1e-9, "GB/s"), "share": (100, "%")}
Samples = dict[str, list[float]]


def bench(name: str = "nano", engine: str = "auto", variant: str | None = None, **keywords: Any) -> Record:
    """Measure one variant; keywords as those of `bench_all`."""
    return bench_all(name, engine, [variant], **keywords)[0]


def bench_all(
    name: str = "nano",
    engine: str = "auto",
    variants: Sequence[str | None] = (None,),
    *,
    prompt: int = 512,
    generate: int = 128,
    repeat: int = 5,
    seed: int = 0,
    progress: Callable[[], object] | None = None,
    **options: Any,
) -> list[Record]:
    """Measure variants of a model in turn; `options` are the engine's, as in `threads=2`.

    `prompt` tokens are read for pp (the context's size, if that is less), `generate` written for tg and for each
    chat request. `progress` is called after each of the (repeat + 1) × variants turns. Peak memory is that of a
    child process that loads one variant and does the same work: in a process that has lived for a while, what
    the allocator kept of earlier work would hide it.
    """
    for what, value, least in (("prompt", prompt, 1), ("generate", generate, 2), ("repeat", repeat, 1)):
        require_whole(what, value, least, 10**6)
    context = options.get("context")
    work = {"prompt": min(prompt, context) if isinstance(context, int) else prompt, "generate": generate}
    with ExitStack() as stack:
        runs = [_Run(name, engine, level, options, work) for level in variants]
        for run in runs:
            run.load()
            stack.callback(run.close)
        order = random.Random(seed)
        for turn in range(repeat + 1):
            for run in order.sample(runs, len(runs)):
                run.turn(keep=turn > 0)
                if progress:
                    progress()
        return [run.record(repeat=repeat, seed=seed) for run in runs]


class _Run:
    """One variant of the model and what was measured of it so far."""

    model: Model

    def __init__(
        self, name: str, engine: str, variant: str | None, options: dict[str, Any], work: dict[str, int]
    ) -> None:
        made = load(name, engine, variant, **options)  # so that the file is there when time and memory count
        made.close()
        self.raw, self.work, self.options = made.engine.raw_speed, work, dict(options)
        if self.raw and not options.get("threads"):  # else each load takes the cores that are free just then
            self.options["threads"] = usable_cores()
        self.place = {"name": name, "engine": made.engine.name, "variant": made.variant}
        self.turns, self.samples = 0, Samples()
        self.loads: list[float] = []
        self.figures: dict[str, float] = {}
        self.notes: list[str] = []

    def load(self) -> None:
        began = time.perf_counter()
        self.model = load(**self.place, **self.options)
        self.loads.append(time.perf_counter() - began)

    def close(self) -> None:
        self.model.close()

    def turn(self, keep: bool) -> None:
        found: Samples = {}
        if self.raw:
            if self.turns:
                self.model.close()
                self.load()
            self.model.engine.time_raw(**WARM_UP)
            read, written = self.model.engine.time_raw(**self.work)
            found = {"pp": [self.work["prompt"] / read], "tg": [self.work["generate"] / written]}
        found |= _chat(self.model, self.turns, **self.work)
        self.turns += 1
        for name, values in found.items() if keep else ():
            self.samples.setdefault(name, []).extend(values)

    def record(self, **settings: Any) -> Record:
        self.figures["load_time"] = statistics.median(self.loads)
        if self.raw:
            self._measure_peak()
        if self.raw and self.model.engine.file:
            self._compare_with_memory(memory_bandwidth(self.options["threads"]))
        facts = about(self.model, **self.work, **settings, **self.options)
        return Record("bench", {**facts, "notes": self.notes}, self.samples, self.figures)

    def _measure_peak(self) -> None:
        task = json.dumps({**self.place, **self.work, "options": self.options})
        try:
            said = run_in_child("labkit.metrics.bench", [self.place["name"], task], CHILD_TIMEOUT_S)
            self.figures["peak_memory"] = float(said)
        except LabkitError as error:  # what was timed is worth keeping
            self.notes.append(f"peak memory was not measured: {error.what}")

    def _compare_with_memory(self, memory: Bandwidth) -> None:
        weights = read_per_token(self.model)
        # tg begins with an empty cache, so on average a token reads half of what is written.
        per_token = weights + self.model.card.kv_bytes(self.work["generate"]) / 2
        share = statistics.mean(self.samples["tg"]) / (memory.bytes_per_s / per_token)
        self.figures |= {"weight_bytes": weights, "bandwidth": memory.bytes_per_s, "memory_bound": share}
        llc = last_level_cache()
        if llc and weights <= llc:
            fact = f"the weights ({weights / 1e6:.1f} MB) fit the last-level cache ({llc / 1e6:.1f} MB)"
            self.notes.append(f"{fact}, so main memory does not bound tg")
        if not memory.beyond_cache:
            self.notes.append("too little memory was free to measure the bandwidth beyond the cache")


def read_per_token(model: Model) -> int:
    """Return the bytes of the weights a dense model reads for each token.

    Of an embedding table that is not the output layer as well, a token reads one row: it does not count.
    """
    if model.engine.file is None:
        raise OptionInvalid(f"{model!r} has no file", fix="load(…, engine='llamacpp')")
    sizes = {tensor.name: tensor.size for tensor in inspect(model.engine.file).tensors}
    return sum(sizes.values()) - (sizes["token_embd.weight"] if "output.weight" in sizes else 0)


def _chat(model: Model, number: int, prompt: int, generate: int) -> Samples:
    """Ask once, with a first word of its own, so that no cache has read the prompt before."""
    count = max(1, prompt // 4)  # leaves room: a word may take three tokens
    text = " ".join([f"{number}:", *(WORDS * (count // len(WORDS) + 1))[:count]])
    reply = model.chat(text, max_tokens=generate, ignore_eos=True)
    timing, usage = reply.timing, reply.usage
    return {
        "ttft": [timing.ttft],
        "tpot": [timing.tpot],
        "itl": list(timing.itl),
        "e2el": [timing.stamps[-1] if timing.stamps else timing.total],
        "input_tokens": [float(usage.prompt_tokens)],
        "output_tokens": [float(usage.completion_tokens)],
    }


def peak_memory(task: dict[str, Any]) -> int:
    """Load one variant in this process, which must be fresh, do the work once, and return the peak in bytes."""
    import psutil

    before = psutil.Process().memory_info().rss
    with load(task["name"], task["engine"], task["variant"], **task["options"]) as model:
        model.engine.time_raw(task["prompt"], task["generate"])
        return peak_rss() - before


def table(records: Sequence[Record]) -> str:
    """Return a table for people, a column for each record, with the formula of every metric beneath."""
    facts = records[0].about
    names = [name for name in METRICS if any(name in {**r.samples, **r.figures} for r in records)]
    rows = [["", *(str(record.about["variant"]) for record in records)]]
    rows += [[_label(name, facts["settings"]), *(_cell(name, r) for r in records)] for name in names]
    settings = ", ".join(f"{key} {value}" for key, value in facts["settings"].items())
    lines = [f"{facts['model']} on {facts['engine']} {facts['engine_version']}: {settings}", ""]
    spread = "± is the standard deviation; a range in brackets goes from least to most, its median before."
    lines += [*aligned(rows, left=True), "", spread]
    lines += [f"{name:<14} {records[0].formulas.get(name, METRICS[name].formula)}" for name in names]
    return "\n".join(
        [*lines, *(f"{r.about['variant']}: {note}" for r in records for note in r.about["notes"])]
    )


def _label(name: str, settings: dict[str, Any]) -> str:
    tokens = {"pp": settings["prompt"], "tg": settings["generate"]}.get(name)
    return f"{name} {tokens}" if tokens else name


def _cell(name: str, record: Record) -> str:
    unit = METRICS[name].unit
    scale, shown = SHOWN.get(unit, (1.0, unit))
    if name in record.figures:
        return f"{scale * record.figures[name]:,.1f} {shown}"
    values = [scale * value for value in record.samples.get(name, ())]
    if not values:
        return "-"
    if METRICS[name].mean:
        spread = f" ± {statistics.stdev(values):,.1f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):,.1f}{spread} {shown}"
    return f"{statistics.median(values):,.2f} ({min(values):,.2f}–{max(values):,.2f}) {shown}"


if __name__ == "__main__":
    print(peak_memory(json.loads(sys.argv[2])))
