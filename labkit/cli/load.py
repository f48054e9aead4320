"""`labkit load` and `labkit sweep`: a model or a server under load, and a bench at every point of a grid."""

from __future__ import annotations

import os
import random
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labkit.cli.options import Names, listed, opened

if TYPE_CHECKING:
    from labkit.engines.base import Model
    from labkit.metrics.request import Server
    from labkit.types import Message

JsonFile = Annotated[Path | None, typer.Option("--json", help="Append records as JSON lines.")]


def load(
    target: Annotated[
        str, typer.Argument(metavar="MODEL_OR_URL", help="A model's name, or http://…")
    ] = "nano",
    rate: Annotated[float | None, typer.Option(help="Requests/s: open loop, at random times.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Callers: closed loop.")] = None,
    requests: Annotated[int, typer.Option(min=1, help="Requests; of the first step with --sweep.")] = 100,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 64,
    target_ttft: Annotated[float | None, typer.Option(help="Seconds: what counts as good.")] = None,
    target_tpot: Annotated[float | None, typer.Option(help="Seconds.")] = None,
    target_e2e: Annotated[float | None, typer.Option(help="Seconds.")] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Double the load until goodput stops rising.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the times and the prompts.")] = 0,
    timeout: Annotated[float, typer.Option(help="Seconds a request may take.")] = 120.0,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Always write the longest answer.")
    ] = False,
    engine: Annotated[str, typer.Option(help="See `labkit engines`.")] = "auto",
    variant: Annotated[str | None, typer.Option(help="A quantization level, as in Q4_K_M.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the engine.")] = None,
    served: Annotated[
        str, typer.Option(metavar="NAME", help="The model's name at the URL; else its first.")
    ] = "",
    key_env: Annotated[str, typer.Option(metavar="NAME", help="The variable that holds the API key.")] = "",
    json_file: JsonFile = None,
) -> None:
    """Put load on a model or an OpenAI-compatible server: latency, throughput and what became of the requests."""
    from tqdm import tqdm

    from labkit.metrics.load import Plan, knee, measure, saturate
    from labkit.metrics.load_table import steps_table, table
    from labkit.metrics.records import Record, write

    plan: dict[str, Any] = {"rate": rate, "concurrency": concurrency}
    plan |= {"requests": requests, "max_tokens": max_tokens}
    plan |= {"target_ttft": target_ttft, "target_tpot": target_tpot, "target_e2el": target_e2e}
    plan |= {"seed": seed, "timeout": timeout, "ignore_eos": ignore_eos}
    Plan(**plan)  # a wrong option is found before anything is loaded
    if json_file:
        write(json_file, [])
    place = _opened(target, served, key_env, engine, variant, threads)
    steps: list[Record] = []
    bar = tqdm(desc=target, total=None if sweep else requests, unit="request", disable=None, leave=False)
    with place as opened, bar:
        run = saturate if sweep else lambda *a, **k: [measure(*a, **k)]
        for record in run(opened, _prompts(seed), progress=bar.update, **plan):
            steps.append(record)
            if json_file:  # after each step, so that a run that is stopped keeps those it finished
                write(json_file, [record])
    print(table(steps[-1] if not sweep else knee(steps) or steps[-1]))
    if sweep:
        print(f"\n{steps_table(steps, knee(steps))}")
    if steps[-1].about["settings"]["interrupted"]:
        raise typer.Exit(130)


def _opened(
    target: str, served: str, key_env: str, engine: str, variant: str | None, threads: int | None
) -> AbstractContextManager[Model | Server]:
    from labkit.metrics.request import Server

    if target.startswith(("http://", "https://")):
        return nullcontext(Server.find(target, served, _key(key_env)))
    return opened(target, engine, variant, **({"threads": threads} if threads else {}))


def _key(name: str) -> str:
    from labkit.errors import OptionInvalid

    if name and not os.environ.get(name):
        raise OptionInvalid(f"the variable {name} is not set", fix=f"export {name}=…")
    return os.environ.get(name, "").strip()


def _prompts(seed: int) -> list[list[Message]]:
    """Draw the first questions of evaluation cases, in random order; none outside a clone."""
    from labkit.errors import LabkitError
    from labkit.metrics.cases import data_folder, read_cases

    try:
        cases = read_cases(data_folder() / "seen.jsonl")
    except LabkitError:
        return []
    asked = [next(turn for turn in case.messages if turn["role"] == "user") for case in cases]
    return [[turn] for turn in random.Random(seed).sample(asked, len(asked))]


def sweep(
    model: Annotated[str, typer.Argument(help="A name from `labkit models`, or a .gguf file.")] = "nano",
    engine: Annotated[Names, typer.Option(help="One, or several: A,B.")] = None,
    variant: Annotated[Names, typer.Option(help="As in F16,Q8_0.")] = None,
    threads: Annotated[Names, typer.Option(help="As in 1,2.")] = None,
    context: Annotated[Names, typer.Option(help="As in 512,1024.")] = None,
    prompt: Annotated[int, typer.Option(min=1, help="Tokens to read.")] = 512,
    generate: Annotated[int, typer.Option(min=2, help="Tokens to write.")] = 128,
    repeat: Annotated[int, typer.Option(min=1, help="Runs that count, after a warm-up.")] = 5,
    ray: Annotated[str, typer.Option(metavar="ADDRESS", help="A Ray cluster, or `local`.")] = "",
    json_file: JsonFile = None,
    force: Annotated[bool, typer.Option("--force", help="Measure on a busy machine, too.")] = False,
) -> None:
    """Run `labkit bench` for every combination, each in a fresh process; what is in FILE is not run again."""
    from tqdm import tqdm

    from labkit.errors import LabkitError, OptionInvalid
    from labkit.metrics.bench import table
    from labkit.metrics.probes import loaded_machine
    from labkit.metrics.sweep import grid
    from labkit.metrics.sweep import sweep as run

    if not json_file:
        raise OptionInvalid("there is no file for the records", fix="--json FILE, to which they are appended")
    if not force and not ray and (busy := loaded_machine()):
        raise LabkitError(f"{busy}, so figures would be wrong: wait, or measure all the same with --force")
    axes = [listed(engine) or ["auto"], listed(variant)]
    axes += [_numbers("threads", threads), _numbers("context", context)]
    work: dict[str, Any] = {"prompt": prompt, "generate": generate, "repeat": repeat}
    points = grid(model, *(axis or [None] for axis in axes), **work)
    with tqdm(desc=model, total=len(points), unit="run", disable=None, leave=False) as bar:
        records, skipped = run(points, json_file, ray=ray or None, progress=lambda *_: bar.update())
    for record in records:
        print(table([record]), end="\n\n")
    for point, why in skipped:
        print(f"skipped {' '.join(f'{k}={v}' for k, v in point.items())}: {why}")
    print(f"{len(records)} of {len(points)} in {json_file}")


def _numbers(name: str, values: Names) -> list[int]:
    from labkit.errors import OptionInvalid

    found = listed(values)
    if bad := [text for text in found if not text.isdecimal() or int(text) < 1]:
        raise OptionInvalid.of(f"--{name}", bad[0], "whole numbers from 1, as in 1,2")
    return [int(text) for text in found]
