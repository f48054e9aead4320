"""The Llama architecture in plain torch, with Hugging Face's weight names, for training on a small machine.

Shapes: B sequences of T tokens, D hidden, H heads of K, G key/value heads, V tokens in the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Shape:
    """Fix the size of a network. The defaults are nano's: 4.2 M parameters."""

    vocab: int = 4096
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    feed_forward: int = 768
    context: int = 2048
    rope_theta: float = 10_000.0
    eps: float = 1e-5

    def config(self, bos: int, eos: int) -> dict[str, Any]:
        """Return the Hugging Face `config.json` of this shape."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.feed_forward,
            "max_position_embeddings": self.context,
            "rope_theta": self.rope_theta,
            "rms_norm_eps": self.eps,
            "hidden_act": "silu",
            "tie_word_embeddings": True,
            "attention_bias": False,
            "mlp_bias": False,
            "initializer_range": 0.02,
            "torch_dtype": "float16",
            "bos_token_id": bos,
            "eos_token_id": eos,
            "pad_token_id": bos,
        }


# Nano's rows are multiples of 256, which llama.cpp's K-quants ask for; where pico's are not, llama.cpp
# falls back to a coarser-grained level of a few more bits.
SHAPES = {
    "nano": Shape(),
    "pico": Shape(hidden=128, layers=4, heads=4, kv_heads=2, head_dim=32, feed_forward=256),
}


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.s = s
        self.q_proj = nn.Linear(s.hidden, s.heads * s.head_dim, bias=False)
        self.k_proj = nn.Linear(s.hidden, s.kv_heads * s.head_dim, bias=False)
        self.v_proj = nn.Linear(s.hidden, s.kv_heads * s.head_dim, bias=False)
        self.o_proj = nn.Linear(s.heads * s.head_dim, s.hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        return self.mixed(*self.project(x, cos, sin), mask)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries (B, H, T, K), keys and values (B, G, T, K), rotated."""
        b, t, _ = x.shape
        q = self.q_proj(x).view(b, t, self.s.heads, -1).transpose(1, 2)
        k = self.k_proj(x).view(b, t, self.s.kv_heads, -1).transpose(1, 2)
        v = self.v_proj(x).view(b, t, self.s.kv_heads, -1).transpose(1, 2)
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def mixed(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Let the queries look at the keys, and map what they find to (B, T, D)."""
        groups = self.s.heads // self.s.kv_heads
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        return self.o_proj(attend(q, k, v, mask).transpose(1, 2).flatten(2))


BLOCK = 192  # queries that look at once: fewer, and the products are too small for a core's units


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Mix values (B, H, T, K) by causal attention, within what `mask` leaves to be seen."""
    length = q.shape[2]
    if mask is None or q.device.type != "cpu" or length % BLOCK:
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None)
    # torch's kernel multiplies bfloat16 slowly on a CPU without matrix units. Plain products, each block of queries
    # with the keys before its end, take half of its time there.
    mixed = []
    for stop in range(BLOCK, length + 1, BLOCK):
        scores = q[:, :, stop - BLOCK : stop] @ k[:, :, :stop].mT / q.shape[-1] ** 0.5
        scores = scores.float() + mask[:, :, stop - BLOCK : stop, :stop]
        mixed.append(scores.softmax(-1).to(q.dtype) @ v[:, :, :stop])
    return torch.cat(mixed, 2)


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(s.hidden, s.feed_forward, bias=False)
        self.up_proj = nn.Linear(s.hidden, s.feed_forward, bias=False)
        self.down_proj = nn.Linear(s.feed_forward, s.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """One block: attention, then feed-forward, each behind a norm and added to the stream."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(s.hidden, eps=s.eps)
        self.self_attn = Attention(s)
        self.post_attention_layernorm = nn.RMSNorm(s.hidden, eps=s.eps)
        self.mlp = FeedForward(s)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """The whole network, output tied to the embedding."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.s = s
        self.guided, self.before = max(1, s.layers - 2), dict[int, tuple[Tensor, Tensor, Tensor]]()
        self.embed_tokens = nn.Embedding(s.vocab, s.hidden)
        self.layers = nn.ModuleList(Layer(s) for _ in range(s.layers))
        self.norm = nn.RMSNorm(s.hidden, eps=s.eps)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                deep = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(weight, std=0.02 / (2 * s.layers) ** 0.5 if deep else 0.02)

    def forward(self, ids: Tensor, places: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Map token ids (B, T) to the last hidden state (B, T, D); `logits` turns that into scores.

        `places` (B, T) numbers the tokens where a row holds several texts, and `mask` (B, 1, T, T), added to the
        attention scores, keeps those apart; without them a row is one text.
        """
        cos, sin = angles(ids.shape[1], self.s, ids.device)
        if places is not None:
            cos, sin = cos[places].unsqueeze(1), sin[places].unsqueeze(1)
        x = self.embed_tokens(ids)
        for number, layer in enumerate(self.layers):
            if number in (self.guided - 1, self.guided):
                self.before[number] = x, cos, sin
            x = layer(x, cos, sin, mask)
        return self.norm(x)

    def looks(self, rows: Tensor, heads: Tensor, columns: Tensor) -> Tensor:
        """Return attention scores (N, T) of guided heads in the last forward pass.

        `heads` (N,) counts two in the last layer but one, each the first of a group that shares its keys, then those
        of the layer before.
        """
        parts, order, size = [], [], self.s.head_dim
        for head in heads.unique().tolist():
            number, group = self.guided - head // 2, head % 2 % self.s.kv_heads
            first = group * (self.s.heads // self.s.kv_heads)
            layer, (x, cos, sin) = self.layers[number], self.before[number]
            b, t, _ = x.shape
            x, cos, sin = layer.input_layernorm(x), *(a.expand(b, 1, t, -1)[:, 0] for a in (cos, sin))
            query, key = layer.self_attn.q_proj.weight, layer.self_attn.k_proj.weight
            keys = rotate(F.linear(x, key[group * size : (group + 1) * size]), cos, sin)
            for row in range(b):
                at = ((rows == row) & (heads == head)).nonzero()[:, 0]
                column = columns[at]
                queries = F.linear(x[row].index_select(0, column), query[first * size : (first + 1) * size])
                parts.append(rotate(queries, cos[row, column], sin[row, column]) @ keys[row].T)
                order.append(at)
        scores = torch.cat(parts).index_select(0, torch.cat(order).argsort())
        return scores.float() / self.s.head_dim**0.5

    def logits(self, hidden: Tensor) -> Tensor:
        """Map hidden states (…, D) to scores (…, V)."""
        return F.linear(hidden, self.embed_tokens.weight)


def angles(length: int, s: Shape, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of the rotary angles, each (T, K)."""
    rates = s.rope_theta ** -(torch.arange(0, s.head_dim, 2, device=device) / s.head_dim)
    turns = torch.outer(torch.arange(length, device=device), rates)
    return torch.cat((turns.cos(),) * 2, -1), torch.cat((turns.sin(),) * 2, -1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate (B, H, T, K) by position, pairing entry i with entry i + K/2 (Hugging Face's convention)."""
    first, second = x.chunk(2, -1)
    return (x * cos + torch.cat((-second, first), -1) * sin).to(x.dtype)
