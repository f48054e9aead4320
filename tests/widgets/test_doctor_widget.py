"""The doctor's table says in words what is there, and what to type for what is not."""

import xml.etree.ElementTree as ET
from dataclasses import replace

from labkit.engines.doctor import doctor
from labkit.engines.report import EngineState, Report
from labkit.types import Availability
from labkit.widgets import Doctor


def report() -> Report:
    missing = EngineState(
        "mlx", Availability(False, reason="mlx is <b>not</b> installed", fix="pip install x")
    )
    return replace(doctor(), engines=(EngineState("echo", Availability(True, "1"), False), missing))


def rows(widget: Doctor) -> dict[str, list[str]]:
    table = ET.fromstring(widget.table.value).find("table")
    assert table is not None
    cells = [["".join(cell.itertext()) for cell in row] for row in table]
    return {row[1]: row for row in cells}


def test_what_is_missing_has_what_to_type() -> None:
    found = rows(Doctor(report()))
    assert found["mlx"] == ["engines", "mlx", "not installed: mlx is <b>not</b> installed", "pip install x"]
    assert found["echo"][3] == ""
    assert found["name"] == ["what", "name", "found", "what to type"]


def test_a_verdict_stands_below_and_text_where_there_is_no_front_end() -> None:
    widget = Doctor(report())
    assert widget.said.startswith("Not ready.") and "→" in widget.said
    bundle = widget._repr_mimebundle_()
    assert "mlx" in bundle["text/plain"] and "<b>not" not in bundle["text/html"]


def test_looking_again_looks_at_this_machine() -> None:
    widget = Doctor(report())
    widget.row.children[0].click()
    widget.wait()
    assert {"llamacpp", "onnx"} <= set(rows(widget))


def test_every_installed_engine_is_tried_in_a_thread() -> None:
    broken = EngineState("no-such-engine", Availability(True, "1"))
    widget = Doctor(replace(report(), engines=(broken,)))
    widget.row.children[1].click()
    widget.wait()
    assert widget.report.deep and widget.report.engines[0].usable is False
    assert "does not work" in rows(widget)["no-such-engine"][2]
    assert rows(widget)["no-such-engine"][3]


def test_the_table_has_headings_for_rows_and_columns() -> None:
    assert Doctor(report()).table.value.count('scope="col"') == 4
    assert 'scope="row"' in Doctor(report()).table.value


def test_what_engines_say_is_escaped_and_cut() -> None:
    said = Availability(
        False, reason="<script>x</script><img src=x onerror=y>\x1b[31m" + "x" * 10**6, fix="<i>"
    )
    widget = Doctor(replace(report(), engines=(EngineState("<b>", said),)))
    shown = widget.table.value + widget._repr_mimebundle_()["text/html"]
    assert not any(mark in shown for mark in ("<script", "<img", "<b>", "<i>", "\x1b"))
    assert len(shown) < 30_000
