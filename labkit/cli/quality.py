"""`labkit eval --perplexity`: how well a model guesses a text, and how far quantization moves its guesses."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.cli.options import opened, shown_by
from labkit.errors import LabkitError

if TYPE_CHECKING:
    from labkit.metrics.records import Record

# Figure → its heading, and how it is written.
COLUMNS = {
    "ppl": ("PPL", ".4f"),
    "ppl_ratio": ("PPL ratio", ".4f"),
    "kl_mean": ("KL mean", ".5f"),
    "kl_median": ("KL median", ".5f"),
    "kl_p999": ("KL 99.9 %", ".4f"),
    "kl_max": ("KL max", ".4f"),
    "dp_mean": ("mean Δp", ".3%"),
    "dp_rms": ("RMS Δp", ".3%"),
    "same_top": ("same top", ".2%"),
}


def measure(
    name: str,
    engine: str,
    variants: Sequence[str | None],
    base: str | None,
    text: Path | None,
    window: int,
    plain: bool,
    json_file: Path | None,
    options: dict[str, Any],
) -> None:
    """Measure each variant, against `base` if there is one; print a table and what its columns mean."""
    from tqdm import tqdm

    from labkit.metrics import records
    from labkit.metrics.cases import data_folder
    from labkit.metrics.quality import WINDOW, divergence, perplexity

    words = read_text(text or data_folder("texts") / "agent_heldout.txt")
    if window != WINDOW:  # the context an engine loads with holds the usual window
        options = {**options, "context": window}
    if json_file:
        records.write(json_file, [])  # a file that cannot be written is found out before the work
    found = []
    with ExitStack() as stack:
        reference = stack.enter_context(opened(name, engine, base, **options)) if base else None
        for variant in variants:
            with (
                opened(name, engine, variant, **options) as model,
                tqdm(desc=str(model.variant), unit="window", disable=None, leave=False) as bar,
            ):
                keywords: dict[str, Any] = {"window": window, "special": not plain}
                keywords["progress"] = shown_by(bar)
                if reference:
                    record = divergence(reference, model, words, **keywords)
                else:
                    record = perplexity(model, words, **keywords)
            if json_file:
                records.write(json_file, [record])
            found.append(record)
    print(table(found))


def read_text(path: Path) -> str:
    """Read a UTF-8 file; raise `LabkitError` where that is not possible."""
    try:
        return path.read_text("utf-8")
    except OSError as exc:
        raise LabkitError(f"{path} cannot be read: {exc.strerror}", fix="give --text FILE") from exc
    except UnicodeDecodeError as exc:
        raise LabkitError(f"{path} is no UTF-8 text: {exc.reason}", fix="give --text FILE") from exc


def table(found: Sequence[Record]) -> str:
    """Return figures, one line a record, with standard errors, and the definitions of the columns."""
    from labkit.metrics.table import aligned

    about, names = found[0].about, [name for name in COLUMNS if name in found[0].figures]
    rows = [["", *(COLUMNS[name][0] for name in names)]]
    rows += [[str(r.about["variant"]), *(_cell(r, name) for name in names)] for r in found]
    used = about["settings"]
    against = f" against {used['base']}" if "base" in used else ""
    title = f"{about['model']} on {about['engine']} {about['engine_version']}{against}: "
    title += f"{used['scored']:,} tokens scored, windows of {used['window']}; ± is the standard error"
    formulas = [f"{COLUMNS[n][0]:<9} = {found[0].formulas[n].removesuffix(' []')}" for n in names]
    return "\n".join([title, "", *aligned(rows), "", *formulas])


def _cell(record: Record, name: str) -> str:
    style, error = COLUMNS[name][1], record.figures.get(f"{name}_error")
    return f"{record.figures[name]:{style}}" + ("" if error is None else f" ± {error:{style}}")
