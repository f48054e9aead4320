"""Quantized blocks, against the `gguf` package and real files of nano, and sizes against those files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llama_cpp", reason="needs llama-cpp-python: pip install 'labkit[llamacpp]'")

import gguf
from gguf import quants

from labkit.engines.llamacpp_convert import convert, quantize
from labkit.errors import ModelNotFound, OptionInvalid
from labkit.models import quantize_math as math
from labkit.models.catalog import find
from labkit.models.fit import needs
from labkit.models.gguf import inspect
from labkit.models.numpy_llama import nano_folder
from labkit.models.sizes import LEVELS, SHAPES, Shape, file_bytes, memory, mix, weight_bytes

TENSORS = ("token_embd.weight", "blk.0.attn_v.weight", "blk.3.ffn_down.weight")


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that makes nano's file of a level once."""
    folder = tmp_path_factory.mktemp("nano")
    convert(nano_folder(), "", folder / "F16.gguf", "nano")

    def made(level: str) -> Path:
        path = folder / f"{level}.gguf"
        if not path.exists():
            quantize(folder / "F16.gguf", path, level, threads=1)
        return path

    return made


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q5_1"])
def test_blocks_are_bit_for_bit_those_of_gguf(nano: Callable[[str], Path], kind: str) -> None:
    number = gguf.GGMLQuantizationType[kind]
    pack, unpack = (getattr(math, f"{verb}_{kind.lower()}") for verb in ("quantize", "dequantize"))
    for name in TENSORS:
        stored, data = math.read_blocks(nano("F16"), name)
        assert stored == "F16"
        blocks = data.view(np.float16).astype(np.float32).reshape(-1, 32)
        blocks[0], blocks[1] = 0, 0.5  # nothing but zeros, and a single value
        packed = pack(blocks)
        assert np.array_equal(packed, quants.quantize(blocks, number))
        assert np.array_equal(unpack(packed), quants.dequantize(packed, number))


def test_a_files_blocks_are_what_the_function_makes(nano: Callable[[str], Path]) -> None:
    name = "blk.2.ffn_up.weight"
    half = math.read_blocks(nano("F16"), name)[1].view(np.float16).astype(np.float32).reshape(-1, 32)
    kind, stored = math.read_blocks(nano("Q8_0"), name)
    assert kind == "Q8_0" and stored.shape == (len(half), 34)
    ours, theirs = math.quantize_q8_0(half), stored
    assert np.array_equal(ours[:, :2], theirs[:, :2])
    # llama.cpp's vector code rounds halves otherwise; no code is more than one step away.
    steps = np.abs(ours[:, 2:].view(np.int8).astype(int) - theirs[:, 2:].view(np.int8))
    assert steps.max() <= 1 and steps.mean() < 1e-3


def test_scales_and_mins_of_a_real_super_block(nano: Callable[[str], Path]) -> None:
    kind, data = math.read_blocks(nano("Q4_K_M"), "blk.1.attn_q.weight")
    assert kind == "Q4_K" and data.shape == (256 * 256 // 256, 144)
    expected = quants.dequantize(data, gguf.GGMLQuantizationType.Q4_K).reshape(-1, 256)
    for block, values in zip(data, expected, strict=True):
        found = math.super_block(block)
        assert np.array_equal(found.values, values)
        assert found.codes.shape == (8, 32) and found.codes.max() <= 15
        d, d_min = block[:4].view(np.float16).astype(np.float32)
        six_bits = np.concatenate([found.scales / d, found.mins / d_min])
        assert np.array_equal(six_bits, six_bits.round()) and 0 <= six_bits.min() <= six_bits.max() <= 63


def test_what_is_no_block_or_tensor_is_refused(nano: Callable[[str], Path]) -> None:
    with pytest.raises(OptionInvalid, match="144 bytes"):
        math.super_block(np.zeros(210, dtype=np.uint8))
    with pytest.raises(ModelNotFound, match="blk.99"):
        math.read_blocks(nano("F16"), "blk.99.attn_q.weight")


@pytest.mark.parametrize("level", LEVELS)
def test_sizes_are_those_of_real_files(nano: Callable[[str], Path], level: str) -> None:
    info = inspect(nano(level))
    held: dict[str, int] = {}
    for tensor in info.tensors:
        held[tensor.type.name] = held.get(tensor.type.name, 0) + tensor.parameters
    assert mix(SHAPES["nano"], level) == held
    assert weight_bytes(SHAPES["nano"], level) == sum(t.size for t in info.tensors)
    assert file_bytes(SHAPES["nano"], level) == pytest.approx(info.file_bytes, rel=0.01)


def test_rows_that_are_no_whole_super_blocks_fall_back() -> None:
    held = mix(SHAPES["0.5B"], "Q4_K_M")  # rows of 896 = 3.5 × 256; only ffn_down's 4,864 divide
    assert set(held) == {"F32", "Q5_0", "Q8_0", "Q4_K", "Q6_K"}
    assert set(mix(Shape(2, 128, 4, 2, 32, 256, 64), "Q2_K")) == {"F32", "Q4_0", "Q3_K", "Q8_0"}


def test_published_files_are_as_big_as_computed() -> None:
    for name, alias in (("0.5B", "qwen2.5-0.5b"), ("1.5B", "qwen2.5-1.5b"), ("7B", "qwen2.5-7b")):
        for variant in find(alias).variants:
            assert file_bytes(SHAPES[name], variant.quant) == pytest.approx(variant.file_bytes, rel=0.015)
    assert sum(mix(SHAPES["70B"], "Q4_K_M").values()) == pytest.approx(70.55e9, rel=1e-3)


def test_memory_is_estimated_as_for_the_catalog() -> None:
    ours, card = memory(SHAPES["7B"], "Q4_K_M", 4096), needs(find("qwen2.5-7b"), "Q4_K_M", 4096)
    assert (ours.kv, ours.overhead) == (card.kv, card.overhead)
    assert ours.total == pytest.approx(card.total, rel=0.01)
    with pytest.raises(OptionInvalid, match="Q4_K_XXL"):
        memory(SHAPES["7B"], "Q4_K_XXL", 4096)
