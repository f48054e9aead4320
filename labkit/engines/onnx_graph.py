"""Read the graph in an .onnx file, and write small ones, without any library: the file is one protobuf message.

The numbers of its fields are those of `onnx/onnx.proto` in github.com/onnx/onnx.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from labkit.errors import ModelFileInvalid, OptionInvalid

EQUATION = re.compile(r"\s*(\w+)\s*=\s*(\w+)\s*\(([\w\s,]+)\)\s*")
FLOAT, IR_VERSION, OPSET = 1, 8, 17
WIDTH = 64  # numbers in the x of a graph made here
Model = bytes | Path


class Node(NamedTuple):
    """Name an operator, what it reads and what it makes; `domain` is "" for an operator of the ONNX standard."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    domain: str

    def __str__(self) -> str:
        return f"{self.outputs[0]} = {self.op}({', '.join(filter(None, self.inputs))})"


class Tensor(NamedTuple):
    """Describe a constant array of the file: its shape, and the bytes of its values."""

    dims: tuple[int, ...]
    bytes: int


@dataclass(frozen=True, slots=True, repr=False)
class Graph:
    """Hold the nodes in the order they run, the constant arrays ("initializers"), inputs and outputs by name."""

    nodes: tuple[Node, ...]
    initializers: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    file_bytes: int

    @property
    def ops(self) -> Counter[str]:
        """Count the nodes of each operator."""
        return Counter(node.op for node in self.nodes)

    def __repr__(self) -> str:
        held = sum(tensor.bytes for tensor in self.initializers.values()) / 1e6
        of = f"{len(self.initializers)} initializers with {held:.2f} of the file's {self.file_bytes / 1e6:.2f} MB"
        return (
            f"<Graph: {len(self.nodes)} nodes, {of}, {len(self.inputs)} inputs, {len(self.outputs)} outputs>"
        )


def read_graph(model: Model) -> Graph:
    """Read a file or its bytes; raise `ModelFileInvalid` for what is no ONNX model."""
    data = memoryview(model if isinstance(model, bytes) else model.read_bytes())
    try:
        graph = _fields(_fields(data)[7][0])
        nodes, tensors = ([_fields(raw) for raw in graph[number]] for number in (1, 5))
        return Graph(
            tuple(Node(_text(n[4]), _texts(n[1]), _texts(n[2]), _text(n[7])) for n in nodes),
            {
                _text(t[8]): Tensor(tuple(t[1]), sum(len(raw) for k in (4, 5, 7, 9) for raw in t[k]))
                for t in tensors
            },
            tuple(_text(_fields(raw)[1]) for raw in graph[11]),
            tuple(_text(_fields(raw)[1]) for raw in graph[12]),
            len(data),
        )
    except (IndexError, KeyError, TypeError, ValueError) as error:
        name = "this" if isinstance(model, bytes) else model
        raise ModelFileInvalid(f"{name} is no ONNX model: {error}", fix="export it again") from error


def _fields(data: memoryview) -> dict[int, list[Any]]:
    """Split a message into its fields by number: whole numbers, or the bytes of everything else."""
    found, at = defaultdict(list), 0
    while at < len(data):
        key, at = _whole(data, at)
        kind = key & 7
        value: Any
        value, at = _whole(data, at) if kind in (0, 2) else ({1: 8, 5: 4}[kind], at)
        if kind:
            if value > len(data) - at:
                raise ValueError(f"it ends within a field of {value} bytes")
            value, at = data[at : at + value], at + value
        found[key >> 3].append(value)
    return found


def _whole(data: memoryview, at: int) -> tuple[int, int]:
    """Read a whole number, seven bits a byte, the lowest first."""
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


def _texts(values: Sequence[memoryview]) -> tuple[str, ...]:
    return tuple(bytes(value).decode() for value in values)


def _text(values: Sequence[memoryview]) -> str:
    return "".join(_texts(values))


def make_graph(equations: Sequence[str], constants: Mapping[str, ArrayLike]) -> bytes:
    """Write a graph of float32 from lines such as "y = Add(x, one)": x (1, 64) goes in, the last result comes out.

    Raises `OptionInvalid` for a line that is no equation.
    """
    graph, made = _field(2, "lesson"), ""
    for line in equations:
        match = EQUATION.fullmatch(line) if isinstance(line, str) else None
        if not match:
            raise OptionInvalid(f"{line!r:.60} is no equation", fix="write it like 'y = Add(x, one)'")
        made, op, names = match.groups()
        read = b"".join(_field(1, name.strip()) for name in names.split(","))
        graph += _field(1, read + _field(2, made) + _field(4, op))
    for name, value in constants.items():
        array = np.asarray(value, np.float32)
        dims = b"".join(_field(1, size) for size in array.shape)
        graph += _field(5, dims + _field(2, FLOAT) + _field(8, name) + _field(9, array.tobytes()))
    shape = _field(2, _field(1, _field(1, 1)) + _field(1, _field(1, WIDTH)))
    graph += _field(11, _value("x", shape)) + _field(12, _value(made, b""))
    return _field(1, IR_VERSION) + _field(8, _field(1, "") + _field(2, OPSET)) + _field(7, graph)


def _value(name: str, shape: bytes) -> bytes:
    return _field(1, name) + _field(2, _field(1, _field(1, FLOAT) + shape))


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _number(number << 3) + _number(value)
    data = value.encode() if isinstance(value, str) else value
    return _number(number << 3 | 2) + _number(len(data)) + data


def _number(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _number(value >> 7)
