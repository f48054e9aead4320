"""What was measured, on what, and how: records as JSON lines, and the difference between two of them.

Every metric has one definition, in `METRICS`; a record carries those of its own metrics, so that figures made
by different definitions are never compared.
"""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import labkit
from labkit.engines.base import Model
from labkit.errors import OptionInvalid, StorageFailed
from labkit.models.hardware import machine
from labkit.models.jsonl import read_lines
from labkit.models.store import hash_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 2_000
ELSEWHERE = "another machine: "
# What makes a machine another one; free memory, load and charge differ from minute to minute.
IDENTITY = ("cpu", "arch", "logical_cores", "usable_cores", "npu")


@dataclass(frozen=True, slots=True)
class Metric:
    """Define a metric: `mean` says that samples are summed up by their mean, not by their median."""

    unit: str
    formula: str
    higher_is_better: bool | None
    mean: bool = False


# The sources are vLLM's benchmark (`vllm/benchmarks/serve.py`), llama.cpp's llama-bench and llama-perplexity.
METRICS: dict[str, Metric] = {
    "ttft": Metric("s", "request sent → first non-empty output, seen by the client", False),
    "tpot": Metric("s", "(last output - first output) / (output tokens - 1), per request", False),
    "itl": Metric("s", "every gap between streamed outputs, pooled over requests", False),
    "e2el": Metric("s", "request sent → last output", False),
    "lag": Metric("s", "scheduled send time → request really sent", False),
    "input_tokens": Metric("tokens", "tokens of the prompt, per request", None),
    "output_tokens": Metric("tokens", "tokens written, per request", None),
    "throughput": Metric("tokens/s", "output tokens / wall time of the run", True),
    "total_throughput": Metric("tokens/s", "(input + output tokens) / wall time of the run", True),
    "requests_per_s": Metric("requests/s", "requests answered / wall time of the run", True),
    "goodput": Metric("requests/s", "requests that met all targets / wall time of the run", True),
    "wall_time": Metric("s", "first request due → last request ended", None),
    "ok": Metric("requests", "requests answered to the end", True),
    "lost": Metric("requests", "requests without a connection, or without output in time", False),
    "failed": Metric(
        "requests", "requests answered by an HTTP error, an error event or an unreadable one", False
    ),
    "cut": Metric("requests", "requests whose answer ended without a finish reason or [DONE]", False),
    "pp": Metric("tokens/s", "prompt tokens / time to read them, without tokenization", True, mean=True),
    "tg": Metric("tokens/s", "tokens written / time, without sampling, from an empty cache", True, mean=True),
    "load_time": Metric(
        "s", "load() called → model ready, its file in the page cache; median of loads", False
    ),
    "start": Metric("s", "process started → first token; file made and in the page cache", False),
    "tree_memory": Metric("bytes", "peak RSS of the process and of its servers, summed; with Python", False),
    "prefill": Metric("tokens/s", "prompt tokens not in the cache / TTFT, per request", True),
    "peak_memory": Metric("bytes", "peak RSS of the engine's own process - its RSS before load", False),
    "weight_bytes": Metric("bytes", "size of the tensors read for each token", None),
    "bandwidth": Metric("bytes/s", "bytes of a buffer beyond the cache / time to read it, best run", True),
    "memory_bound": Metric("share", "tg / (bandwidth / (weight bytes + KV bytes read per token))", None),
    "nll": Metric("nats", "-ln p(right token), per scored token", False, mean=True),
    "token_rate": Metric("tokens/s", "tokens written since the last look / time since then", True),
    "running": Metric("requests", "requests that are being answered", None),
    "waiting": Metric("requests", "requests sent that have had no output, or that wait in a queue", False),
    "kv_tokens": Metric("tokens", "tokens read and written by a request: what its KV cache holds", None),
    "kv_cache_usage": Metric("share", "KV cache in use / KV cache, as the server says", None),
    "server_ttft": Metric(
        "s", "mean since the last page, from a request's arrival, seen by the server", False
    ),
    "server_itl": Metric("s", "mean gap between tokens since the last page, seen by the server", False),
    "rss": Metric("bytes", "resident memory of the process, or of a process and its children", None),
    "cpu": Metric("%", "processor time / time; 100 is one core", None),
    "memory_used": Metric("bytes", "memory of the machine that is not available", None),
    "battery": Metric("%", "charge of the battery", None),
    "package_power": Metric("W", "energy of the processor packages (RAPL) / time", None),
    "gpu_busy": Metric("%", "time in which a GPU ran something, summed over GPUs; 100 is one GPU", None),
    "gpu_memory": Metric("bytes", "memory used on all GPUs", None),
    "gpu_power": Metric("W", "power drawn by all GPUs (NVML)", None),
    "ppl": Metric("", "exp(mean negative log-likelihood per scored token)", False),
    "ppl_error": Metric("", "PPL × standard deviation of -ln p / √scored tokens", None),
    "ppl_base": Metric("", "PPL of the base on the same tokens", None),
    "ppl_ratio": Metric("", "PPL / PPL of the base", False),
    "ppl_ratio_error": Metric("", "ratio × standard deviation of ln p(base) - ln p / √scored tokens", None),
    "kl": Metric("nats", "KL(base ‖ quantized), per scored token", False, mean=True),
    "kl_mean_error": Metric("nats", "standard deviation of KL / √scored tokens", None),
    "dp": Metric("share", "p(right token) - p of the base, per scored token", None, mean=True),
    "dp_mean_error": Metric("share", "standard deviation of Δp / √scored tokens", None),
    "dp_rms_error": Metric("share", "standard error of mean Δp² / (2 × RMS Δp)", None),
    "same_top_error": Metric("share", "√(share × (1 - share) / (scored tokens - 1))", None),
    "kl_mean": Metric("nats", "mean of KL(base ‖ quantized) per scored token", False),
    "kl_median": Metric("nats", "median of KL(base ‖ quantized) per scored token", False),
    "kl_p999": Metric("nats", "99.9 % quantile of KL(base ‖ quantized) per scored token", False),
    "kl_max": Metric("nats", "maximum of KL(base ‖ quantized) per scored token", False),
    "dp_mean": Metric("share", "mean change of the right token's probability", None),
    "dp_rms": Metric("share", "root mean square change of the right token's probability", False),
    "same_top": Metric("share", "tokens whose most likely successor is the base's / scored tokens", True),
    "accuracy": Metric("share", "answers that are exactly right / cases", True),
}


