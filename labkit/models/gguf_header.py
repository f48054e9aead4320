"""The header of a GGUF file, read in pure Python and trusted in nothing.

It is checked as llama.cpp checks it, and more tightly where a hostile file could cost time or memory.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

from labkit.errors import ModelFileInvalid
from labkit.models.ggml import TENSOR_TYPES, TensorType
from labkit.models.store import mend

# Real models stay far below each of these: 256 k tokens with their merges make a header of about 15 MB.
MAX_HEADER = 32 * 2**20
MAX_TEXT = 2**20
MAX_KEPT_TEXT = 4 * 2**20
MAX_KEYS = 2_000
MAX_TENSORS = 50_000
MAX_STRINGS = 1_500_000
MAX_NAME = 64
KEEP_ITEMS = 64
READ_STEP = 2**20

STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TYPE_NAMES = dict(enumerate("u8 i8 u16 i16 u32 i32 f32 bool str arr u64 i64 f64".split()))

OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive (perhaps a PyTorch checkpoint)",
    b"\x80": "a Python pickle, which could run code when loaded",
    b"<": "a web page",
    b"{": "JSON text",
    b"version https://git-lfs": "a git-lfs pointer, not the file it points to",
    b"lmgg": "a GGML file from before GGUF",
    b"tjgg": "a GGJT file from before GGUF",
}


class Array(NamedTuple):
    """Stand for a metadata array too long to keep: its item type and length."""

    kind: str
    length: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """Describe one tensor: shape innermost first, `offset` and `size` in bytes within the data section."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    offset: int

    @property
    def parameters(self) -> int:
        """Return the number of values."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Return the size in bytes."""
        return self.parameters // self.type.block * self.type.size


