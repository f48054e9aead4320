"""Make a model of random weights, big enough to be bound by memory: for measuring speed, where words do not matter.

Its shape is Qwen2.5-0.5B's (config.json of Qwen/Qwen2.5-0.5B-Instruct) in the Llama architecture, which has no
biases: 494 million weights. Its text is noise. The vocabulary is nano's, filled up with numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.engines.llamacpp_convert import LEVELS, add_shape, add_tokenizer

SHAPE = {
    "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
    "head_dim": 64, "intermediate_size": 4864, "vocab_size": 151_936, "max_position_embeddings": 2048,
}  # fmt: skip
BLOCK = 2**22


def write_random(source: Path, template: str, out: Path, name: str, shape: Mapping[str, int] = SHAPE) -> None:
    """Write a float16 GGUF file with the tokenizer of the Hugging Face folder `source`; the same at every call.

    One tensor is in memory at a time: 0.4 GB suffice.
    """
    from gguf import GGUFWriter

    config = {**json.loads((source / "config.json").read_text("utf-8")), **shape}
    tokenizer = json.loads((source / "tokenizer.json").read_text("utf-8"))
    words = tokenizer["model"]["vocab"]
    # Ġ is how the vocabulary writes a space.
    words |= {f"Ġ{id}": id for id in range(len(words), config["vocab_size"])}
    tensors, random = shapes(config), np.random.default_rng(0)
    with closing(GGUFWriter(out, "llama")) as writer:
        writer.add_name(name)
        add_shape(writer, config)
        add_tokenizer(writer, tokenizer, config)
        writer.add_chat_template(template)
        writer.add_file_type(LEVELS["F16"])
        for key, sides in tensors.items():
            kind = np.dtype(np.float32 if len(sides) == 1 else np.float16)
            writer.add_tensor_info(key, sides, kind, math.prod(sides) * kind.itemsize)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for sides in tensors.values():
            writer.write_tensor_data(np.ones(sides, np.float32) if len(sides) == 1 else _noise(random, sides))


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor by its GGUF name; the output layer is the embedding table."""
    wide, inner = config["hidden_size"], config["intermediate_size"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    layer = {
        "attn_norm": (wide,), "attn_q": (wide, wide), "attn_k": (keys, wide), "attn_v": (keys, wide),
        "attn_output": (wide, wide), "ffn_norm": (wide,), "ffn_gate": (inner, wide), "ffn_up": (inner, wide),
        "ffn_down": (wide, inner),
    }  # fmt: skip
    layers = range(config["num_hidden_layers"])
    blocks = {f"blk.{i}.{part}.weight": shape for i in layers for part, shape in layer.items()}
    return {"token_embd.weight": (config["vocab_size"], wide), "output_norm.weight": (wide,), **blocks}


def _noise(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float16]:
    weight = np.empty(shape, np.float16)
    for rows in np.array_split(weight, weight.size // BLOCK + 1):
        rows[...] = 0.02 * random.standard_normal(rows.shape, np.float32)
    return weight
