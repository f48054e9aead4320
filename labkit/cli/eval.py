"""`labkit eval`: how often a model's answer is exactly right, or (`--perplexity`) how well it guesses a text."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labkit.cli.options import Names, listed, opened

if TYPE_CHECKING:
    from labkit.engines.toolgrammar import Constrained
    from labkit.metrics.agent_eval import Scores


def evaluate(
    model: Annotated[str, typer.Argument(help="A name from `labkit models`, or a .gguf file.")] = "nano",
    engine: Annotated[str, typer.Option(help="See `labkit engines`.")] = "auto",
    variant: Annotated[Names, typer.Option(help="A level; F16,Q8_0 gives a column each.")] = None,
    split: Annotated[Names, typer.Option(help="Only this split, or these.")] = None,
    skill: Annotated[Names, typer.Option(help="Only this skill, or these.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Cases of each split and skill.")] = None,
    constrained: Annotated[bool, typer.Option("--constrained", help="Keep calls well-formed.")] = False,
    copying: Annotated[bool, typer.Option("--copying", help="And their values as they were said.")] = False,
    data: Annotated[Path | None, typer.Option(help="A .jsonl file or a folder of them.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every answer, or record, as JSON lines.")
    ] = None,
    failures: Annotated[int, typer.Option(min=0, help="Show so many wrong answers.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the engine.")] = None,
    perplexity: Annotated[bool, typer.Option("--perplexity", help="Measure guesses of a text.")] = False,
    text: Annotated[Path | None, typer.Option(help="The text; nano's conversations by default.")] = None,
    base: Annotated[str | None, typer.Option(help="A level, as F16: add the divergence from it.")] = None,
    window: Annotated[int, typer.Option(min=16, help="Tokens read at a time; half are scored.")] = 512,
    plain: Annotated[
        bool, typer.Option("--plain", help="Control tokens in the text are plain text.")
    ] = False,
) -> None:
    """Score a model on the agent cases: exact tool calls and answers, with 95 % Wilson intervals.

    With --perplexity, measure how well it guesses a text instead, as llama-perplexity does.
    """
    levels, options = listed(variant) or [None], {"threads": threads} if threads else {}
    if perplexity:
        from labkit.cli.quality import measure

        agent = {"split": split, "skill": skill, "limit": limit, "data": data, "failures": failures}
        _refuse("--perplexity takes no", **agent, constrained=constrained, copying=copying)
        return measure(model, engine, levels, base, text, window, plain, json_file, options)
    _refuse("without --perplexity there is no", text=text, base=base, plain=plain)
    from tqdm import tqdm

    from labkit.metrics.agent_eval import choose, compare, read_cases, score
    from labkit.metrics.cases import data_folder

    cases = choose(read_cases(data or data_folder()), listed(split), listed(skill), limit)
    held: Constrained = "copy" if copying else constrained
    runs = []
    with _opened(json_file) as out:
        for level in levels:
            loaded = opened(model, engine, level, **options)
            bar = tqdm(desc=str(loaded.variant), total=len(cases), unit="case", disable=None, leave=False)
            with loaded, bar:
                scores = score(loaded, cases, constrained=held, progress=bar.update, **options)
            runs.append(scores)
            if out:  # after each level, so that a run that is stopped keeps those it finished
                out.writelines(json.dumps(r) + "\n" for r in scores.records())
                out.flush()
            print(_misses(scores, failures), end="")
    print(compare(runs))


def _refuse(why: str, **given: object) -> None:
    from labkit.errors import OptionInvalid

    for name, value in given.items():
        if value:
            raise OptionInvalid(f"{why} --{name}", fix=f"leave out --{name}")


def _opened(path: Path | None) -> Any:
    from labkit.errors import StorageFailed

    try:
        return path.open("w", encoding="utf-8") if path else nullcontext()
    except OSError as exc:
        raise StorageFailed(
            f"{path} cannot be written: {exc.strerror}", fix="give another --json FILE"
        ) from exc


def _misses(scores: Scores, count: int) -> str:
    text = ""
    for result in [r for r in scores.results if r.reason][:count]:
        said = [json.dumps(call, ensure_ascii=False) for call in result.tool_calls]
        text += f"{result.case.id} ({scores.about['variant']}): {result.reason}\n"
        text += f"  wanted  {json.dumps(result.case.expected, ensure_ascii=False)}\n"
        text += f"  got     {' '.join([result.text, *said]).strip()}\n\n"
    return text