@dataclass(frozen=True, slots=True)
class Record:
    """Hold one measurement: `samples` are raw values by metric, `figures` single numbers, in `METRICS`' units.

    What is NaN or infinite was not measured, so it is left out. Raises `OptionInvalid` for a metric that
    nobody defined. `formulas` are filled in here; a record that was read keeps those it was made by.
    """

    kind: str
    about: Mapping[str, Any]
    samples: Mapping[str, list[float]]
    figures: Mapping[str, float]
    formulas: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        samples = {name: [x for x in many if math.isfinite(x)] for name, many in self.samples.items()}
        figures = {name: x for name, x in self.figures.items() if math.isfinite(x)}
        formulas = dict(self.formulas) or {name: _formula(name) for name in (*samples, *figures)}
        for name, value in (("samples", samples), ("figures", figures), ("formulas", formulas)):
            object.__setattr__(self, name, value)


def _formula(name: str) -> str:
    if name not in METRICS:
        raise OptionInvalid(f"there is no metric {name!r}", fix="define it in labkit.metrics.records.METRICS")
    return f"{METRICS[name].formula} [{METRICS[name].unit}]"


def about(model: Model | str, /, **settings: Any) -> dict[str, Any]:
    """Say what is measured and where. `weights` is the sha256 of the file the engine runs, "" for no file.

    Of a server elsewhere only the address is known; the machine is the one that measures.
    """
    facts = {"engine": model, "engine_version": "", "model": "", "variant": "", "weights": ""}
    if isinstance(model, Model):
        facts |= {"engine": model.engine.name, "engine_version": model.engine.available().version}
        facts |= {"model": model.card.alias, "variant": model.variant, "weights": _weights(model.engine.file)}
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    first = {"labkit": labkit.__version__, "created": created, "machine": asdict(machine())}
    return {**first, **facts, "settings": settings}


