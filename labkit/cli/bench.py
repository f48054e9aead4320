"""`labkit bench` and `labkit compare`: how fast a model is here, and what changed between two runs."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labkit.cli.options import Names, listed

if TYPE_CHECKING:
    from labkit.metrics.records import Difference, Record


def bench(
    model: Annotated[str, typer.Argument(help="A name from `labkit models`, or a .gguf file.")] = "nano",
    engine: Annotated[str, typer.Option(help="See `labkit engines`.")] = "auto",
    variant: Annotated[Names, typer.Option(help="A level; F16,Q8_0 are run in turn.")] = None,
    prompt: Annotated[int, typer.Option(min=1, help="Tokens to read.")] = 512,
    generate: Annotated[int, typer.Option(min=2, help="Tokens to write.")] = 128,
    repeat: Annotated[int, typer.Option(min=1, help="Runs that count, after a warm-up.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the engine.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Append records as JSON lines.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Measure on a busy machine, too.")] = False,
) -> None:
    """Measure speed and memory; figures are medians, pp and tg means, each with its formula."""
    from tqdm import tqdm

    from labkit.errors import LabkitError
    from labkit.metrics.bench import bench_all, table
    from labkit.metrics.probes import loaded_machine
    from labkit.metrics.records import write

    if (busy := loaded_machine()) and not force:
        raise LabkitError(f"{busy}, so figures would be wrong: wait, or measure all the same with --force")
    if json_file:
        write(json_file, [])  # a file that cannot be written is found before any work is done
    levels = listed(variant) or [None]
    options: dict[str, Any] = {"prompt": prompt, "generate": generate, "repeat": repeat}
    options |= {"threads": threads} if threads else {}
    bar = tqdm(desc=model, total=len(levels) * (repeat + 1), unit="turn", disable=None, leave=False)
    with bar, redirect_stdout(sys.stderr):  # which engine was chosen is no part of the table
        records = bench_all(model, engine, levels, progress=bar.update, **options)
    if json_file:
        write(json_file, records)
    if busy:
        print(f"Not to be trusted: {busy}.\n")
    print(table(records))


def compare(
    before: Annotated[Path, typer.Argument(metavar="A.jsonl", help="Records of one run.")],
    after: Annotated[Path, typer.Argument(metavar="B.jsonl", help="Records of another.")],
    across_machines: Annotated[
        bool, typer.Option("--across-machines", help="Allow records of two machines.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """Compare two files of records, metric by metric: B / A with a 95 % bootstrap interval."""
    from labkit.metrics import records

    formulas: dict[str, str] = {}
    for old, new in _pairs(records.read(before), records.read(after)):
        found = records.compare(old, new, across_machines=across_machines)
        what = {"kind": new.kind, **{name: new.about.get(name) for name in ("model", "variant")}}
        if as_json:
            print("".join(json.dumps({**what, **_plain(line)}) + "\n" for line in found), end="")
            continue
        print(" ".join(str(value) for value in what.values() if value))
        print("".join(f"  {line}\n" for line in found), end="")
        print("".join(f"  differs: {note}\n" for note in (found[0].notes if found else ())))
        formulas |= {line.metric: old.formulas[line.metric] for line in found}
    if formulas:
        print(
            "× is after / before, in brackets its 95 % interval by bootstrap; only metrics of both are shown."
        )
    for name, formula in formulas.items():
        print(f"{name:<16} {formula}")


def _plain(line: Difference) -> dict[str, Any]:
    """Return what JSON has: it knows no NaN."""
    known = {name: value for name, value in asdict(line).items() if value == value}
    return {**known, "better": line.better}


def _pairs(before: list[Record], after: list[Record]) -> list[tuple[Record, Record]]:
    """Pair records of the same kind, model, engine and variant (the last of each), or the only two there are."""
    from labkit.errors import OptionInvalid

    def key(record: Record) -> tuple[object, ...]:
        return record.kind, *(record.about.get(name) for name in ("model", "engine", "variant"))

    old, new = ({key(record): record for record in records} for records in (before, after))
    if len(old) == len(new) == 1:
        return list(zip(old.values(), new.values(), strict=True))
    for name in old.keys() ^ new.keys():
        print(f"only one file has {' '.join(map(str, name))}", file=sys.stderr)
    if not (shared := [name for name in old if name in new]):
        raise OptionInvalid("the files have no records in common", fix="compare runs of the same model")
    return [(old[name], new[name]) for name in shared]
