"""What quantization does to a block of weights: the arithmetic of GGUF's types, in numpy, to take apart.

A type packs a block of values into bytes: one or two float16 constants, then small whole numbers. The functions
here give the very bytes that llama.cpp's `gguf` package gives. K-quants are read out of real files, not made.
Source: llama.cpp, ggml/src/ggml-common.h (layouts) and ggml-quants.c (the `_ref` functions).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.errors import ModelNotFound, OptionInvalid
from labkit.models.ggml import TENSOR_TYPES

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def quantize_q8_0(blocks: Floats) -> Bytes:
    """Pack (N, 32) values into (N, 34) bytes: a float16 step d, then 32 signed codes; value ≈ d × code."""
    step = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    codes = blocks * _inverse(step)
    codes = np.sign(codes) * np.floor(np.abs(codes) + np.float32(0.5))  # halves go away from zero
    return np.hstack([_half(step), codes.astype(np.int8).view(np.uint8)])


def dequantize_q8_0(data: Bytes) -> Floats:
    """Unpack (N, 34) bytes to (N, 32) values."""
    return _floats(data[:, :2]) * np.ascontiguousarray(data[:, 2:]).view(np.int8).astype(np.float32)


def quantize_q4_0(blocks: Floats) -> Bytes:
    """Pack (N, 32) values into (N, 18) bytes: a float16 step d, 32 codes 0–15; value ≈ d × (code - 8).

    The value of largest size gets code 0 (-8), so d has the opposite sign of it.
    """
    at = np.abs(blocks).argmax(axis=1, keepdims=True)
    step = np.take_along_axis(blocks, at, axis=1) / np.float32(-8)
    codes = np.trunc(blocks * _inverse(step) + np.float32(8.5)).clip(0, 15).astype(np.uint8)
    return np.hstack([_half(step), codes[:, :16] | codes[:, 16:] << 4])


def dequantize_q4_0(data: Bytes) -> Floats:
    """Unpack (N, 18) bytes to (N, 32) values."""
    codes = np.hstack([data[:, 2:] & 15, data[:, 2:] >> 4]).astype(np.float32)
    return _floats(data[:, :2]) * (codes - 8)


def quantize_q5_1(blocks: Floats) -> Bytes:
    """Pack (N, 32) values into (N, 24) bytes: step d, least value m, 32 codes 0–31; value ≈ d × code + m.

    The fifth bits of all codes stand together in four bytes, before the lower four.
    """
    least = blocks.min(axis=1, keepdims=True)
    step = (blocks.max(axis=1, keepdims=True) - least) / np.float32(31)
    codes = np.trunc((blocks - least) * _inverse(step) + np.float32(0.5)).clip(0, 31).astype(np.uint8)
    high = np.packbits(codes >> 4, axis=1, bitorder="little")
    low = codes & 15
    return np.hstack([_half(step), _half(least), high, low[:, :16] | low[:, 16:] << 4])


def dequantize_q5_1(data: Bytes) -> Floats:
    """Unpack (N, 24) bytes to (N, 32) values."""
    high = np.unpackbits(data[:, 4:8], axis=1, bitorder="little")
    codes = np.hstack([data[:, 8:] & 15, data[:, 8:] >> 4]) | high << 4
    return np.asarray(_floats(data[:, :2]) * codes.astype(np.float32) + _floats(data[:, 2:4]))


def _inverse(step: Floats) -> Floats:
    return np.asarray(np.divide(np.float32(1), step, out=np.zeros_like(step), where=step != 0))


def _half(values: Floats) -> Bytes:
    return values.astype(np.float16).view(np.uint8)


def _floats(data: Bytes) -> Floats:
    return np.ascontiguousarray(data).view(np.float16).astype(np.float32)


@dataclass(frozen=True, slots=True)
class SuperBlock:
    """Hold what Q4_K keeps for 256 weights in eight sub-blocks: value = scale × code - min.

    `scales` and `mins` (8,) are already multiplied by the super-block's two float16 constants; `codes` is (8, 32).
    """

    scales: Floats
    mins: Floats
    codes: Bytes

    @property
    def values(self) -> Floats:
        """Return the 256 weights."""
        return (self.scales[:, None] * self.codes - self.mins[:, None]).ravel()


def read_blocks(path: Path, tensor: str) -> tuple[str, Bytes]:
    """Return a tensor's type and its blocks (N, bytes a block) as they stand in a GGUF file."""
    from gguf import GGUFReader

    found: dict[str, Any] = {t.name: t for t in GGUFReader(path).tensors}
    if tensor not in found:
        raise ModelNotFound(f"{path.name} has no {tensor!r}", fix=f"choose from: {', '.join(found)}")
    kind = TENSOR_TYPES[int(found[tensor].tensor_type)]
    data = np.array(found[tensor].data)  # a copy: the reader maps the file
    return kind.name, data.view(np.uint8).reshape(-1, kind.size)


def read_weights(path: Path, part: str, most: int = 2**20) -> tuple[str, Floats]:
    """Return the first matrix of a GGUF file whose name holds `part`: its name and about `most` of its weights.

    They come out as an engine sees them, whatever type they are stored in: shape (rows, columns).
    """
    from gguf import GGUFReader
    from gguf.quants import dequantize

    found: Any = next((t for t in GGUFReader(path).tensors if part in t.name and len(t.shape) > 1), None)
    if found is None:
        raise ModelNotFound(f"{path.name} has no matrix {part!r}", fix='as in "ffn_up" or "attn_q"')
    rows = max(1, most // int(found.shape[0]))
    return found.name, np.array(dequantize(found.data[:rows], found.tensor_type), np.float32)


def super_block(data: Bytes) -> SuperBlock:
    """Take the 144 bytes of a Q4_K super-block apart.

    They hold d, d_min, eight 6-bit scales and eight 6-bit mins in 12 bytes, then the codes of two sub-blocks in
    every 32 bytes.
    """
    if data.shape != (144,):
        raise OptionInvalid(
            f"a block of Q4_K has 144 bytes, not {data.shape}", fix="one row of read_blocks()"
        )
    d, d_min = data[:4].view(np.float16).astype(np.float32)
    a, b, c = data[4:16].reshape(3, 4)  # the upper two bits of a and b belong to sub-blocks 4 to 7
    scales = np.concatenate([a & 63, c & 15 | a >> 6 << 4]).astype(np.float32)
    mins = np.concatenate([b & 63, c >> 4 | b >> 6 << 4]).astype(np.float32)
    pairs = data[16:].reshape(4, 1, 32)
    codes = np.concatenate([pairs & 15, pairs >> 4], axis=1).reshape(8, 32)
    return SuperBlock(d * scales, d_min * mins, codes)