def _weights(path: Path | None) -> str:
    try:
        state = path.stat() if path else None
        return _hashed(path, state.st_size, state.st_mtime_ns) if path and state else ""
    except (OSError, StorageFailed):  # deleted since it was loaded: what was measured is worth keeping
        return ""


@lru_cache(maxsize=64)
def _hashed(path: Path, size: int, changed: int) -> str:
    return hash_file(path)


def write(path: Path | str, records: Iterable[Record]) -> None:
    """Append records as JSON lines, each in one write; raise `StorageFailed` when that is not possible.

    A line that did not fit on the disk is taken back, and one that a crash left torn is closed first.
    """
    path = Path(path)
    lines = [json.dumps(asdict(r), ensure_ascii=False, allow_nan=False).encode() + b"\n" for r in records]
    try:
        with path.open("a+b", buffering=0) as file:
            for line in lines:
                if end := file.seek(0, os.SEEK_END):
                    file.seek(end - 1)
                    line = line if file.read(1) == b"\n" else b"\n" + line
                if file.write(line) != len(line):
                    file.truncate(end)
                    raise OSError(errno.ENOSPC, "no space left on the disk")
    except OSError as exc:
        fix = "make room, or name a file in a folder that you may write to"
        raise StorageFailed(f"{path} cannot be written: {exc.strerror}", fix=fix) from exc


def read(path: Path | str) -> list[Record]:
    """Read every record of a file; raise `LabkitError` with file and line of a bad one."""
    return read_lines(Path(path), _record, "record", "delete that line; each line stands for itself")


def _record(row: dict[str, Any]) -> Record:
    samples = {str(name): [float(x) for x in many] for name, many in row["samples"].items()}
    figures = {str(name): float(x) for name, x in row["figures"].items()}
    formulas = {str(name): str(text) for name, text in row["formulas"].items()}
    if missing := {*samples, *figures} - {*formulas}:
        raise ValueError(f"it has no formula of {min(missing)}")
    record = Record(str(row["kind"]), row["about"], samples, figures, formulas)
    _machine(record), _setting(record)  # what `compare` will ask for must be there
    return record


@dataclass(frozen=True, slots=True)
class Difference:
    """Compare one metric: `ratio` is after / before, `low` and `high` bound it (NaN where nothing can).

    `notes` say what else differs between the two runs.
    """

    metric: str
    unit: str
    before: float
    after: float
    ratio: float
    low: float
    high: float
    notes: tuple[str, ...] = ()

    @property
    def better(self) -> bool | None:
        """Return whether it got better; None where chance or the metric's nature leaves that open."""
        wanted = METRICS[self.metric].higher_is_better if self.metric in METRICS else None
        sure = self.low > 1 or self.high < 1
        return (self.ratio > 1) == wanted if sure and wanted is not None else None

    def __str__(self) -> str:
        bounds = f" ({self.low:.3f} to {self.high:.3f})" if math.isfinite(self.low) else ""
        verdict = {True: ", better", False: ", worse", None: ""}[self.better]
        place = ", on another machine" if any(note.startswith(ELSEWHERE) for note in self.notes) else ""
        change = f"{self.before:.6g} → {self.after:.6g} {self.unit}".rstrip()
        return f"{self.metric:<16} {change}: × {self.ratio:.3f}{bounds}{verdict}{place}"


