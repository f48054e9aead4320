"""Sample many replies at once from a network in training, with cached keys and values.

Shapes: N prompts of at most T tokens, C copies of each, B = N·C; G key/value heads, R queries to each, K their size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from labkit.training.network import Llama, angles

Cache = tuple[Tensor, Tensor]


@torch.no_grad()
def sample(
    net: Llama,
    prompts: Sequence[Sequence[int]],
    copies: int = 1,
    *,
    ends: Sequence[int],
    max_tokens: int = 64,
    temperature: float = 1.0,
    seed: int = 0,
) -> list[list[int]]:
    """Return `copies` replies to each prompt, in order, each with the token of `ends` that closed it.

    Temperature 0 is greedy. The same seed on the same machine gives the same replies.
    """
    device = net.embed_tokens.weight.device
    chance = torch.Generator(device).manual_seed(seed)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    hidden, caches = read(
        net, [torch.tensor(prompt, device=device) for prompt in prompts], copies, max_tokens
    )
    x = hidden[torch.arange(len(prompts), device=device), lengths - 1].repeat_interleave(copies, 0)
    lengths, longest = lengths.repeat_interleave(copies), hidden.shape[1]
    columns = torch.arange(longest + max_tokens, device=device)
    padding = (columns >= lengths[:, None]) & (columns < longest)
    cos, sin = angles(longest + max_tokens, net.s, device)
    found, unfinished = [], torch.ones(len(lengths), dtype=torch.bool, device=device)
    for step in range(max_tokens):
        scores = net.logits(x).float()
        if temperature:
            chosen = torch.multinomial((scores / temperature).softmax(-1), 1, generator=chance)[:, 0]
        else:
            chosen = scores.argmax(-1)
        found.append(torch.where(unfinished, chosen, -1))
        unfinished &= ~torch.isin(chosen, torch.tensor(list(ends), device=device))
        if not unfinished.any() or step + 1 == max_tokens:
            break
        turns = (cos[lengths + step][:, None, None], sin[lengths + step][:, None, None])
        x = write(net, chosen, turns, caches, longest + step, padding)
    return [[token for token in row if token >= 0] for row in torch.stack(found, 1).tolist()]


def read(net: Llama, prompts: list[Tensor], copies: int, room: int) -> tuple[Tensor, list[Cache]]:
    """Return the hidden states of all prompts (N, T, D), and each layer's keys and values (B, G, T + room, K)."""
    ids = pad_sequence(prompts, batch_first=True)  # padding comes last: no real token looks at it
    cos, sin = angles(ids.shape[1], net.s, ids.device)
    x, caches = net.embed_tokens(ids), []
    for layer in net.layers:
        q, k, v = layer.self_attn.project(layer.input_layernorm(x), cos, sin)
        k_kept, v_kept = (
            torch.nn.functional.pad(part, (0, 0, 0, room)).repeat_interleave(copies, 0) for part in (k, v)
        )
        caches.append((k_kept, v_kept))
        x = x + layer.self_attn.mixed(q, k, v, None)
        x = x + layer.mlp(layer.post_attention_layernorm(x))
    return net.norm(x), caches


def write(net: Llama, ids: Tensor, turns: Cache, caches: list[Cache], at: int, padding: Tensor) -> Tensor:
    """Put one more token (B,) into column `at` of the caches; return its hidden state (B, D)."""
    x = net.embed_tokens(ids)[:, None]
    hidden = padding[:, None, None, : at + 1]
    for layer, (keys, values) in zip(net.layers, caches, strict=True):
        q, k, v = layer.self_attn.project(layer.input_layernorm(x), *turns)
        keys[:, :, at], values[:, :, at] = k[:, :, 0], v[:, :, 0]
        # Queries that share a key head ask it together: (B, G, R, K), without a copy of the keys for each.
        asked = q.reshape(len(q), net.s.kv_heads, -1, net.s.head_dim) / net.s.head_dim**0.5
        scores = (asked @ keys[:, :, : at + 1].mT).masked_fill(hidden, -torch.inf)
        told = scores.softmax(-1) @ values[:, :, : at + 1]
        x = x + layer.self_attn.o_proj(told.flatten(1)[:, None])
        x = x + layer.mlp(layer.post_attention_layernorm(x))
    return net.norm(x)[:, 0]
