"""Look at this machine: what is there, what works, and what to type for what does not.

The quick look imports no vendor's library and starts nothing, so it says `installed`. The deep one lets every
engine generate a token of nano, and only then says `usable`.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from labkit.engines.ports import ports
from labkit.engines.registry import engine_class, entries, load
from labkit.engines.report import Cache, EngineState, ModelFile, Report
from labkit.errors import EngineFailed, LabkitError
from labkit.models import store
from labkit.models.hardware import machine
from labkit.types import Availability

WITHOUT_MODEL = ("echo", "openai")
TRIAL = "Turn on the light in the kitchen."


def doctor(deep: bool = False) -> Report:
    """Examine this machine and return a `Report`: print it, or let a notebook show it.

    `deep` loads nano on each installed engine and generates one token. A failure is reported, not raised.
    """
    states = engine_states()
    if deep:
        states = tuple(tried(state) if state.runs_models else state for state in states)
    return Report(machine(), states, model_files(), ports(), cache(), deep)


def engine_states() -> tuple[EngineState, ...]:
    """Say of every registered engine whether it is installed; no vendor's library is imported."""
    return tuple(
        EngineState(name, availability(name), name not in WITHOUT_MODEL) for name in sorted(entries())
    )


def availability(name: str) -> Availability:
    """Ask one engine; one that cannot be imported is not installed, and the reason is kept."""
    try:
        return engine_class(name).available()
    except LabkitError as error:
        return Availability(False, reason=error.what, fix=error.fix)


def tried(state: EngineState) -> EngineState:
    """Load nano on an engine and generate one token; return the state with what came of it."""
    if not state.found.installed:
        return state
    start = time.perf_counter()
    try:
        with load("nano", engine=state.name) as model:
            if not model.chat(TRIAL, max_tokens=1).usage.completion_tokens:
                raise EngineFailed(
                    f"{state.name} generated no token", fix=f"labkit chat --engine {state.name}"
                )
    except Exception as error:  # a third party's engine may raise anything, and the report goes on
        reason, fix = (error.what, error.fix) if isinstance(error, LabkitError) else (repr(error), "")
        return replace(state, usable=False, found=replace(state.found, reason=reason, fix=fix))
    return replace(state, usable=True, seconds=time.perf_counter() - start)


def model_files() -> tuple[ModelFile, ...]:
    """List the model files here: weights that labkit ships, then what was pulled or made from them."""
    weights = sorted(Path(store.__file__).parent.glob("*/model.safetensors"))
    shipped = [ModelFile(p.parent.name, "shipped weights", p, p.stat().st_size) for p in weights]
    local = [ModelFile(m.alias, m.variant, m.path, m.record.bytes) for m in store.local_models()]
    return (*shipped, *local)


def cache() -> Cache:
    """Look at the folder labkit writes to, by writing to it."""
    try:
        free = store.free_bytes()
        store.require_space(1)
    except LabkitError as error:
        return Cache(store.home(), 0, error.what, error.fix)
    return Cache(store.home(), free)
