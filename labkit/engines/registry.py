"""The list of engines, and `load()`: the one door from a model's name to a running model.

Engines come from the entry-point group `labkit.engines`, so another package can add one without touching labkit.
"""

from __future__ import annotations

import difflib
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from labkit.engines.base import Engine, Model
from labkit.errors import EngineUnavailable
from labkit.models.catalog import find

GROUP = "labkit.engines"
PREFERENCE = {
    "llamacpp": "fast on any processor, scores text and constrains output",
    "llamaserver": "llama.cpp without a compiler, serves many callers",
    "onnx": "runs on every vendor's execution provider",
    "mlx": "made for Apple silicon",
    "foundry": "picks the variant for this hardware",
    "ollama": "a server that is already running",
}


@cache
def entries() -> dict[str, EntryPoint]:
    """Return every registered engine by name, without importing any."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def engine_class(name: str) -> type[Engine]:
    """Import one engine's module; raise `EngineUnavailable` with the names that exist."""
    entry = entries().get(name)
    if entry is None:
        near = difflib.get_close_matches(name, entries(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise EngineUnavailable(
            f"there is no engine {name!r}", fix=f"{hint}choose from: auto, {', '.join(sorted(entries()))}"
        )
    try:
        found = entry.load()
    except Exception as exc:  # a third party's module may raise anything
        raise EngineUnavailable(
            f"engine {name!r} cannot be imported ({exc})",
            fix=f"reinstall the package that holds {entry.value}",
        ) from exc
    if not (isinstance(found, type) and issubclass(found, Engine)):
        raise EngineUnavailable(f"{entry.value} is no Engine", fix="subclass labkit.engines.base.Engine")
    return found


def choose() -> tuple[str, str]:
    """Pick the best engine that is installed; return its name and the reason in words."""
    passed_over: list[str] = []
    for name, reason in PREFERENCE.items():
        if name not in entries():
            continue
        state = engine_class(name).available()
        if state.installed:
            missing = f"; {', '.join(passed_over)} not installed" if passed_over else ""
            return name, f"{reason}{missing}"
        passed_over.append(name)
    raise EngineUnavailable(
        "no engine that runs a model is installed", fix="labkit doctor   shows what to install"
    )


def load(name: str = "nano", engine: str = "auto", variant: str | None = None, **options: Any) -> Model:
    """Load a model by name and return it ready to chat.

    `name` is an alias (`labkit models` lists them), the path of a .gguf file, or, with the option `url`, what
    that server calls a model; `engine` a name or "auto";
    `variant` a quantization level such as "Q4_K_M"; `options` are the engine's own, as in `threads=2`.
    Raises a `LabkitError` that says what to do: `ModelNotFound`, `EngineUnavailable`, `NotEnoughMemory`, …
    """
    card = find(name, served="url" in options)
    why = f"{engine} was asked for"
    if engine == "auto":
        engine, reason = choose()
        why = f"engine 'auto' chose {engine}: {reason}"
        print(why)
    kind = engine_class(engine)
    state = kind.available()
    if not state.installed and "url" not in options:  # a server elsewhere needs nothing here
        raise EngineUnavailable(state.reason, fix=state.fix)
    wanted = variant or kind.default_variant(card)
    # An engine may make levels that no card lists, so only the spelling is settled here.
    wanted = next((v.quant for v in card.variants if v.quant.lower() == wanted.lower()), wanted)
    return Model(kind.load(card, wanted, options), card, wanted, why)
