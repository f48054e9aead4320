"""The Grafana dashboard asks for figures that the gateway has, by labels that they have."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from test_telemetry import NAMES

from labkit.metrics.cost import Box
from labkit.models.cloud import cloud_models
from labkit.serving import telemetry

BOARD = json.loads((Path(telemetry.__file__).parent / "dashboards" / "labkit.json").read_text("utf-8"))
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]


def problems(query: str) -> list[str]:
    """Return what a query asks for in vain."""
    found, labels = list[str](), {"instance"}
    for name, matchers in re.findall(r"(labkit_\w+?)(?:_bucket|_total|_sum|_count)?\b(?:\{(.*?)\})?", query):
        known = NAMES.get(name)
        found += [f"no figure {name}"] if known is None else []
        labels |= known or set()
        asked = set(re.findall(r"(\w+)\s*[=!]", matchers)) - {"instance"}
        found += [f"{name} has no label {label}" for label in asked - (known or set())]
    for group in re.findall(r"by \((.*?)\)", query):
        found += [f"no label {label}" for label in group.replace(" ", "").split(",") if label not in labels]
    return found


@pytest.mark.parametrize(("title", "query"), QUERIES)
def test_every_query_asks_for_what_there_is(title: str, query: str) -> None:
    assert re.search(r"labkit_\w+", query), f"{title} asks for nothing of the gateway's"
    assert problems(query) == []
    assert query.count("(") == query.count(")") and "$instance" in query


@pytest.mark.parametrize(
    "wrong",
    [
        "sum(labkit_requests_seconds_total)",
        'labkit_requests_total{code="200"}',
        "sum by (user) (labkit_requests_total)",
        "histogram_quantile(0.5, sum by (route, le) (rate(labkit_ttft_seconds_bucket[1m])))",
    ],
)
def test_the_check_itself_sees_what_is_wrong(wrong: str) -> None:
    assert problems(wrong)


def test_every_figure_is_on_the_dashboard() -> None:
    text = "\n".join(query for _, query in QUERIES)
    assert [name for name in NAMES if name not in text] == []


def test_it_has_the_five_parts_and_no_panel_lies_on_another() -> None:
    rows = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Overview", "Tokens and cost", "Tools", "Resources", "Teaching"]
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
    places = [panel["gridPos"] for panel in BOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for a, b in combinations(places, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert apart or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]


def test_variables_are_declared_and_prices_are_those_of_the_kit() -> None:
    variables = {each["name"]: each for each in BOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(BOARD["panels"]))) - {"__rate_interval"}
    assert used == variables.keys()
    assert float(variables["usd_per_second"]["query"]) == pytest.approx(Box().usd_per_second, rel=0.01)
    quoted = cloud_models()["gpt-4o-mini"]
    assert float(variables["usd_in"]["query"]) == quoted.input_usd
    assert float(variables["usd_out"]["query"]) == quoted.output_usd


def unknown(told: Any, read: Any, path: str = "") -> Iterator[str]:
    """Yield what did not come through Grafana's own types: a field that they do not have, or another value."""
    if isinstance(told, dict) and isinstance(read, dict):
        for key, value in told.items():
            yield from unknown(value, read.get(key), f"{path}.{key}")
    elif isinstance(told, list) and isinstance(read, list) and len(told) == len(read):
        for place, (one, other) in enumerate(zip(told, read, strict=True)):
            yield from unknown(one, other, f"{path}[{place}]")
    elif told != read:
        yield f"{path}: {told!r} was read as {read!r}"


def through(kind: Any, told: dict[str, Any]) -> list[str]:
    from grafana_foundation_sdk.cog.encoder import JSONEncoder

    return list(unknown(told, json.loads(JSONEncoder().encode(kind.from_json(told)))))


def test_grafanas_own_types_know_every_part_of_it() -> None:
    """The types are generated from the schemas of Grafana 10.1; Grafana itself is not started."""
    pytest.importorskip("grafana_foundation_sdk", reason="pip install 'labkit[dev]'")
    from grafana_foundation_sdk.models import barchart, dashboard, prometheus, stat, timeseries

    kinds = {"barchart": barchart, "stat": stat, "timeseries": timeseries}
    assert through(dashboard.Dashboard, BOARD) == []
    assert through(dashboard.Dashboard, BOARD | {"colour": "blue"}) != []
    for panel in PANELS:
        kind, custom = kinds[panel["type"]], panel["fieldConfig"]["defaults"].get("custom")
        assert through(kind.Options, panel.get("options", {})) == [], panel["title"]
        assert custom is None or through(kind.FieldConfig, custom) == [], panel["title"]
        for target in panel["targets"]:
            assert through(prometheus.Dataquery, target) == [], panel["title"]
