"""What requests cost, by hand and by table."""

import math

import pytest

from labkit.errors import OptionInvalid
from labkit.metrics.agent_eval import Share
from labkit.metrics.cost import Box, CostTable, Way
from labkit.models.cloud import cloud_models


def test_a_second_of_work_pays_for_the_idle_ones() -> None:
    # One year of 8,760 h at 100 W is 876 kWh; half of 31,536,000 s are worked.
    box = Box(price_usd=1000, years=1, watts=100, usd_per_kwh=0.5, busy=0.5)
    assert box.usd_per_second == pytest.approx((1000 + 438) / 15_768_000)
    twice = Box(price_usd=1000, years=1, watts=100, usd_per_kwh=0.5, busy=1)
    assert box.usd_per_second == pytest.approx(2 * twice.usd_per_second)
    assert Box(price_usd=0, watts=0).usd_per_second == 0


@pytest.mark.parametrize(
    "wrong",
    [{"busy": 0}, {"busy": 1.1}, {"years": 0}, {"price_usd": -1}, {"watts": math.nan}, {"busy": math.nan}],
)
def test_a_machine_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionInvalid, match="no such machine"):
        Box(**wrong)


def test_the_table_compares_with_its_first_way() -> None:
    cloud = cloud_models()["gpt-4o"]
    half, none = Share(10, 5, 0.5, 0.237, 0.763), Share(10, 0, 0.0, 0.0, 0.278)
    ways = (
        Way(cloud.title, cloud.cost(1000, 100), f"quoted, {cloud.as_of}"),
        Way("here", 0.0000175, "assumed", half),
        Way("never right", 0.00035, "assumed", none),
        Way("free", 0.0, "assumed"),
    )
    table = CostTable(ways, Box())
    assert table.cells[1:] == [
        ["GPT-4o", "3.5", "1", "-", "-", f"quoted, {cloud.as_of}"],
        ["here", "0.017", "200", "50 (24–76)", "0.035", "assumed"],
        ["never right", "0.35", "10", "0 (0–28)", "-", "assumed"],
        ["free", "0", "-", "-", "-", "assumed"],
    ]
    assert "busy 0.05" in repr(table) and "GPT-4o" in table._repr_mimebundle_()["text/html"]
