"""Reading and writing graphs needs no library; what ONNX Runtime makes of them is tried where it is installed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labkit.engines import onnx_session
from labkit.engines.onnx_graph import make_graph, read_graph
from labkit.engines.onnx_session import (
    HERE,
    LEVELS,
    Figures,
    inputs_for,
    levels,
    open_graph,
    operators,
    optimize,
)
from labkit.errors import EngineFailed, ModelFileInvalid, OptionInvalid

CONSTANTS = {"w": np.eye(64) * 3, "one": 1.0}
LINES = ["same = Identity(x)", "h = MatMul(same, w)", "two = Add(one, one)", "y = Mul(h, two)"]
GRAPH = make_graph(LINES, CONSTANTS)
runtime = pytest.mark.skipif(not HERE, reason="needs ONNX Runtime: pip install 'labkit[onnx]'")


def test_what_was_written_is_read() -> None:
    graph = read_graph(GRAPH)
    assert [str(node) for node in graph.nodes] == LINES
    assert (graph.inputs, graph.outputs, graph.file_bytes) == (("x",), ("y",), len(GRAPH))
    assert {name: (t.dims, t.bytes) for name, t in graph.initializers.items()} == {
        "w": ((64, 64), 16_384),
        "one": ((), 4),
    }
    assert graph.ops == {"Identity": 1, "MatMul": 1, "Add": 1, "Mul": 1}
    assert "4 nodes" in repr(graph)


@pytest.mark.parametrize("damaged", [b"", b"GGUF" * 9, GRAPH[: len(GRAPH) // 2], b"\xff" * 30, b"\x3a\x80"])
def test_what_is_no_model_is_refused(damaged: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(damaged)
    for model in (damaged, path):
        with pytest.raises(ModelFileInvalid) as caught:
            read_graph(model)
        assert caught.value.fix


@pytest.mark.parametrize("line", ["y", "y = Add", "y = Add()", "= Add(x, x)", "y = Add(x, 1.5)", 7])
def test_what_is_no_equation_is_refused(line: Any) -> None:
    with pytest.raises(OptionInvalid, match="no equation"):
        make_graph([line], {})


def test_a_table_shows_its_rows() -> None:
    table = Figures("title", [{"name": "a", "ms": 0.1234}, {"name": "b", "ms": 66_731.2}])
    assert table.column("ms") == {"a": 0.1234, "b": 66_731.2}
    assert "0.123" in repr(table) and "66,731" in repr(table)


def test_the_recording_has_every_table_and_takes_the_place_of_a_measurement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnx_session, "HERE", False)
    saved = json.loads(onnx_session.RECORDING.read_text("utf-8"))
    for table in (
        levels("tiny", GRAPH),
        levels("fp32"),
        levels("int4"),
        operators("int4"),
        onnx_session.providers(),
    ):
        assert "recorded" in table.title and saved["about"] in table.title
        assert str(next(iter(table.rows[0].values()))) in repr(table)
    assert list(levels("int4").column("nodes")) == list(LEVELS)
    assert "OpenVINO" in onnx_session.providers(recorded=True).column("load [s]")
    assert sum(operators("fp32").column("share").values()) == pytest.approx(1)


@runtime
@pytest.mark.heavy
def test_every_level_computes_the_same() -> None:
    x = np.random.default_rng(0).normal(size=(1, 64)).astype(np.float32)
    for level in LEVELS:
        made = open_graph(optimize(GRAPH, level), "disable")
        assert made.run(None, {"x": x})[0] == pytest.approx(x * 6)
    assert (
        len(read_graph(optimize(GRAPH, "disable")).nodes)
        == 4
        > len(read_graph(optimize(GRAPH, "basic")).nodes)
    )


@runtime
@pytest.mark.heavy
def test_a_graph_that_cannot_run_is_refused_in_words() -> None:
    with pytest.raises(EngineFailed, match="No Op registered for Foo"):
        open_graph(make_graph(["y = Foo(x)"], {}))


@runtime
@pytest.mark.heavy
def test_the_fp32_graph_is_what_the_reader_says(onnx_export: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs onnx, to compare the reader with")
    for variant in ("int4", "fp32"):
        path = onnx_export / "onnx" / f"{variant}.onnx"
        own, theirs = read_graph(path), onnx.load(str(path)).graph
        assert [(n.op, n.domain, *n.inputs) for n in own.nodes] == [
            (n.op_type, n.domain, *n.input) for n in theirs.node
        ]
        assert {k: (t.dims, t.bytes) for k, t in own.initializers.items()} == {
            t.name: (tuple(t.dims), len(t.raw_data)) for t in theirs.initializer
        }


@runtime
@pytest.mark.heavy
def test_levels_operators_and_providers_of_nano(onnx_export: Path) -> None:
    table = levels("fp32", onnx_export / "onnx" / "fp32.onnx")
    nodes, size = table.column("nodes"), table.column("kB")
    assert nodes["basic"] < nodes["disable"] and size["basic"] > 1.5 * size["disable"]
    assert "measured" in table.title
    shares = operators("int4").column("share")
    assert sum(shares.values()) == pytest.approx(1) and "MatMulNBits" in shares
    assert onnx_session.providers().column("largest Δ logit")["CPU"] == 0
    session = open_graph(onnx_export / "onnx" / "int4.onnx")
    assert session.run(["logits"], inputs_for(session, new=3))[0].shape[:2] == (1, 3)
