"""`labkit models`: what there is, what is on this machine, and how to get, make and remove it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from labkit.models.card import ModelCard

Name = Annotated[str, typer.Argument(metavar="NAME", help="A name from the list.")]
OneVariant = Annotated[
    str | None, typer.Option("--variant", help="A quantization level, as in Q4_K_M.", show_default=False)
]
models = typer.Typer(help="List, get, make and remove models.", invoke_without_command=True)


@models.callback()
def _without_command(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        show_list()


@models.command("list")
def show_list() -> None:
    """List every model labkit knows: its size, whether it fits here, and the variants on this machine."""
    from labkit.metrics.table import aligned
    from labkit.models.catalog import catalog
    from labkit.models.hardware import memory
    from labkit.models.store import local_models

    here: dict[str, list[str]] = {}
    for file in local_models():
        here.setdefault(file.alias, []).append(file.variant)
    cards, free = catalog(), memory()[1]
    head = ("name", "parameters", "licence", "memory needed", "here")
    rows = [_row(card, here.pop(alias, []), free) for alias, card in cards.items()]
    rows += [(alias, "", "", "", ", ".join(variants)) for alias, variants in here.items()]
    print("\n".join(aligned([head, *rows], left=True)))


def _row(card: ModelCard, variants: list[str], free: int) -> tuple[str, ...]:
    from labkit.models.fit import needs, size

    need = needs(card)
    room = "" if need.total <= free else f", {size(free)} free"
    unit = f"{card.params_b:.1f} billion" if card.params_b >= 1 else f"{card.params_b * 1e3:.0f} million"
    here = [*(["shipped"] if card.shipped else []), *variants]
    return card.alias, unit, card.license, f"{size(need.total)}{room}", ", ".join(here) or "-"


@models.command()
def info(
    name: Name,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Describe one model: what it can do, where it comes from, and which variants fit this machine."""
    from labkit.models.catalog import find

    card = find(name)
    if as_json:
        print(json.dumps(_plain(card), indent=2))
        return
    facts = {
        "title": card.title,
        "can do": ", ".join(sorted(card.capabilities)),
        "context": f"{card.context:,} tokens",
        "licence": card.license,
        "from": card.source or "-",
        "engines": ", ".join(sorted(card.refs)),
        "tried": "yes, pulled and run" if card.verified else "no: these are the publisher's figures",
    }
    print("\n".join([card.alias, *(f"  {fact:<8} {text}" for fact, text in facts.items())]))
    _print_variants(card)


def _print_variants(card: ModelCard) -> None:
    from labkit.models.fit import fits, size
    from labkit.models.store import local_models

    here = {file.variant for file in local_models() if file.alias == card.alias}
    print("\n  variant   file       bits/weight  fits")
    for fit in fits(card):
        variant = fit.variant
        notes = [fit.reason, *(["on this machine"] if variant.quant in here else [])]
        notes += ["default"] if variant.quant == card.default_variant else []
        verdict = "yes" if fit.fits else "no"
        file = size(variant.file_bytes)
        print(f"  {variant.quant:<8}  {file:<9}  {variant.bits:>11.2f}  {verdict}: {', '.join(notes)}")


@models.command()
def fit(
    context: Annotated[
        int | None, typer.Option(min=16, help="Tokens of the conversation; else 4,096 or the model's own.")
    ] = None,
) -> None:
    """Say of each model which of its variants this machine can hold now, or why it can hold none."""
    from labkit.models.catalog import catalog
    from labkit.models.fit import size
    from labkit.models.hardware import memory
    from labkit.models.store import free_bytes

    free, disk = memory()[1], free_bytes()
    print(f"free: {size(free)} of memory, {size(disk)} of disk; what a model needs is estimated")
    for alias, card in catalog().items():
        print(f"{alias:<20} {_verdict(card, context, free, disk)}")


def _verdict(card: ModelCard, context: int | None, free: int, disk: int) -> str:
    from labkit.models.fit import fits, size

    if context and context > card.context:
        return f"no: its context ends at {card.context:,} tokens"
    judged = sorted(fits(card, context, free), key=lambda fit: fit.memory.total)
    loadable = [fit for fit in judged if fit.fits]
    if not loadable:
        return f"no: even {judged[0].variant.quant} {judged[0].reason}"
    stored = [fit for fit in loadable if card.shipped or fit.variant.file_bytes <= disk]
    if not stored:
        return f"no: the file of {loadable[0].variant.quant} is {size(loadable[0].variant.file_bytes)}"
    best = f"{stored[-1].variant.quant} {stored[-1].reason}"
    return f"yes: {best}" + ("" if stored[-1] is judged[-1] else f"; {judged[-1].variant.quant} does not fit")


def _plain(card: ModelCard) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(card), "capabilities": sorted(card.capabilities), "shipped": card.shipped}


@models.command()
def pull(
    name: Name,
    variant: OneVariant = None,
    engine: Annotated[
        str, typer.Option("--engine", help="For which engine: llamacpp, onnx, mlx, vllm or ollama.")
    ] = "llamacpp",
) -> None:
    """Download a model; one that was interrupted goes on where it stopped."""
    from labkit.models.catalog import find
    from labkit.models.download import pull as download
    from labkit.models.download import pull_folder

    card = find(name)
    if engine == "ollama" and not card.shipped:
        from labkit.engines.ollama_daemon import pull as pull_tag

        print(pull_tag(card))
        return
    ready_made = engine == "llamacpp" or card.shipped
    path = download(card, variant) if ready_made else pull_folder(card, engine)
    print(f"{card.alias} comes with labkit: {path}" if card.shipped else path)


@models.command()
def quantize(
    name: Name,
    levels: Annotated[
        list[str] | None, typer.Argument(metavar="LEVEL", help="As in Q4_K_M Q8_0; else the default.")
    ] = None,
) -> None:
    """Make GGUF files of a shipped model at one or more levels; one that is there is not made again."""
    from labkit.engines.llamacpp_convert import level_of
    from labkit.engines.llamacpp_files import derived
    from labkit.errors import OptionInvalid
    from labkit.models.catalog import find
    from labkit.models.fit import size

    card = find(name)
    ref = card.refs.get("llamacpp")
    if ref is None or not ref.package:
        raise OptionInvalid(
            f"labkit has only ready-made files of {card.alias}",
            fix=f"labkit models pull {name} --variant LEVEL",
        )
    wanted = [level.upper() for level in levels or [card.default_variant]]
    for level in wanted:
        level_of(level)  # a wrong name is found before any work is done
    for level in wanted:
        path = derived(card, ref, level)
        print(f"{level:<8}  {size(path.stat().st_size):>8}  {path}")


@models.command()
def rm(
    name: Name,
    variant: OneVariant = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a model's files from this machine, after asking; what labkit ships stays."""
    from labkit.errors import ModelNotFound
    from labkit.models.fit import size
    from labkit.models.store import path_of, remove

    what = f"{name} {variant}" if variant else name
    folder = path_of(name)
    if not folder.is_dir():
        raise ModelNotFound(f"no files of {what} in {folder.parent}", fix="see what is here: labkit models")
    if not yes:
        typer.confirm(f"Delete {what} from {folder}?", abort=True)
    print(f"{size(remove(name, variant))} freed")
