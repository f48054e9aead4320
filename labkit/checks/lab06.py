"""Checks of lab 06, ONNX."""

from __future__ import annotations

from collections.abc import Sequence

from labkit.checks.core import Exercises, Wrong, compare
from labkit.engines.onnx_graph import Graph, Node, make_graph, read_graph
from labkit.engines.onnx_session import HERE, Figures, optimize

SCALARS = {"zero": 0.0, "half": 0.5, "one": 1.0, "two": 2.0}
LEAST_NODES = 5
lab = Exercises("06")


def _bits(graph: Graph, node: Node, answer: float) -> str:
    codes, scales = (graph.initializers[name] for name in node.inputs[1:3])
    rows, blocks, packed = codes.dims
    weights = rows * blocks * packed * 2
    right = 8 * (codes.bytes + scales.bytes) / weights
    reasons = {
        8 * codes.bytes / weights: "that is the codes alone: each block also has a scale",
        right / 8: "that is bytes a weight: a byte has 8 bits",
        2 * right: "a byte of the codes holds two weights of 4 bits, so there are twice as many weights",
        8 * scales.bytes / weights: "that is the scales alone: add the codes",
    }
    compare(answer, right, reasons, "8 × (bytes of codes + bytes of scales) / weights")
    return f"{right:g} bits: 4 for the code, {right - 4:g} for the share in a scale"


q1 = lab.add(
    _bits,
    hints=(
        "graph.initializers[name].bytes is the size of an array; the names of codes and scales are node.inputs[1:3].",
        "Two codes share a byte, so there are 2 × codes.bytes weights.",
    ),
    code="bits = 8 * (codes.bytes + scales.bytes) / (2 * codes.bytes)",
)


def _shrinks(equations: Sequence[str]) -> str:
    if isinstance(equations, str) or not isinstance(equations, Sequence):
        raise Wrong("give a list of lines such as 'y = Add(x, one)'")
    graph = make_graph(equations, SCALARS)
    nodes = read_graph(graph).nodes
    if len(nodes) < LEAST_NODES:
        raise Wrong(f"{len(nodes)} nodes; take at least {LEAST_NODES}, so that there is something to remove")
    if not HERE:
        return (
            "well formed; whether one node is left, only ONNX Runtime can say, and it is not installed here"
        )
    optimize(graph, "disable")  # says what is wrong with a graph that cannot run at all
    left = read_graph(optimize(graph, "basic")).nodes
    if len(left) != 1:
        raise Wrong(f"{len(left)} nodes are left: {'; '.join(map(str, left)) or 'nothing to run'}")
    return f"{len(nodes)} nodes before, one after: {left[0]}"


q2 = lab.add(
    _shrinks,
    hints=(
        "Which nodes change nothing? Which compute with constants alone?",
        "Identity(x) is x, and Add(one, two) is known before x comes: the optimizer removes both kinds.",
    ),
    code='mine = ["a = Identity(x)", "b = Identity(a)", "three = Add(one, two)", "six = Mul(three, two)", '
    '"y = Mul(b, six)"]',
)


def _amdahl(table: Figures, answer: float) -> str:
    share = max(table.column("share").values())
    right = 1 / (1 - share / 2)
    reasons = {
        1 / (1 - share): "that is for an operator that takes no time at all: here it keeps half of its time",
        2.0: "twice as fast is the operator; the other operators stay as slow as they are",
        1 - share / 2: "that is the new time as a share of the old: turn it over",
        share / 2: "that is the share that is saved; the question is old time / new time",
        1 + share / 2: "compare with what is left: old time / new time is 1 / (1 - saved)",
    }
    compare(answer, right, reasons, "old time / new time, and the rest stays as it is", within=0.002)
    return f"{right:.2f} times as fast, with an operator twice as fast that takes {share:.0%} of the time"


q3 = lab.add(
    _amdahl,
    hints=(
        'The longest share is max(table.column("share").values()). Of it, half is saved.',
        "Old time 1, new time 1 - share / 2.",
    ),
    code='share = max(table.column("share").values())\nfaster = 1 / (1 - share / 2)',
)
