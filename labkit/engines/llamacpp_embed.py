"""Embeddings of texts: the mean of the last layer's states over a text's tokens, scaled to length 1."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labkit.engines.llamacpp_native import Context
from labkit.errors import ContextOverflow, EngineFailed, OptionInvalid


def cut(texts: Sequence[Sequence[int]], limit: int, truncate: bool) -> list[list[int]]:
    """Return the first `limit` tokens of each text; without `truncate`, raise `ContextOverflow` for a longer one."""
    longest = max((len(ids) for ids in texts), default=limit)
    if longest > limit and not truncate:
        raise ContextOverflow(
            f"a text has {longest} tokens, and {limit} fit", fix="shorten it, or truncate=True"
        )
    if not all(texts):
        raise OptionInvalid("an empty text has no embedding", fix="leave it out")
    return [list(ids[:limit]) for ids in texts]


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale each row to length 1."""
    lengths: NDArray[np.float32] = np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return np.divide(vectors, lengths, dtype=np.float32)


def mean_states(context: Context, texts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """Read each text in a context of its own beside the conversation's; return the means, shape (N, D)."""
    lib, params = context.lib, context.context_params()
    params.embeddings, params.pooling_type = True, lib.LLAMA_POOLING_TYPE_MEAN
    params.n_batch = params.n_ubatch = params.n_ctx  # a mean needs all of a text in one batch
    ctx = lib.llama_init_from_model(context.model, params)
    if not ctx:
        raise EngineFailed("llama.cpp made no context for embeddings", fix="load(…, context=…) with less")
    rows = np.zeros((len(texts), lib.llama_model_n_embd(context.model)), np.float32)
    try:
        for row, ids in zip(rows, texts, strict=True):
            lib.llama_memory_clear(lib.llama_get_memory(ctx), True)
            tokens = (ctypes.c_int32 * len(ids))(*ids)
            if lib.llama_decode(ctx, lib.llama_batch_get_one(tokens, len(ids))):
                raise EngineFailed("llama.cpp could not read a text", fix="ask again with fewer tokens")
            row[:] = np.ctypeslib.as_array(lib.llama_get_embeddings_seq(ctx, 0), row.shape)
    finally:
        lib.llama_free(ctx)
    return rows
