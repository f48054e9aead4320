"""The models labkit knows by name: its own catalog, the user's additions, and any .gguf file by its path."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from labkit.errors import ModelNotFound, OptionInvalid
from labkit.models.card import ModelCard, Ref, Variant
from labkit.models.gguf import GGUFInfo, inspect
from labkit.models.store import home, storage_errors


def catalog() -> dict[str, ModelCard]:
    """Return every model by its alias: labkit's, then those of LABKIT_HOME/catalog.toml.

    Raises `OptionInvalid`, naming the entry, when the user's file is wrong.
    """
    own = home() / "catalog.toml"
    with storage_errors(own, "read"):
        text = own.read_text("utf-8") if own.is_file() else ""
    return _shipped() | _parse(text, str(own))


def find(name: str, served: bool = False) -> ModelCard:
    """Find a model by alias, in any case, or by the path of a .gguf file or of a folder that was trained here.

    A model that is `served` somewhere may be known to its server alone: its card holds the name and no more.
    Raises `ModelNotFound` with the closest names, and whatever `inspect` raises for a file.
    """
    if name.lower().endswith(".gguf") and not served:
        return card_of(Path(name).expanduser())
    cards = catalog()
    lower = {alias.lower(): alias for alias in cards}
    if name in cards:
        return cards[name]
    if name.lower() in lower:
        return cards[lower[name.lower()]]
    # False for any nonsense, where Path would raise.
    if not served and os.path.isfile(os.path.join(os.path.expanduser(name), "training.json")):
        return trained(Path(name).expanduser().absolute())
    if served:
        abilities = frozenset({"completion", "tools"})
        return ModelCard(name, f"{name}, as its server calls it", 0.0, "unknown", 0, abilities)
    close = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.0)]
    raise ModelNotFound(
        f"there is no model {name[:80]!r}", fix=f"did you mean {', '.join(close)}? all names: labkit models"
    )


def trained(folder: Path) -> ModelCard:
    """Describe a folder that labkit trained from a shipped model; it runs wherever that model runs.

    Its chat template must be that model's own, since labkit's templates render without a sandbox.
    """
    try:
        base = _shipped()[json.loads((folder / "training.json").read_text("utf-8"))["base"]]
        template = Path("chat_template.jinja")
        own = files("labkit.models").joinpath(base.refs["llamacpp"].package, template.name).read_text("utf-8")
        if not base.shipped or (folder / template).read_text("utf-8") != own:
            raise ValueError("its chat template is not labkit's")
    except (OSError, ValueError, KeyError, TypeError) as error:
        fix = "train it again with labkit, or give a name: labkit models"
        raise ModelNotFound(f"{folder} holds no model that labkit trained: {error}", fix=fix) from error
    refs = {engine: Ref(package=os.fspath(folder)) for engine in base.refs}
    alias = re.sub(r"[^\w.-]+", "-", folder.name).lstrip(".-") or "model"
    return replace(
        base, alias=alias, title=f"{alias}, trained from {base.alias}", refs=refs, source=str(folder)
    )


def card_of(path: Path) -> ModelCard:
    """Describe a .gguf file on this machine as a model of one variant."""
    info = inspect(path)
    return ModelCard(
        alias=re.sub(r"[^\w.-]+", "-", path.stem).lstrip(".-") or "model",
        title=str(info.metadata.get("general.name") or path.stem),
        params_b=info.parameters / 1e9,
        license=str(info.metadata.get("general.license") or "unknown"),
        context=info.context_length,
        capabilities=frozenset({"completion", "tools"} if _takes_tools(info) else {"completion"}),
        refs={"llamacpp": Ref(file=os.fspath(path.absolute()))},
        variants=(Variant(info.quantization, info.bits_per_weight, info.file_bytes),),
        default_variant=info.quantization,
        layers=info.number(f"{info.architecture}.block_count"),
        kv_width=_kv_width(info),
        vocab=getattr(info.metadata.get("tokenizer.ggml.tokens"), "length", 0),
        source=os.fspath(path),
    )


def _takes_tools(info: GGUFInfo) -> bool:
    return "tools" in (info.chat_template or "")


def _kv_width(info: GGUFInfo) -> int:
    """Return key/value heads × head size, from the names every architecture shares."""
    heads = info.number(f"{info.architecture}.attention.head_count")
    kv_heads = info.number(f"{info.architecture}.attention.head_count_kv", heads)
    each = info.number(f"{info.architecture}.embedding_length") // heads if heads > 0 else 0
    return kv_heads * info.number(f"{info.architecture}.attention.key_length", each)


@lru_cache(maxsize=1)
def _shipped() -> dict[str, ModelCard]:
    path = files("labkit.models").joinpath("catalog.toml")
    return _parse(path.read_text("utf-8"), "labkit's catalog.toml")


@lru_cache(maxsize=4)
def _parse(text: str, where: str) -> dict[str, ModelCard]:
    try:
        entries = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OptionInvalid(f"{where} is not TOML: {error}", fix=f"correct {where}") from error
    cards = {}
    for alias, entry in entries.items():
        try:
            cards[alias] = _card(alias, entry)
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            why = f"it needs {error}" if isinstance(error, KeyError) else str(error)
            raise OptionInvalid(f"[{alias}] in {where} is wrong: {why}", fix=f"correct {where}") from error
    return cards


def _card(alias: str, entry: Mapping[str, Any]) -> ModelCard:
    """Make a card from a table whose variants are file sizes in MB and whose hashes are optional."""
    if not re.fullmatch(r"\w[\w.-]*", alias):
        raise ValueError("a name is made of letters, digits, '.', '_' and '-'")
    rest = dict(entry)
    for name in ("context", "layers", "kv_width", "vocab"):
        if not isinstance(rest.get(name, 0), int):
            raise TypeError(f"{name} must be a whole number")
    hashes = rest.pop("sha256", {})
    weights = float(rest["params_b"]) * 1e9
    variants = [
        Variant(quant, round(8e6 * megabytes / weights, 2), int(megabytes * 1e6), hashes.get(quant))
        for quant, megabytes in rest.pop("variants").items()
    ]
    refs = {engine: Ref(**ref) for engine, ref in rest.pop("refs", {}).items()}
    rest["tasks"] = tuple(rest.get("tasks", ()))
    capabilities = frozenset(rest.pop("capabilities"))
    card = ModelCard(alias, refs=refs, variants=tuple(variants), capabilities=capabilities, **rest)
    if not variants:
        raise ValueError("it has no variants")
    known = {v.quant for v in variants}
    return card if card.default_variant in known else replace(card, default_variant=variants[0].quant)
