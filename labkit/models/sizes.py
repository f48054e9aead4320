"""How big a model of a given shape is at a given level, from 0.5 B to 70 B weights, without downloading it.

llama.cpp gives some matrices more bits than the level's name says. The rules here are those of
`llama_tensor_get_type_impl` in its src/llama-quant.cpp, for dense Llama-like models and no importance matrix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from labkit.errors import OptionInvalid
from labkit.models.fit import LIBRARY_BYTES, MICRO_BATCH, Memory
from labkit.models.ggml import TENSOR_TYPES

TYPES = {t.name: t for t in TENSOR_TYPES.values()}
Rule = Callable[[int, int], str]  # (layer, layers) → type
BIGGER = ("attn_v", "attn_output", "ffn_down")
# A token's text, type and merge: 31 bytes in nano's files, 39 in Qwen2.5's.
HEADER_BYTES = 32
# Where a row is no whole number of 256-value blocks.
FALLBACK = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


def _more(base: str) -> Rule:
    """Use Q6_K in the first and last eighth of the layers, and in every third between."""
    return lambda i, n: "Q6_K" if i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2 else base


# The type of most matrices, and the rules of the parts that differ.
LEVELS: dict[str, tuple[str, dict[str, Rule]]] = {
    **{name: (name, {}) for name in ("F16", "BF16", "Q8_0", "Q6_K", "Q5_1", "Q5_0", "Q4_1", "Q4_0")},
    "Q5_K_M": ("Q5_K", dict.fromkeys(("attn_v", "ffn_down"), _more("Q5_K"))),
    "Q5_K_S": ("Q5_K", {}),
    "Q4_K_M": ("Q4_K", dict.fromkeys(("attn_v", "ffn_down"), _more("Q4_K"))),
    "Q4_K_S": (
        "Q4_K",
        {
            "attn_v": lambda i, n: "Q5_K" if i < 4 else "Q4_K",
            "ffn_down": lambda i, n: "Q5_K" if i < n // 8 else "Q4_K",
        },
    ),
    "Q3_K_L": ("Q3_K", dict.fromkeys(BIGGER, lambda i, n: "Q5_K")),
    "Q3_K_M": (
        "Q3_K",
        {
            "attn_v": lambda i, n: "Q5_K" if i < 2 else "Q4_K",
            "attn_output": lambda i, n: "Q4_K",
            "ffn_down": lambda i, n: "Q5_K" if i < n // 16 else "Q4_K",
        },
    ),
    "Q3_K_S": ("Q3_K", {}),
    "Q2_K": ("Q2_K", dict.fromkeys(BIGGER, lambda i, n: "Q3_K")),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """Give the numbers of a Llama-like model's config.json. `tied`: the embedding is the output matrix too."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    vocab: int
    tied: bool = False


# From the config.json of nano, Qwen2.5 (0.5B, 1.5B, 3B, 7B, 14B, 32B) and Llama 3.1 (8B, 70B).
SHAPES = {
    "nano": Shape(4, 256, 4, 2, 64, 768, 4096, True),
    "0.5B": Shape(24, 896, 14, 2, 64, 4864, 151_936, True),
    "1.5B": Shape(28, 1536, 12, 2, 128, 8960, 151_936, True),
    "3B": Shape(36, 2048, 16, 2, 128, 11_008, 151_936, True),
    "7B": Shape(28, 3584, 28, 4, 128, 18_944, 152_064),
    "8B": Shape(32, 4096, 32, 8, 128, 14_336, 128_256),
    "14B": Shape(48, 5120, 40, 8, 128, 13_824, 152_064),
    "32B": Shape(64, 5120, 40, 8, 128, 27_648, 152_064),
    "70B": Shape(80, 8192, 64, 8, 128, 28_672, 128_256),
}


def mix(shape: Shape, level: str) -> Counter[str]:
    """Return how many weights each GGUF type holds at a level; raise `OptionInvalid` for a level not known."""
    if level not in LEVELS:
        raise OptionInvalid(f"there is no level {level!r} here", fix=f"choose from: {', '.join(LEVELS)}")
    base, rules = LEVELS[level]
    d, q, kv = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    parts = {"attn_q": (q, d), "attn_k": (kv, d), "attn_v": (kv, d), "attn_output": (d, q)}
    parts |= {"ffn_gate": (shape.feed_forward, d), "ffn_up": (shape.feed_forward, d)}
    parts["ffn_down"] = (d, shape.feed_forward)
    held = Counter({"F32": (2 * shape.layers + 1) * d})  # norms: two in each layer, one at the end
    held[_fitting(base if base in ("F16", "BF16", "Q8_0") else "Q6_K", d)] += shape.vocab * d
    if not shape.tied:
        held[_fitting(base, d)] += shape.vocab * d
    for layer in range(shape.layers):
        for part, (rows, columns) in parts.items():
            kind = rules[part](layer, shape.layers) if part in rules else base
            if part == "attn_v" and level == "Q2_K" and shape.heads // shape.kv_heads >= 4:
                kind = "Q4_K"
            if part == "attn_v" and shape.layers == 80 and kind in ("Q3_K", "Q4_K"):
                kind = "Q5_K"  # eight heads of a 70 B model share these few weights
            held[_fitting(kind, columns)] += rows * columns
    return held


def weight_bytes(shape: Shape, level: str) -> int:
    """Return the size of all tensors in bytes."""
    return sum(count // TYPES[kind].block * TYPES[kind].size for kind, count in mix(shape, level).items())


def file_bytes(shape: Shape, level: str) -> int:
    """Estimate the size of a GGUF file in bytes: its tensors, and a header that is mostly the vocabulary."""
    return weight_bytes(shape, level) + HEADER_BYTES * shape.vocab


def memory(shape: Shape, level: str, context: int) -> Memory:
    """Estimate the memory of a loaded model in bytes: weights, float16 KV cache, llama.cpp's buffers."""
    kv = 2 * shape.layers * shape.kv_heads * shape.head_dim * context * 2
    return Memory(weight_bytes(shape, level), kv, MICRO_BATCH * shape.vocab * 4 + LIBRARY_BYTES)


def _fitting(kind: str, columns: int) -> str:
    return FALLBACK.get(kind, kind) if columns % TYPES[kind].block else kind
