"""GGUF inspection: right on a sound file, quick and calm on anything else."""

from __future__ import annotations

import os
import random
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from labkit.errors import ModelFileInvalid, ModelNotFound
from labkit.models.ggml import FILE_TYPES, TENSOR_TYPES
from labkit.models.gguf import inspect
from labkit.models.gguf_header import Array

MEGABYTE = 2**20


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str | bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


ARCH = pair("general.architecture", 8, text("llama"))


def tensor(name: str = "w", shape: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0) -> bytes:
    dims = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + dims + struct.pack("<IQ", kind, offset)


def build(
    pairs: list[bytes] | None = None,
    tensors: list[bytes] | None = None,
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    keys: int | None = None,
    count: int | None = None,
    data: int = 4096,
) -> bytes:
    pairs = [ARCH] if pairs is None else pairs
    tensors = [tensor()] if tensors is None else tensors
    counts = (len(tensors) if count is None else count, len(pairs) if keys is None else keys)
    return magic + struct.pack("<Iqq", version, *counts) + b"".join(pairs) + b"".join(tensors) + bytes(data)


BAD = {
    "empty": (b"", "empty"),
    "magic": (build(magic=b"GGUX"), "starts with"),
    "web page": (b"<!DOCTYPE html><html>404</html>", "web page"),
    "pickle": (b"\x80\x04\x95" + bytes(99), "pickle"),
    "zip": (b"PK\x03\x04" + bytes(99), "zip"),
    "lfs pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs"),
    "json": (b'{"error": "not found"}', "JSON"),
    "only magic": (b"GGUF", "truncated"),
    "version 1": (build(version=1), "version is 1"),
    "big-endian": (build(version=0x03000000), "big-endian"),
    "tensor count -1": (build(count=-1), "-1 tensors"),
    "key count -1": (build(keys=-1), "-1 metadata keys"),
    "absurd tensor count": (build(count=2**40), "tensors"),
    "absurd key count": (build(keys=2**62), "metadata keys"),
    "more keys than there are": (build(keys=9), "not a sound"),
    "no architecture": (build([pair("a", 4, bytes(4))]), "architecture"),
    "architecture is a number": (build([pair("general.architecture", 4, bytes(4))]), "architecture"),
    "duplicate key": (build([ARCH, ARCH]), "occurs twice"),
    "key not utf-8": (build([ARCH, pair(b"\xff\xfe", 4, bytes(4))]), "UTF-8"),
    "huge key": (build([ARCH, struct.pack("<Q", 2**63)]), "bytes long"),
    "huge string": (build([ARCH, pair("s", 8, struct.pack("<Q", 2**64 - 1))]), "bytes long"),
    "unknown value type": (build([ARCH, pair("a", 13, bytes(8))]), "unknown type 13"),
    "nested array": (build([ARCH, pair("a", 9, struct.pack("<IQ", 9, 1) + bytes(64))]), "nests"),
    "unknown item type": (build([ARCH, pair("a", 9, struct.pack("<IQ", 99, 1))]), "item type 99"),
    "huge array": (build([ARCH, pair("a", 9, struct.pack("<IQ", 0, 2**63))]), "does not fit"),
    "huge string array": (build([ARCH, pair("a", 9, struct.pack("<IQ", 8, 2**40))]), "does not fit"),
    "alignment 0": (build([ARCH, pair("general.alignment", 4, struct.pack("<I", 0))]), "alignment is 0"),
    "alignment 33": (build([ARCH, pair("general.alignment", 4, struct.pack("<I", 33))]), "alignment is 33"),
    "alignment text": (build([ARCH, pair("general.alignment", 8, text("x"))]), "alignment is 'x'"),
    "no dimensions": (build(tensors=[tensor(shape=())]), "0 dimensions"),
    "five dimensions": (build(tensors=[tensor(shape=(1,) * 5)]), "5 dimensions"),
    "overflowing dims": (build(tensors=[tensor(shape=(2**33, 2**33))]), "shape"),
    "zero dim": (build(tensors=[tensor(shape=(32, 0))]), "shape"),
    "unknown tensor type": (build(tensors=[tensor(kind=4)]), "unknown type 4"),
    "part of a block": (build(tensors=[tensor(shape=(31,), kind=2)]), "Q4_0 packs 32"),
    "duplicate tensor": (build(tensors=[tensor(), tensor(offset=128)]), "occurs twice"),
    "long tensor name": (build(tensors=[tensor("n" * 64)]), "64 bytes long"),
    "misaligned offset": (build(tensors=[tensor(), tensor("v", offset=129)]), "offset 129"),
    "overlapping tensors": (build(tensors=[tensor(), tensor("v", offset=0)]), "offset 0"),
    "offset out of range": (build(tensors=[tensor(offset=2**63)]), "offset"),
    "truncated data": (build(tensors=[tensor(shape=(4096,))]), "truncated"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    content, reason = BAD[name]
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelFileInvalid) as caught:
        inspect(path)
    assert reason in caught.value.what and str(path) in caught.value.what
    assert caught.value.fix


def test_a_directory_a_pipe_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileInvalid, match="is a directory"):
        inspect(tmp_path)
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ModelFileInvalid, match="not a regular file"):
        inspect(tmp_path / "pipe.gguf")
    with pytest.raises(ModelNotFound, match="no file"):
        inspect(tmp_path / "none.gguf")
    with pytest.raises(ModelNotFound, match="no file"):
        inspect(tmp_path / "pipe.gguf" / "below.gguf")


