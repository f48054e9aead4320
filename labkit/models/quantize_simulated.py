"""Simulated quantization: weights are rounded as a method would round them, and kept as float32.

Nothing here gets smaller or faster. It shows what FP8, plain int4, GPTQ and AWQ do to real weights, given the
real activations that meet them; what comes of it is measured with `NumpyLlama`, and is to be called simulated.
Shapes: a weight is (out, in), activations are (N, in).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from labkit.errors import OptionInvalid
from labkit.models.numpy_llama import NumpyLlama

GROUP = 128
DAMPING = 0.01
AWQ_STEPS = 20

Array = NDArray[np.float32]


def fp8_e4m3(values: Array) -> Array:
    """Round to the nearest FP8 number of 4 exponent and 3 mantissa bits, largest 448, halves to even.

    Source: Micikevicius et al. 2022 (arXiv 2209.05433), table 1, in its variant without infinities.
    """
    _, exponent = np.frexp(values)
    # frexp's mantissa is below 1, so 1.xxx × 2^e has exponent e + 1; below 2^-6 the steps stay equal.
    step = np.ldexp(np.float32(1), np.maximum(exponent - 1, -6) - 3)
    return np.asarray((np.round(values / step) * step).clip(-448, 448), dtype=np.float32)


def round_fp8(weight: Array, activations: Array | None = None) -> Array:
    """Round every row to FP8, scaled so that its largest value becomes 448. Activations are not needed."""
    scale = np.abs(weight).max(axis=1, keepdims=True) / np.float32(448)
    scale[scale == 0] = 1
    return np.asarray(fp8_e4m3(weight / scale) * scale)


def round_int4(weight: Array, activations: Array | None = None) -> Array:
    """Round to the nearest of 16 evenly spaced values between least and largest of each group of a row."""
    groups = weight.reshape(len(weight), -1, min(GROUP, weight.shape[1]))
    return _round(groups, *_grid(groups)).reshape(weight.shape)


def gptq(weight: Array, activations: Array) -> Array:
    """Round column by column to int4, and let the columns still to come make up for each error.

    With H = XᵀX of the activations, an error e of column i is spread over later columns j as e · U[i, j] / U[i, i],
    where UᵀU = H⁻¹ (Cholesky). Source: Frantar et al. 2022 (arXiv 2210.17323), algorithm 1.
    """
    hessian = activations.T.astype(np.float64) @ activations
    hessian += np.eye(len(hessian)) * max(DAMPING * np.diag(hessian).mean(), 1e-9)
    upper = np.linalg.cholesky(np.linalg.inv(hessian)).T
    left, result = weight.astype(np.float64), np.empty_like(weight)
    for i in range(weight.shape[1]):
        if i % GROUP == 0:
            step, zero = _grid(left[:, i : i + GROUP].astype(np.float32))
        result[:, i] = _round(left[:, i : i + 1].astype(np.float32), step, zero)[:, 0]
        error = (left[:, i] - result[:, i]) / upper[i, i]
        left[:, i + 1 :] -= np.outer(error, upper[i, i + 1 :])
    return result


def awq(weight: Array, activations: Array) -> Array:
    """Round to int4 after scaling up the columns that meet large activations, and scale back.

    The scale is mean |x| to a power from 0 to 1, the one that changes the layer's output least. Source: Lin et al.
    2023 (arXiv 2306.00978), section 3.2.
    """
    size = np.abs(activations).mean(axis=0).clip(1e-6)
    gram = activations.T @ activations

    def loss(rounded: Array) -> float:
        error = rounded - weight
        return float(((error @ gram) * error).sum())  # = Σ (X · errorᵀ)²

    scales = [(size**power).astype(np.float32) for power in np.linspace(0, 1, AWQ_STEPS)]
    return min((round_int4(weight * scale) / scale for scale in scales), key=loss)


METHODS: dict[str, Callable[[Array, Array], Array]] = {
    "FP8": round_fp8, "int4": round_int4, "GPTQ": gptq, "AWQ": awq,
}  # fmt: skip


def activations_of(model: NumpyLlama, texts: Sequence[Sequence[int]]) -> dict[str, Array]:
    """Return what enters each linear layer while the model reads token ids, by the weight's name: (N, in)."""
    seen: dict[str, list[Array]] = {}
    model.watch = lambda name, x: seen.setdefault(name, []).append(x)
    try:
        for ids in texts:
            model.window_logits(ids)
    finally:
        model.watch = None
    return {name: np.concatenate(parts) for name, parts in seen.items()}


def simulate(model: NumpyLlama, method: str, texts: Sequence[Sequence[int]]) -> NumpyLlama:
    """Return the model with every linear layer rounded by a method of `METHODS`, calibrated on token ids.

    Embedding and norms stay as they are. Raises `OptionInvalid` for an unknown method.
    """
    if method not in METHODS:
        raise OptionInvalid(f"there is no method {method!r}", fix=f"choose from: {', '.join(METHODS)}")
    found = activations_of(model, texts)
    return model.with_weights({name: METHODS[method](model.weights[name], x) for name, x in found.items()})


def _grid(groups: Array) -> tuple[Array, Array]:
    """Return step and zero point along the last axis; the grid always holds 0, as real int4 kernels do."""
    low = np.minimum(groups.min(axis=-1, keepdims=True), 0)
    high = np.maximum(groups.max(axis=-1, keepdims=True), 0)
    step = np.maximum((high - low) / np.float32(15), np.float32(1e-9))
    return step, np.round(-low / step)


def _round(values: Array, step: Array, zero: Array) -> Array:
    return np.asarray((np.round(values / step) + zero).clip(0, 15) - zero) * step
