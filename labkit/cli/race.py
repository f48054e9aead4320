"""`labkit race`: the same prompts and the same weights on every engine that is here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labkit.cli.options import Names, listed


def race(
    model: Annotated[str, typer.Argument(help="A name from `labkit models`.")] = "nano",
    engines: Annotated[Names, typer.Option(help="As in llamacpp,onnx; else all.")] = None,
    prompts: Annotated[int, typer.Option(min=1, help="Cases whose answers are compared.")] = 50,
    repeat: Annotated[int, typer.Option(min=1, help="Long prompts that are timed.")] = 5,
    starts: Annotated[int, typer.Option(min=1, help="Processes of each engine, after one to warm up.")] = 3,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads, where an engine takes them.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Append records as JSON lines; answers in them.")
    ] = None,
) -> None:
    """Race engines: start-up, memory, speed, and whether they agree. A busy machine is said, not refused."""
    from tqdm import tqdm

    from labkit.metrics import race as metrics
    from labkit.metrics.records import write

    if json_file:
        write(json_file, [])  # a file that cannot be written is found before any work is done
    asked = listed(engines)
    total = (starts + 1) * len(metrics.entrants(asked)[0])
    with tqdm(desc=model, total=total, unit="process", disable=None, leave=False) as bar:
        found = metrics.race(
            model, asked, prompts=prompts, repeat=repeat, starts=starts, threads=threads, progress=bar.update
        )
    if json_file:
        write(json_file, found.records)
    for parting in found.partings:
        print(parting)
    print(found)
    raise typer.Exit(0 if found.rows else 1)
