"""A whole Llama model on one page: nano's forward pass in numpy, to read, to change and to compare.

It is slow, keeps no cache and samples nothing. Shapes: T tokens, D hidden, H heads of K, V in the vocabulary.
Architecture: Touvron et al. 2023 (arXiv 2302.13971); grouped queries: Ainslie et al. 2023 (arXiv 2305.13245).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.errors import ContextOverflow, ModelNotFound

Array = NDArray[np.float32]
Watch = Callable[[str, Array], None]


def nano_folder() -> Path:
    """Return the folder of nano's weights."""
    return Path(str(files("labkit.models"))) / "nano"


class NumpyLlama:
    """Compute a model's scores from the float32 matrices in `weights`, which may be replaced at will.

    `config` is Hugging Face's. A linear layer's matrix is (out, in) and named as in the file.
    """

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Array]) -> None:
        self.config, self.weights = config, dict(weights)
        self.watch: Watch | None = None

    @classmethod
    def read(cls, folder: Path) -> NumpyLlama:
        """Read a Hugging Face folder; raise `ModelNotFound` where a file is missing."""
        from safetensors.numpy import load_file

        try:
            config = json.loads((folder / "config.json").read_text("utf-8"))
            weights = load_file(folder / "model.safetensors")
        except FileNotFoundError as exc:
            raise ModelNotFound(f"{folder} has no whole model: {exc}", fix="give nano_folder()") from exc
        return cls(config, {name: weight.astype(np.float32) for name, weight in weights.items()})

    def with_weights(self, changed: Mapping[str, Array]) -> NumpyLlama:
        """Return a model that differs in these matrices; the others are shared."""
        return NumpyLlama(self.config, {**self.weights, **changed})

    def window_logits(self, ids: Sequence[int], first: int = 0) -> Array:
        """Return scores of every token that may follow ids[first], ids[first + 1], …: shape (T - first, V)."""
        c = self.config
        if len(ids) > c["max_position_embeddings"]:
            raise ContextOverflow(
                f"{len(ids)} tokens, the context has {c['max_position_embeddings']}", fix="a shorter window"
            )
        embeddings = self.weights["model.embed_tokens.weight"]
        x = embeddings[np.asarray(ids, dtype=np.intp)]
        rates = c["rope_theta"] ** -(np.arange(0, c["head_dim"], 2) / c["head_dim"])
        angles = np.outer(np.arange(len(ids)), rates).astype(np.float32)
        for layer in range(c["num_hidden_layers"]):
            name = f"model.layers.{layer}"
            x = x + self._attention(f"{name}.self_attn", self._norm(f"{name}.input_layernorm", x), angles)
            x = x + self._feed_forward(f"{name}.mlp", self._norm(f"{name}.post_attention_layernorm", x))
        return np.asarray(self._norm("model.norm", x)[first:] @ embeddings.T)

    def _attention(self, name: str, x: Array, angles: Array) -> Array:
        """Let every token look at itself and at those before it: (T, D) to (T, D)."""
        groups = self.config["num_attention_heads"] // self.config["num_key_value_heads"]
        q, k, v = (self._heads(self._linear(f"{name}.{part}_proj", x)) for part in "qkv")
        q, k = rotate(q, angles), rotate(k, angles)
        k, v = np.repeat(k, groups, axis=0), np.repeat(v, groups, axis=0)  # (H, T, K)
        scores = q @ k.swapaxes(1, 2) / np.float32(np.sqrt(self.config["head_dim"]))  # (H, T, T)
        scores += np.triu(np.full(scores.shape[1:], -np.inf, dtype=np.float32), 1)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = shares / shares.sum(axis=-1, keepdims=True) @ v
        return self._linear(f"{name}.o_proj", mixed.swapaxes(0, 1).reshape(len(x), -1))

    def _feed_forward(self, name: str, x: Array) -> Array:
        """SwiGLU: (T, D) to (T, D)."""
        gate = self._linear(f"{name}.gate_proj", x)
        silu = gate / (1 + np.exp(-np.maximum(gate, -80)))  # float32 ends at e^88
        return self._linear(f"{name}.down_proj", silu * self._linear(f"{name}.up_proj", x))

    def _linear(self, name: str, x: Array) -> Array:
        if self.watch:
            self.watch(f"{name}.weight", x)
        return np.asarray(x @ self.weights[f"{name}.weight"].T)

    def _norm(self, name: str, x: Array) -> Array:
        mean = np.mean(x * x, axis=-1, keepdims=True)
        return np.asarray(x / np.sqrt(mean + self.config["rms_norm_eps"]) * self.weights[f"{name}.weight"])

    def _heads(self, x: Array) -> Array:
        return x.reshape(len(x), -1, self.config["head_dim"]).swapaxes(0, 1)


def rotate(x: Array, angles: Array) -> Array:
    """Turn pairs (i, i + K/2) of each head (H, T, K) by the token's angles (T, K/2)."""
    first, second = np.split(x, 2, axis=-1)
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