class Header:
    """Walk through the header once, reading ahead only as far as it reaches.

    After `read()` it holds `version`, `metadata` and `tensors`. Raises `ModelFileInvalid`.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self.size = os.fstat(file.fileno()).st_size
        self.head = bytearray()
        self.at = 0
        self.strings = 0
        self.kept = 0
        self.version = 0
        self.metadata: dict[str, Any] = {}
        self.tensors: dict[str, Tensor] = {}

    def read(self) -> None:
        """Read everything up to the weights."""
        tensors, keys = self._preamble()
        for _ in range(keys):
            key = self._text(65_535, "a key")
            if key in self.metadata:
                self._fail(f"the key {key!r} occurs twice")
            self.metadata[key] = self._value(self._scalar("I"))
        if not isinstance(self.metadata.get("general.architecture"), str):
            self._fail("it does not name its architecture")
        self._tensors(tensors, self._alignment())

    def _fail(self, what: str) -> NoReturn:
        raise ModelFileInvalid(f"{self.path} is not a sound GGUF file: {what}", fix=mend(self.path))

    def _need(self, count: int) -> int:
        """Make `count` bytes available and step over them; return where they begin."""
        start, end = self.at, self.at + count
        if end > self.size:
            self._fail(f"it ends at byte {self.size:,}, but byte {end:,} is needed (truncated?)")
        if end > MAX_HEADER:
            self._fail(f"its header is longer than {MAX_HEADER:,} bytes")
        while len(self.head) < end:
            piece = self.file.read(max(READ_STEP, end - len(self.head)))
            if not piece:
                self._fail("it shrank while it was read")
            self.head += piece
        self.at = end
        return start

    def _scalar(self, code: str) -> Any:
        layout = "<" + code
        start = self._need(struct.calcsize(layout))
        if code == "?":
            return self.head[start] != 0
        return struct.unpack_from(layout, self.head, start)[0]

    def _raw(self, limit: int, what: str) -> bytes:
        length = self._scalar("Q")
        if length > limit:
            self._fail(f"{what} is {length:,} bytes long (at most {limit:,})")
        start = self._need(length)
        return bytes(self.head[start : start + length])

    def _text(self, limit: int, what: str) -> str:
        try:
            return self._raw(limit, what).decode("utf-8")
        except UnicodeDecodeError:
            self._fail(f"{what} is not UTF-8")

    def _preamble(self) -> tuple[int, int]:
        if self.size == 0:
            self._fail("it is empty")
        start = self.file.read(64)
        self.head += start
        if not start.startswith(b"GGUF"):
            for magic, name in OTHER_FORMATS.items():
                if start.lstrip().startswith(magic):
                    self._fail(f"it is {name}")
            self._fail(f"it starts with {start[:4]!r} instead of b'GGUF'")
        self._need(4)
        self.version = self._scalar("I")
        if self.version not in (2, 3):
            hint = " (big-endian?)" if self.version and not self.version & 0xFFFF else ""
            self._fail(f"its version is {self.version}{hint}, and 2 and 3 are known")
        tensors, keys = self._scalar("q"), self._scalar("q")
        if not 0 <= tensors <= MAX_TENSORS:
            self._fail(f"it claims {tensors:,} tensors")
        if not 0 <= keys <= MAX_KEYS:
            self._fail(f"it claims {keys:,} metadata keys")
        return tensors, keys

    def _value(self, kind: int) -> Any:
        if kind in SCALARS:
            return self._scalar(SCALARS[kind])
        if kind == STRING:
            text = self._raw(MAX_TEXT, "a metadata string").decode("utf-8", "replace")
            self.kept += len(text)
            if self.kept > MAX_KEPT_TEXT:
                self._fail(f"its metadata holds more than {MAX_KEPT_TEXT:,} characters of text")
            return text
        if kind == ARRAY:
            return self._array(self._scalar("I"), self._scalar("Q"))
        self._fail(f"a metadata value has the unknown type {kind}")

    def _array(self, kind: int, length: int) -> Any:
        if kind == ARRAY:
            self._fail("it nests an array in an array")
        if kind != STRING and kind not in SCALARS:
            self._fail(f"an array has the unknown item type {kind}")
        least = 8 if kind == STRING else struct.calcsize("<" + SCALARS[kind])
        if length > (self.size - self.at) // least:
            self._fail(f"an array of {length:,} items does not fit in the file")
        if length <= KEEP_ITEMS:
            return tuple(self._value(kind) for _ in range(length))
        if kind == STRING:
            self._skip_strings(length)
        else:
            self._need(length * least)
        return Array(TYPE_NAMES[kind], length)

    def _skip_strings(self, count: int) -> None:
        self.strings += count
        if self.strings > MAX_STRINGS:
            self._fail(f"its arrays hold more than {MAX_STRINGS:,} strings")
        # Inlined: a call of _need for each of a million strings would take a second.
        length_of, head, at = struct.Struct("<Q").unpack_from, self.head, self.at
        have = len(head)
        for _ in range(count):
            if at + 8 > have:
                self.at = at
                self._need(8)
                have = len(head)
            at += 8 + length_of(head, at)[0]
        self.at = at
        self._need(0)

    def _alignment(self) -> int:
        value = self.metadata.get("general.alignment", 32)
        if type(value) is not int or not 8 <= value <= 2**20 or value & (value - 1):
            self._fail(f"its alignment is {value!r}, not a power of two from 8")
        return value

    def _tensors(self, count: int, alignment: int) -> None:
        expected = 0
        for _ in range(count):
            tensor = self._tensor()
            if tensor.name in self.tensors:
                self._fail(f"the tensor {tensor.name!r} occurs twice")
            if tensor.offset != expected:
                self._fail(f"{tensor.name!r} is at offset {tensor.offset:,} instead of {expected:,}")
            self.tensors[tensor.name] = tensor
            expected += -(-tensor.size // alignment) * alignment
        data = -(-self.at // alignment) * alignment
        end = max((data + t.offset + t.size for t in self.tensors.values()), default=0)
        if end > self.size:
            self._fail(f"it is {self.size:,} bytes long, and its tensors end at {end:,} (truncated?)")

    def _tensor(self) -> Tensor:
        name = self._text(MAX_NAME - 1, "a tensor's name")
        dims = self._scalar("I")
        if not 1 <= dims <= 4:
            self._fail(f"the tensor {name!r} has {dims} dimensions")
        shape = tuple(self._scalar("Q") for _ in range(dims))
        if 0 in shape or math.prod(shape) >= 2**60:
            self._fail(f"the tensor {name!r} has the shape {shape}")
        number = self._scalar("I")
        kind = TENSOR_TYPES.get(number)
        if kind is None:
            self._fail(f"the tensor {name!r} has the unknown type {number}")
        if shape[0] % kind.block:
            self._fail(f"rows of {name!r} have {shape[0]} values; {kind.name} packs {kind.block}")
        return Tensor(name, shape, kind, self._scalar("Q"))
