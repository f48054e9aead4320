"""The model card: what a model is, where each engine finds it, and what each variant weighs.

A card is data. It knows nothing of disks (`store`), of this machine (`fit`) or of engines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from labkit.errors import ModelNotFound


@dataclass(frozen=True, slots=True)
class Variant:
    """Describe one quantization level: its exact GGUF name, bits per weight, and file size in bytes."""

    quant: str
    bits: float
    file_bytes: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Ref:
    """Say where one engine finds the model.

    `repo` is a Hugging Face repository, an Ollama tag or a Foundry alias; `file` may hold `{quant}`.
    `package` names data shipped inside labkit instead ("nano" → labkit/models/nano); `random` takes only its
    vocabulary and template, and the weights are drawn at random here. A `file` with neither is a file on this
    machine.
    """

    repo: str = ""
    file: str = ""
    revision: str = "main"
    package: str = ""
    random: bool = False


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Describe a model. Sizes are bytes, `params_b` billions, `context` and `vocab` tokens.

    `layers` and `kv_width` (key/value heads × their size) give the KV cache, `vocab` the scores' buffer.
    `capabilities` uses Ollama's words: completion, tools, vision, thinking, embedding.
    `tasks` are what edge-AI course texts recommend it for (quoted): light, balanced, code, capable.
    `verified` is true only where somebody pulled the files and ran them.
    """

    alias: str
    title: str
    params_b: float
    license: str
    context: int
    capabilities: frozenset[str]
    tasks: tuple[str, ...] = ()
    refs: Mapping[str, Ref] = field(default_factory=dict)
    variants: tuple[Variant, ...] = ()
    default_variant: str = "Q4_K_M"
    layers: int = 0
    kv_width: int = 0
    vocab: int = 0
    source: str = ""
    verified: bool = False

    @property
    def shipped(self) -> bool:
        """Return whether the weights come with labkit."""
        return any(ref.package and not ref.random for ref in self.refs.values())

    def variant(self, quant: str | None = None) -> Variant:
        """Find a variant by its GGUF name, in any case; raise `ModelNotFound` with the names that exist."""
        wanted = quant or self.default_variant
        for variant in self.variants:
            if variant.quant.lower() == wanted.lower():
                return variant
        names = ", ".join(v.quant for v in self.variants)
        raise ModelNotFound(f"{self.alias} has no variant {wanted!r}", fix=f"choose from: {names}")

    def kv_bytes(self, context: int) -> int:
        """Return the size of the KV cache: 2 (K, V) × layers × width × tokens × 2 bytes (float16)."""
        return 2 * self.layers * self.kv_width * context * 2
