"""A drawn graph says in text what it shows, and puts a node below all that it reads from."""

import xml.etree.ElementTree as ElementTree

import pytest

from labkit.engines.onnx_graph import Node, make_graph, read_graph
from labkit.widgets.graphs import Graphs, places

LINES = ["a = Relu(x)", "b = Sqrt(x)", "c = Mul(a, b)", "d = Add(c, a)", "e = Mul(d, b)"]
NODES = read_graph(make_graph(LINES, {})).nodes


def svg(shown: Graphs) -> ElementTree.Element:
    page = shown._repr_mimebundle_()["text/html"]
    return ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])


def test_a_node_stands_below_what_it_reads_and_no_two_share_a_place() -> None:
    at = places(NODES)
    assert list(at.values()) == [(0, 0), (1, 0), (0, 1), (0, 2), (0, 3)]


def test_every_node_has_a_box_and_every_reading_a_line() -> None:
    picture = svg(Graphs({"first": NODES, "second": NODES[:1]}))
    count = {tag: len(picture.findall(tag)) for tag in ("rect", "path", "text")}
    assert count == {"rect": 6, "path": 6, "text": 2 + 2 * 6}
    assert picture.get("role") == "img"
    assert picture.get("aria-label") == "first: Relu, Sqrt, Mul, Add, Mul; second: Relu"


def test_all_of_it_lies_within_the_picture() -> None:
    picture = svg(Graphs({"one": NODES, "a much longer name than its node": NODES[:1]}))
    width, height = (float(size) for size in picture.attrib["viewBox"].split()[2:])
    for box in picture.findall("rect"):
        assert float(box.attrib["x"]) + float(box.attrib["width"]) <= width
        assert float(box.attrib["y"]) + float(box.attrib["height"]) <= height


def test_whose_operator_it_is_is_said_in_words_and_coloured() -> None:
    nodes = [Node("Gelu", ("x",), ("/model/layers.0/mlp/Gelu/output_0",), "com.microsoft"), NODES[0]]
    shown = Graphs({"<b>": nodes})
    assert [box.attrib["fill"] != "none" for box in svg(shown).findall("rect")] == [True, False]
    assert [text.text for text in svg(shown).findall("text")[1::2]] == ["Gelu", "Relu"]
    assert "com.microsoft → mlp" in str(ElementTree.tostring(svg(shown), encoding="unicode"))
    assert repr(shown).splitlines()[0] == "<b>: 2 nodes" and "ai.onnx        Relu" in repr(shown)


def test_nothing_to_draw_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_LANG", "ar")
    assert len(svg(Graphs({"empty": []})).findall("rect")) == 0
