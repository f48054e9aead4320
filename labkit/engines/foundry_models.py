"""Foundry Local's manager and its two catalogs: the local one for shipped models, the public one for the rest."""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
import threading
from pathlib import Path
from typing import Any

from labkit.engines.hf_folder import read_json
from labkit.engines.onnx_files import model_file
from labkit.errors import DownloadFailed, ModelNotFound
from labkit.models import store
from labkit.models.card import ModelCard

SDK = "foundry_local_sdk"
starting = threading.Lock()


def start() -> Any:
    """Return this process's one manager; all that Foundry keeps is under LABKIT_HOME/foundry."""
    import foundry_local_sdk as sdk

    home = store.home() / "foundry"
    with starting, store.storage_errors(home):
        home.mkdir(parents=True, exist_ok=True)
        if sdk.FoundryLocalManager.instance is None:
            settings = sdk.Configuration(
                "labkit",
                app_data_dir=str(home),
                logs_dir=str(home / "logs"),
                model_cache_dir=str(home / "models"),
                log_level=sdk.LogLevel.FATAL,  # what goes wrong is raised, not printed
                disable_nonessential_telemetry=True,
            )
            sdk.FoundryLocalManager.initialize(settings)
        return sdk.FoundryLocalManager.instance


def installed_sdk() -> Any:
    """Return the package foundry_local_sdk, or None where it is not installed."""
    return importlib.import_module(SDK) if importlib.util.find_spec(SDK) else None


def export_folder(card: ModelCard, variant: str, threads: int) -> Path:
    """Return a folder as Foundry wants it: it takes its threads from genai_config.json and all files from beside it."""
    source, file = model_file(card, variant)
    folder = store.path_of(card.alias, f"foundry-{file.stem}-{threads}")
    config = read_json(source / "genai_config.json")
    config["model"]["decoder"]["filename"] = file.name
    config["model"]["decoder"]["session_options"]["intra_op_num_threads"] = threads
    others = (source / name for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"))
    for original in (file, *others):
        with store.atomic_file(folder / original.name) as part:
            shutil.copyfile(original, part)
    with store.atomic_file(folder / "genai_config.json") as part:
        part.write_text(json.dumps(config, indent=1) + "\n", "utf-8")
    return folder


def register(manager: Any, folder: Path, name: str) -> Any:
    """Register a folder under a name in the local catalog, in place of another folder of that name.

    A registration is kept from one run to the next.
    """
    import foundry_local_sdk as sdk

    local = manager.get_catalog(sdk.CatalogType.LOCAL)
    with starting:
        known = local.get_model_variant(name)
        if known and Path(known.get_path()) != folder:  # LABKIT_HOME was moved
            local.unregister_model(name)
            known = None
        task = sdk.ModelInfoBuilder().set_string_property("task", "chat-completion")
        return known or local.register_model(folder, name, task)


def shipped_model(manager: Any, card: ModelCard, variant: str, threads: int) -> tuple[Any, Path]:
    """Register a shipped export and return it with its folder."""
    folder = export_folder(card, variant, threads)
    return register(manager, folder, f"{card.alias}-{variant.lower()}-{threads}-generic-cpu:1"), folder


def public_model(manager: Any, alias: str, variant: str) -> tuple[Any, str]:
    """Return a model of the public catalog, downloaded, and why this variant of it; "auto" lets Foundry pick."""
    catalog = manager.get_catalog()
    model = catalog.get_model(alias)
    if model is None:
        names = sorted(found.alias for found in catalog.list_models())
        if names:
            raise ModelNotFound(f"Foundry has no model {alias!r}", fix=f"it has: {', '.join(names)}")
        raise DownloadFailed(
            "Foundry's catalog cannot be reached", fix="check the network, then load again; nano needs none"
        )
    variants = {found.id: found for found in model.variants}
    reason = f"Foundry's pick for this hardware out of {len(variants)}"
    if variant != "auto":
        if variant not in variants:
            fix = f"choose from: auto, {', '.join(variants)}"
            raise ModelNotFound(f"Foundry has no variant {variant!r:.80} of {alias}", fix=fix)
        model.select_variant(variants[variant])
        reason = "asked for"
    if not model.is_cached:
        print(f"Foundry downloads {model.id} ({model.info.file_size_mb or '?'} MB)")
        model.download()
    return model, f"{model.info.runtime.execution_provider}, variant {model.id} ({reason})"
