"""Charts are valid plotly, small, and have a picture and text for those who have no plotly."""

import json
import math
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from labkit.errors import OptionInvalid
from labkit.metrics.agent_eval import Share
from labkit.metrics.levels import Level, LevelTable
from labkit.widgets.charts import Chart, Series, bars, histogram, pareto

PLOTLY = "application/vnd.plotly.v1+json"
SVG = "{http://www.w3.org/2000/svg}"
FIGURES = {
    "F16": (16e6, 0.0),
    "Q8_0": (8e6, 0.002),
    "Q5_1": (6.2e6, 0.03),
    "Q5_K_M": (6e6, 0.01),
    "Q2_K": (3e6, 0.2),
}


@pytest.fixture
def table() -> LevelTable:
    share = Share(10, 5, 0.5, 0.2, 0.8)
    row = Level("", 0, 8, 0.01, 100, math.nan, 20, 0, 1, share, {})
    rows = tuple(replace(row, level=n, file_bytes=int(size), kl=kl) for n, (size, kl) in FIGURES.items())
    return LevelTable("nano <b>", rows, (), (), ())


def charts(table: LevelTable) -> list[Chart]:
    weights = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    speeds = {row.level: row.tg for row in table.rows}
    return [pareto(table), bars(speeds, "speed", "tokens/s"), histogram(weights, weights.round(), "rounding")]


def picture(chart: Chart) -> ET.Element:
    page = chart._repr_mimebundle_()["text/html"].replace("<svg ", f'<svg xmlns="{SVG[1:-1]}" ')
    found = ET.fromstring(f"<div>{page}</div>").find(f"{SVG}svg")
    assert found is not None
    return found


def texts(chart: Chart) -> list[str]:
    return [element.text or "" for element in picture(chart).iter(f"{SVG}text")]


def test_every_chart_is_what_plotly_draws(table: LevelTable) -> None:
    pytest.importorskip("plotly")
    for chart in charts(table):
        made: dict[str, Any] = json.loads(chart.figure().to_json())
        kept = {"data": made["data"], "layout": {k: v for k, v in made["layout"].items() if k != "template"}}
        assert kept["layout"] == json.loads(json.dumps(chart.spec))["layout"]
        assert [trace["name"] for trace in kept["data"]] == [series.name for series in chart.series]


def test_a_bundle_is_small_and_holds_no_script(table: LevelTable) -> None:
    for chart in charts(table):
        bundle = chart._repr_mimebundle_()
        assert set(bundle) == {"text/plain", "text/html", PLOTLY}
        assert len(json.dumps(bundle)) < 10_000
        assert "script" not in bundle["text/html"] and "http" not in bundle["text/html"]


def test_the_front_is_what_nothing_beats(table: LevelTable) -> None:
    chart = pareto(table)
    front, beaten = chart.series
    assert list(front.labels) == ["Q2_K", "Q5_K_M", "Q8_0"] and list(beaten.labels) == ["Q5_1"]
    assert list(front.x) == [3, 6, 8] and list(front.y) == [0.2, 0.01, 0.002]
    assert chart.spec["layout"]["yaxis"]["type"] == "log"


def test_names_of_neighbours_on_the_front_stand_below_and_above(table: LevelTable) -> None:
    chart = pareto(table)
    assert chart.spec["data"][0]["textposition"] == ["bottom left", "top right", "bottom left"]
    ends = {e.text: e.attrib["text-anchor"] for e in picture(chart).iter(f"{SVG}text")}
    assert [ends[name] for name in ("Q2_K", "Q5_K_M", "Q8_0")] == ["end", "start", "end"]


def test_points_fill_the_frame_whatever_their_height() -> None:
    chart = Chart("", "", "", (Series("", "points", (1, 2), (50, 51), ("a", "b")),))
    heights = [float(circle.attrib["cy"]) for circle in picture(chart).iter(f"{SVG}circle")]
    assert abs(heights[0] - heights[1]) > 150


def test_a_zero_on_a_logarithmic_axis_is_left_out_and_named(table: LevelTable) -> None:
    assert "KL is 0 or was not measured: F16" in repr(pareto(table))
    assert "F16" in pareto(table, log=False).series[0].labels


def test_what_was_not_measured_cannot_be_drawn(table: LevelTable) -> None:
    with pytest.raises(OptionInvalid, match="peak_memory"):
        pareto(table, y="peak_memory")


def test_equal_points_are_both_on_the_front(table: LevelTable) -> None:
    twins = replace(table, rows=(table.rows[1], replace(table.rows[1], level="twin")))
    assert list(pareto(twins).series[0].labels) == ["Q8_0", "twin"]


def test_a_title_cannot_bring_markup(table: LevelTable) -> None:
    assert "nano <b>" in texts(pareto(table))
    assert "<b>" not in pareto(table)._repr_mimebundle_()["text/html"]


def test_the_picture_names_every_level_and_stays_in_its_frame(table: LevelTable) -> None:
    for chart in charts(table)[:2]:
        names = {label for series in chart.series for label in series.labels}
        assert names <= set(texts(chart))
        for element in picture(chart).iter(f"{SVG}text"):
            assert 0 <= float(element.attrib["x"]) <= 640 and 0 <= float(element.attrib["y"]) <= 320


def test_bars_begin_at_zero_even_where_all_are_zero() -> None:
    assert "0" in texts(bars({"a": 0, "b": 0}, "", ""))
    heights = [
        line.attrib["d"] for line in picture(bars({"a": 1, "b": 2}, "", "")) if line.get("stroke-width")
    ]
    (start_a, top_a), (start_b, top_b) = (d.split()[1].split("V") for d in heights)
    assert start_a == start_b
    assert (float(start_b) - float(top_b)) / (float(start_a) - float(top_a)) == pytest.approx(2, rel=0.01)


def test_a_histogram_counts_every_weight_before_and_after() -> None:
    weights = np.linspace(-1, 1, 1_000, dtype=np.float32)
    before, after = histogram(weights, weights.round(), "").series
    assert sum(before.y) == sum(after.y) == 1_000
    assert sum(count > 0 for count in after.y) == 3


def test_weights_that_are_all_the_same_have_a_histogram() -> None:
    same = np.zeros(32, np.float32)
    assert sum(histogram(same, same, "").series[0].y) == 32


def test_names_of_bars_that_are_numbers_stay_names() -> None:
    assert bars({"1": 3, "10": 2}, "", "").figure().layout.xaxis.type == "category"
