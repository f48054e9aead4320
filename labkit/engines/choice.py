"""What can be loaded here: which models an engine takes, at which levels, and why it does not take the others."""

from __future__ import annotations

from dataclasses import dataclass

from labkit.engines.doctor import availability, engine_states
from labkit.engines.registry import PREFERENCE, engine_class
from labkit.models.card import ModelCard, Ref
from labkit.models.catalog import catalog
from labkit.models.download import FILES, Progress, pull, pull_folder
from labkit.models.fit import Memory, fits, needs, size
from labkit.models.hardware import memory
from labkit.models.store import file_of, path_of, verified

SAME_FILES = {"llamaserver": "llamacpp"}  # both run the GGUF file of a card
FOLDERS = ("onnx", "mlx", "vllm")


@dataclass(frozen=True, slots=True)
class Choice:
    """Hold a model at a level on an engine. `why_not` says, in words, why it cannot be loaded; "" where it can.

    `download` is bytes still to be fetched, 0 where the file is here or made here, None where only the source knows.
    `memory` is an estimate in bytes, `free` what is free now.
    """

    engine: str
    card: ModelCard
    level: str
    memory: Memory
    free: int
    why_not: str
    download: int | None

    @property
    def facts(self) -> dict[str, str]:
        """Return what to know before loading it, by topic."""
        sizes = [size(v.file_bytes) for v in self.card.variants if v.quant == self.level]
        place = {0: "here, or made here when it is loaded", None: "fetched from its source if it is not here"}
        fetched = place.get(self.download) or f"to be fetched: {size(self.download or 0)}"
        return {
            "file": "; ".join([*sizes, fetched]),
            "memory": f"needs {self.memory}; {size(self.free)} free",
            "can do": ", ".join(sorted(self.card.capabilities)),
            "context": f"{self.card.context:,} tokens",
            "licence": self.card.license,
            "verdict": f"cannot be loaded: {self.why_not}" if self.why_not else "can be loaded",
        }

    def fetch(self, progress: Progress) -> None:
        """Download what is missing; raise what `pull` raises, and what `progress` raises, which ends it."""
        ref = _ref(self.engine, self.card)
        if self.download == 0 or not ref or not ref.repo:
            return
        if ref.file and self.engine not in FOLDERS:
            pull(self.card, self.level, progress)
        elif self.engine in FOLDERS:
            pull_folder(self.card, self.engine, progress)


def engines_here(also: str = "") -> dict[str, str]:
    """Return the engines that run models (and `also`), the best first, each with "" or why it cannot be used."""
    found = {s.name: s.found for s in engine_states() if s.runs_models or s.name == also}
    rank = [*PREFERENCE, *found]
    order = sorted(found, key=lambda name: (not found[name].installed, rank.index(name)))
    return {name: "" if found[name].installed else found[name].reason for name in order}


def levels_of(engine: str, card: ModelCard) -> list[str]:
    """Return the levels to choose from: the card's where the engine uses those, or else the engine's own default."""
    here = availability(engine).installed  # an engine that is not may not even be importable
    own = engine_class(engine).default_variant(card) if here else card.default_variant
    listed = [variant.quant for variant in card.variants]
    return listed if own in listed else [own]


def problem(engine: str, card: ModelCard, free: int | None = None) -> str:
    """Say why an engine, once installed, cannot run a model at any level here; return "" where it can."""
    if _ref(engine, card) is None:
        return f"there are no files of {card.alias} for {engine}"
    judged = min(fits(card, available=free), key=lambda fit: fit.memory.total)
    return "" if judged.fits else f"even {judged.variant.quant} {judged.reason}"


def choose_level(engine: str, card: ModelCard, level: str) -> Choice:
    """Judge one level of a model on an engine."""
    free = memory()[1]
    listed = level in [variant.quant for variant in card.variants]
    need = needs(card, level if listed else None)
    state = availability(engine)
    why = problem(engine, card, free) if state.installed else f"{state.reason}: {state.fix}"
    if not why and need.total > free:
        why = f"{level} needs {size(need.total)}, {size(free)} free"
    return Choice(engine, card, level, need, free, why, _download(engine, card, level))


def _ref(engine: str, card: ModelCard) -> Ref | None:
    """Return where an engine finds a model; an engine that no card names (echo, a third party's) asks for none."""
    name = SAME_FILES.get(engine, engine)
    known = any(name in other.refs for other in catalog().values())
    return card.refs.get(name) if known else Ref()


def _download(engine: str, card: ModelCard, level: str) -> int | None:
    ref = _ref(engine, card)
    if not ref or not ref.repo:
        return 0
    if engine in FOLDERS:
        return 0 if (path_of(card.alias, engine) / FILES).is_file() else None
    listed = [variant for variant in card.variants if variant.quant == level]
    if not listed:
        return None
    return 0 if verified(file_of(card.alias, level)) else listed[0].file_bytes
