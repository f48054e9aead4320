"""Lab 06's checks accept every right answer and explain the wrong ones."""

import math

import pytest
from judging import verdict

from labkit.checks import lab06
from labkit.checks.lab06 import q1, q2, q3
from labkit.engines.onnx_graph import Graph, Node, Tensor
from labkit.engines.onnx_session import HERE, Figures

NODE = Node("MatMulNBits", ("x", "codes", "scales"), ("y",), "com.microsoft")
TENSORS = {"codes": Tensor((512, 8, 16), 65_536), "scales": Tensor((4096,), 16_384)}
GRAPH = Graph((NODE,), TENSORS, ("x",), ("y",), 81_920)
TABLE = Figures("a table", [{"operator": "A", "share": 0.3}, {"operator": "B", "share": 0.6}])
runtime = pytest.mark.skipif(not HERE, reason="needs ONNX Runtime: pip install 'labkit[onnx]'")


def test_q1(capsys: pytest.CaptureFixture[str]) -> None:
    for right in (5, 5.0, 4.999):
        assert verdict(q1, capsys, GRAPH, NODE, right)[0] == "right"
    assert verdict(q1, capsys, GRAPH, NODE, ...)[0] == "not attempted"
    for wrong, said in (
        (4, "also has a scale"),
        (5 / 8, "bytes a weight"),
        (10, "two weights"),
        (1, "scales alone"),
        (7, "not it"),
        (math.nan, "not it"),
        ("5", "a number"),
    ):
        state, text = verdict(q1, capsys, GRAPH, NODE, wrong)
        assert (state, said in text) == ("wrong", True), text


@runtime
@pytest.mark.heavy
def test_q2_with_the_real_optimizer(capsys: pytest.CaptureFixture[str]) -> None:
    chain = ["a = Identity(x)", "b = Identity(a)", "c = Identity(b)", "d = Identity(c)", "y = Relu(d)"]
    constant = ["a=Add(one,one)", "b=Mul(a,two)", "c=Sqrt(b)", "d = Mul(c, half)", "y = Mul( x , d )"]
    for right in (chain, tuple(constant)):
        assert verdict(q2, capsys, right)[0] == "right"
    real = [f"{b} = Tanh({a})" for a, b in zip("xabcd", "abcdy", strict=True)]
    for wrong, said in (
        (real, "5 nodes are left"),
        ([*chain[:4], "y = Foo(d)"], "No Op registered for Foo"),
        ([*chain[:4], "y = Relu(nowhere)"], "nowhere"),
    ):
        state, text = verdict(q2, capsys, wrong)
        assert (state, said in text) == ("wrong", True), text


def test_q2_without_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab06, "HERE", False)
    state, text = verdict(q2, capsys, [f"{name} = Identity(x)" for name in "abcde"])
    assert state == "right" and "not installed" in text
    assert verdict(q2, capsys, ...)[0] == "not attempted"
    for wrong, said in (
        ("y = Relu(x)", "a list"),
        (["y = Relu(x)"], "at least 5"),
        (["y is Relu(x)"] * 5, "no equation"),
        ([5] * 5, "no equation"),
    ):
        state, text = verdict(q2, capsys, wrong)
        assert (state, said in text) == ("wrong", True), text


def test_q3(capsys: pytest.CaptureFixture[str]) -> None:
    for right in (1 / 0.7, 1.4286, 10 / 7):
        assert verdict(q3, capsys, TABLE, right)[0] == "right"
    for wrong, said in (
        (2.5, "no time at all"),
        (2, "the other operators"),
        (0.7, "turn it over"),
        (0.3, "saved"),
        (1.3, "what is left"),
        (1.9, "not it"),
        (math.nan, "not it"),
        (None, "a number"),
    ):
        state, text = verdict(q3, capsys, TABLE, wrong)
        assert (state, said in text) == ("wrong", True), text
