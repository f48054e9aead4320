"""Records of load as tables for people."""

from __future__ import annotations

from collections.abc import Sequence

from labkit.metrics.load import FATES
from labkit.metrics.records import METRICS, Record
from labkit.metrics.table import aligned

P99_SAMPLES = 1_000


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return p50 and p90 by linear interpolation, and p99 from 1,000 samples on; nothing of nothing."""
    import numpy as np

    wanted = [50, 90, *([99] if len(values) >= P99_SAMPLES else [])]
    return {f"p{q}": float(np.percentile(values, q)) for q in wanted} if len(values) else {}


def table(record: Record) -> str:
    """Return one record for people: what became of the requests, percentiles, figures, and every formula."""
    chosen, figures = record.about["settings"], record.figures
    lines = [f"{record.about['model']} on {record.about['engine']}, {_load(record)}: {_fates(record)}"]
    lines += [f"  {count:,} × {why}" for why, count in record.about["reasons"].items()]
    lines += ["", f"{'':<18}{'n':>9}{'p50':>12}{'p90':>12}{'p99':>12}"]
    for name, values in record.samples.items():
        scale, unit = (1e3, "ms") if METRICS[name].unit == "s" else (1, METRICS[name].unit)
        cells = percentiles(values)
        shown = "".join(
            f"{cells[p] * scale:>12,.2f}" if p in cells else f"{'-':>12}" for p in ("p50", "p90", "p99")
        )
        lines.append(f"{name:<18}{len(values):>9,}{shown}  {unit}")
    lines += [
        "",
        *(f"{name:<18}{x:>9,.2f}  {METRICS[name].unit}" for name, x in figures.items() if name not in FATES),
    ]
    lines += ["", *(f"{name:<18}{formula}" for name, formula in record.formulas.items())]
    sent = "The clock of a request starts when it was due. " if chosen["rate"] else ""
    return "\n".join([*lines, "", f"{sent}Tokens are counted from {chosen['tokens_from'] or 'nothing'}."])


def steps_table(records: Sequence[Record], knee: Record | None) -> str:
    """Return a line for each step of a sweep, then the knee in words."""
    rows = [["load", "goodput", "tokens/s", "TTFT p50", "p90 [ms]", "TPOT p50", "p90 [ms]", "requests"]]
    for record in records:
        figures = record.figures
        times = [percentiles(record.samples[name]) for name in ("ttft", "tpot")]
        cells = [f"{t[p] * 1e3:,.1f}" if t else "-" for t in times for p in ("p50", "p90")]
        speeds = [f"{figures.get(name, 0):,.2f}" for name in ("goodput", "throughput")]
        rows.append([_load(record), *speeds, *cells, _fates(record)])
    end = "Goodput still rose at the last step: no knee."
    if knee:
        end = f"The knee is at {_load(knee)}: twice as much raised goodput by less than 5 %."
    elif not records[-1].figures.get("goodput"):
        end = "No request met the targets: no knee."
    return "\n".join([*aligned(rows), "", end])


def _load(record: Record) -> str:
    chosen = record.about["settings"]
    return f"{chosen['rate']:g} requests/s" if chosen["rate"] else f"{chosen['concurrency']} callers"


def _fates(record: Record) -> str:
    counts = {fate: record.figures[fate] for fate in FATES}
    return ", ".join(f"{count:,.0f} {fate}" for fate, count in counts.items() if count or fate == "ok")
