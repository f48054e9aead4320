"""Whether a model fits this machine, and what to try when it does not.

Every number is an estimate: weights are exact once the file is known, the rest follows llama.cpp's rules.
"""

from __future__ import annotations

from dataclasses import dataclass

from labkit.errors import NotEnoughMemory
from labkit.models.card import ModelCard, Variant
from labkit.models.hardware import memory

DEFAULT_CONTEXT = 4096
LEAST_CONTEXT = 512
# llama.cpp reserves float32 scores for a whole micro-batch of 512 tokens: it reports 299 MiB for Qwen2.5-0.5B
# (vocabulary 151,936). The library itself and small buffers take some 64 MB more.
MICRO_BATCH = 512
LIBRARY_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class Memory:
    """Split the estimated memory of a loaded model, in bytes."""

    weights: int
    kv: int
    overhead: int

    @property
    def total(self) -> int:
        """Return the sum."""
        return self.weights + self.kv + self.overhead

    def __str__(self) -> str:
        parts = (f"weights {size(self.weights)}", f"KV cache {size(self.kv)}", f"other {size(self.overhead)}")
        return f"{size(self.total)} (estimate: {', '.join(parts)})"


@dataclass(frozen=True, slots=True)
class Fit:
    """Say whether one variant fits, and why, in words a picker can show."""

    variant: Variant
    memory: Memory
    fits: bool
    reason: str


def needs(card: ModelCard, variant: str | None = None, context: int | None = None) -> Memory:
    """Estimate the memory of a loaded model at a context of so many tokens (4,096 or the card's, if less)."""
    tokens = context or min(card.context or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    scores = MICRO_BATCH * card.vocab * 4
    return Memory(card.variant(variant).file_bytes, card.kv_bytes(tokens), scores + LIBRARY_BYTES)


def check_fit(
    card: ModelCard,
    variant: str | None = None,
    context: int | None = None,
    available: int | None = None,
) -> Memory:
    """Return what a model needs; raise `NotEnoughMemory` with a choice that fits when that is not free.

    `available` is bytes, and by default what is free now.
    """
    free = memory()[1] if available is None else available
    need = needs(card, variant, context)
    if need.total <= free:
        return need
    what = f"{card.alias} {card.variant(variant).quant} needs {size(need.total)}, {size(free)} free"
    raise NotEnoughMemory(what, fix=_advice(card, variant, context, free))


def fits(card: ModelCard, context: int | None = None, available: int | None = None) -> list[Fit]:
    """Judge every variant of a model, in the card's order."""
    free = memory()[1] if available is None else available
    judged = []
    for variant in card.variants:
        need = needs(card, variant.quant, context)
        reason = f"needs {size(need.total)}, {size(free)} free"
        judged.append(Fit(variant, need, need.total <= free, reason))
    return judged


def size(count: int) -> str:
    """Write a number of bytes for people, in decimal units."""
    return f"{count / 1e9:.1f} GB" if count >= 100e6 else f"{count / 1e6:.1f} MB"


def _advice(card: ModelCard, variant: str | None, context: int | None, free: int) -> str:
    """Name the best variant at this context and the longest context of this variant, or else a pair."""
    tokens = context or DEFAULT_CONTEXT
    shorter = [2**n for n in range(17, 8, -1) if LEAST_CONTEXT <= 2**n < tokens]
    options = [f"variant {best}"] if (best := _best(card, tokens, free)) else []
    options += [f"context={n}" for n in shorter if needs(card, variant, n).total <= free][:1]
    if not options:
        pairs = ((_best(card, n, free), n) for n in shorter)
        options = [f"variant {best} with context={n}" for best, n in pairs if best][:1]
    if options:
        return f"try {' or '.join(options)}"
    return "close other programs, or try a smaller model: labkit models"


def _best(card: ModelCard, context: int, free: int) -> str:
    good = [fit.variant for fit in fits(card, context, free) if fit.fits]
    return max(good, key=lambda v: v.file_bytes).quant if good else ""