def test_the_message_names_the_command_that_mends_a_file_of_ours(labkit_home: Path) -> None:
    path = labkit_home / "models" / "nano" / "Q4_K_M.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"GGUF")
    with pytest.raises(ModelFileInvalid, match="labkit models rm nano, then labkit models pull nano"):
        inspect(path)


def heavy_strings() -> bytes:
    count = 3_000_000
    array = struct.pack("<IQ", 8, count) + bytes(8 * count)
    return build([ARCH, pair("a", 9, array)])


def many_long_strings() -> bytes:
    return build([ARCH, *(pair(f"s{i}", 8, text("\U0001f600" + "x" * 1_000_000)) for i in range(40))])


def long_header() -> bytes:
    return build([ARCH, pair("a", 9, struct.pack("<IQ", 0, 40 * MEGABYTE) + bytes(40 * MEGABYTE))])


def many_small_arrays() -> bytes:
    item = struct.pack("<IQ", 10, 64) + b"\xff" * 512
    return build([ARCH, *(pair(f"a{i}", 9, item) for i in range(1_999))], count=-5)


@pytest.mark.parametrize("make", [heavy_strings, many_long_strings, long_header, many_small_arrays])
def test_a_file_that_asks_for_time_or_memory_gets_neither(make: Callable[[], bytes], tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(make())
    start = time.process_time()
    with pytest.raises(ModelFileInvalid):
        inspect(path)
    assert time.process_time() - start < 1
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileInvalid):
            inspect(path)
        assert tracemalloc.get_traced_memory()[1] < 64 * MEGABYTE
    finally:
        tracemalloc.stop()


def test_a_sparse_giant_is_read_by_its_header_only(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(build(tensors=[tensor(shape=(2**20, 2**10))], data=0))
    os.truncate(path, 2**32 + MEGABYTE)
    assert inspect(path).parameters == 2**30


def test_a_vocabulary_as_large_as_any_is_read_in_time(tmp_path: Path) -> None:
    strings = b"".join(text(f"token{i}") for i in range(700_000))
    array = struct.pack("<IQ", 8, 700_000) + strings
    path = tmp_path / "model.gguf"
    path.write_bytes(build([ARCH, pair("tokenizer.ggml.tokens", 9, array)]))
    start = time.process_time()
    info = inspect(path)
    assert time.process_time() - start < 1
    assert info.metadata["tokenizer.ggml.tokens"] == Array("str", 700_000)


def test_no_mutation_of_a_real_file_raises_anything_else(tiny_gguf: Path, tmp_path: Path) -> None:
    sound = tiny_gguf.read_bytes()
    header = len(sound) - sum(t.size for t in inspect(tiny_gguf).tensors)
    dice = random.Random(7)
    path = tmp_path / "model.gguf"
    refused = 0
    for _ in range(400):
        broken = bytearray(sound)
        for _ in range(dice.randint(1, 8)):
            at = dice.randrange(header)
            edge = dice.choice([b"\x00", b"\xff", b"\x80", b"\xff" * 8, bytes(8), dice.randbytes(4)])
            broken[at : at + len(edge)] = edge
        path.write_bytes(broken[: dice.randrange(len(broken))] if dice.random() < 0.2 else broken)
        start = time.process_time()
        try:
            inspect(path)
        except ModelFileInvalid:
            refused += 1
        assert time.process_time() - start < 1
    assert refused > 100


def test_every_prefix_of_a_file_is_refused(tiny_gguf: Path, tmp_path: Path) -> None:
    sound = tiny_gguf.read_bytes()
    path = tmp_path / "model.gguf"
    for length in range(0, len(sound) - 64, max(1, len(sound) // 300)):
        path.write_bytes(sound[:length])
        with pytest.raises(ModelFileInvalid):
            inspect(path)


def test_a_real_file_is_described(tiny_gguf: Path) -> None:
    info = inspect(tiny_gguf)
    assert (info.version, info.architecture, info.quantization) == (3, "llama", "F16")
    assert info.context_length == 256
    assert info.chat_template and "<|im_start|>" in info.chat_template
    assert info.metadata["tokenizer.ggml.tokens"] == Array("str", 200)
    assert info.file_bytes == tiny_gguf.stat().st_size
    assert 16 < info.bits_per_weight < 17
    embedding = next(t for t in info.tensors if t.name == "token_embd.weight")
    assert (embedding.shape, embedding.type.name, embedding.size) == ((64, 200), "F16", 25_600)
    assert info.parameters == sum(t.parameters for t in info.tensors)


def test_the_same_tensors_as_the_gguf_package_finds(tiny_gguf: Path) -> None:
    gguf = pytest.importorskip("gguf")
    theirs = {t.name: (tuple(t.shape), int(t.n_bytes)) for t in gguf.GGUFReader(tiny_gguf).tensors}
    assert {t.name: (t.shape, t.size) for t in inspect(tiny_gguf).tensors} == theirs


def test_sizes_and_names_agree_with_the_gguf_package() -> None:
    gguf = pytest.importorskip("gguf")
    theirs = {int(kind): (kind.name, *size) for kind, size in gguf.GGML_QUANT_SIZES.items()}
    theirs[9] = ("Q8_1", 32, 36)  # the package says 40; ggml-common.h has two halves and 32 bytes
    assert {number: tuple(kind) for number, kind in TENSOR_TYPES.items()} == theirs
    names = {int(t): t.name.removeprefix("MOSTLY_") for t in gguf.LlamaFileType}
    for number, name in FILE_TYPES.items():
        assert names[number].removeprefix("ALL_").removesuffix("_MOE") == name