def compare(
    before: Record, after: Record, *, confidence: float = 0.95, across_machines: bool = False
) -> list[Difference]:
    """Compare every metric that both records have, with a bootstrap interval of the ratio for samples.

    It holds what differs within the two runs; a machine that changed between them is not in it. Raises `OptionInvalid`
    when kind, machine (unless `across_machines`) or a metric's definition differ. Source: B. Efron, "Bootstrap
    methods: another look at the jackknife", Annals of Statistics 7 (1979), 1–26.
    """
    if not 0 < confidence < 1:
        raise OptionInvalid.of("confidence", confidence, "a number between 0 and 1, as in 0.95")
    if before.kind != after.kind:
        raise OptionInvalid(f"the kinds differ: {before.kind}, {after.kind}", fix="compare like with like")
    moved = _unlike(_machine(before), _machine(after))
    if moved and not across_machines:
        raise OptionInvalid(
            f"the machines differ: {'; '.join(moved)}",
            fix="across_machines=True, or --across-machines, allows that",
        )
    notes = (*(ELSEWHERE + text for text in moved), *_unlike(_setting(before), _setting(after)))
    sides = [{**r.samples, **{name: [x] for name, x in r.figures.items()}} for r in (before, after)]
    shared = [name for name in sides[0] if sides[0][name] and sides[1].get(name)]
    for name in shared:
        if before.formulas[name] != after.formulas[name]:
            formulas = f"{before.formulas[name]!r} and {after.formulas[name]!r}"
            raise OptionInvalid(
                f"the definitions of {name} differ: {formulas}", fix="measure both with one labkit"
            )
    alone = tuple(f"{name} is in one of them only" for name in {**sides[0], **sides[1]} if name not in shared)
    rows = {name: (_rows(name, sides[0]), _rows(name, sides[1])) for name in shared}
    return [_difference(name, *rows[name], confidence, notes + alone) for name in shared]


def _machine(record: Record) -> dict[str, Any]:
    facts = record.about["machine"]
    names = [gpu.get("name") for gpu in facts.get("gpus", ())]
    memory = round(facts.get("memory_total", 0) / 1e9)
    return {**{name: facts.get(name) for name in IDENTITY}, "memory_gb": memory, "gpus": names}


def _setting(record: Record) -> dict[str, Any]:
    top = ("model", "variant", "weights", "engine", "engine_version", "labkit")
    system = {name: record.about["machine"].get(name) for name in ("os", "python")}
    return {**{name: record.about.get(name) for name in top}, **system, **record.about["settings"]}


def _unlike(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    names = {**before, **after}
    pairs = ((name, before.get(name), after.get(name)) for name in names)
    return tuple(f"{name} {a!s:.60} → {b!s:.60}" for name, a, b in pairs if a != b)


def _rows(name: str, samples: Mapping[str, list[float]]) -> NDArray[Any]:
    import numpy as np

    # The gaps of one request depend on each other, so chance picks whole requests (about: some may be longer).
    values = np.array(samples[name])
    rows = min(len(values), len(samples.get("ttft") or values)) if name == "itl" else len(values)
    return values[: len(values) // rows * rows].reshape(rows, -1)


def _tail(counts: tuple[int, int], confidence: float) -> float:
    """Return at which quantile a bootstrap of so few rows reaches as far as Student's t.

    Source: T. Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69 (2015), 371–386
    (expanded percentile interval); t by M. Abramowitz, I. Stegun, "Handbook of mathematical functions", 26.7.5.
    """
    z, free, n = NormalDist().inv_cdf((1 + confidence) / 2), sum(counts) - 2, min(counts)
    t = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    return NormalDist().cdf(-t * math.sqrt(n / (n - 1)))


def _resampled(rows: NDArray[Any], middle: Any, random: Any) -> NDArray[Any]:
    import numpy as np

    size = max(1, 2**20 // rows.size)  # at a time, so that many samples need no more than some megabytes
    parts = (min(size, RESAMPLES - at) for at in range(0, RESAMPLES, size))
    picks = (random.integers(len(rows), size=(part, len(rows))) for part in parts)
    return np.concatenate([middle(rows[pick].reshape(len(pick), -1), axis=1) for pick in picks])


def _difference(
    name: str, before: NDArray[Any], after: NDArray[Any], confidence: float, notes: tuple[str, ...]
) -> Difference:
    import numpy as np

    metric = METRICS.get(name, Metric("", "", None))
    middle = np.mean if metric.mean else np.median
    centres = float(middle(before)), float(middle(after))
    low = high = math.nan
    counts = len(before), len(after)
    if min(counts) > 1:
        tail, random = _tail(counts, confidence), np.random.default_rng(0)
        drawn = [_resampled(rows, middle, random) for rows in (before, after)]
        with np.errstate(divide="ignore", invalid="ignore"):
            edges = np.quantile(np.divide(drawn[1], drawn[0]), [tail, 1 - tail])
        low, high = (float(edge) for edge in edges)
    ratio = centres[1] / centres[0] if centres[0] else math.nan
    return Difference(name, metric.unit, *centres, ratio, low, high, notes)
