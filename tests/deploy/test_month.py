"""What a month costs, by hand."""

import math
from typing import Any

import pytest

from labkit.deploy.cost import (
    DAYS,
    GUIDE,
    GUIDE_DEMAND,
    GUIDE_PRICES,
    OFFICE,
    Bills,
    Demand,
    Prices,
    fixed,
    hpa,
    hybrid,
    serverless,
)
from labkit.errors import OptionInvalid
from labkit.metrics.cost import Box
from labkit.metrics.records import Record

FLAT = Demand(86_400, 100, 50, seconds=2, per_replica=0.4, hours=(1,) * 24)  # one request a second


def test_replicas_are_counted_by_the_hour() -> None:
    assert sum(OFFICE) == 100
    assert FLAT.rates == pytest.approx([1.0] * 24)
    assert fixed(FLAT, Prices()).fixed == 300
    assert fixed(FLAT, Prices(), 2).beyond == pytest.approx(0.2)  # 1 comes, 0.8 can be borne
    assert hpa(FLAT, Prices()).elastic == pytest.approx(100)  # a third one all the time
    day = Demand(86_400, 1, 1, 1, per_replica=0.4, hours=(0,) * 12 + (1,) * 12)  # 2/s, half of the day
    assert hpa(day, Prices()).elastic == pytest.approx(150)  # five by day, two by night
    assert hpa(day, Prices(), most=4).beyond == pytest.approx(0.2)


def test_calls_and_tokens_are_paid_for_each() -> None:
    prices = Prices(gb_second=0.00001, call=0.000002, gb=2, input_usd=1, output_usd=2)
    assert prices.tokens(FLAT) == pytest.approx(86_400 * DAYS * 200 / 1e6)
    assert serverless(FLAT, prices).elastic == pytest.approx(86_400 * DAYS * (0.00004 + 0.000002 + 0.0002))


def test_a_box_takes_its_share_as_far_as_it_can() -> None:
    prices, box = Prices(input_usd=1, output_usd=2), Box(price_usd=480, years=4, watts=0)
    bill = hybrid(FLAT, prices, box, 0.3)
    assert bill.fixed == pytest.approx(10)
    assert bill.elastic == pytest.approx(0.7 * prices.tokens(FLAT))
    assert hybrid(FLAT, prices, box, 0.8).elastic == pytest.approx(
        0.6 * prices.tokens(FLAT)
    )  # bears 0.4 of 1


def test_the_guides_table_adds_up_and_cannot_be_one_demand() -> None:
    rows = Bills(GUIDE).cells[1:]
    assert [row[3] for row in rows] == ["800", "500", "400", "300"]
    assert [row[4] for row in rows] == ["0", "38", "50", "62"]  # 37.5 and 62.5 %
    first, second = fixed(GUIDE_DEMAND, GUIDE_PRICES), hpa(GUIDE_DEMAND, GUIDE_PRICES)
    assert (first.fixed, round(first.elastic)) == (300, 500)
    assert second.fixed == 200 and second.elastic >= 500 > GUIDE[1].elastic


def test_the_table_shows_its_inputs() -> None:
    shown = repr(Bills((fixed(FLAT, Prices()), serverless(FLAT, Prices())), (FLAT, Prices(), Box())))
    for said in ("per_day 86,400", "replica_month 100", "price_usd 500", "people's work"):
        assert said in shown
    assert "nan" in repr(Bills((serverless(Demand(0, 1, 1, 1, 1), Prices()),)))


def test_a_demand_is_read_from_a_record() -> None:
    samples = {"input_tokens": [90.0, 110.0], "output_tokens": [40.0, 60.0], "e2el": [1.0, 3.0]}
    record = Record("load", {}, samples, {"goodput": 0.5})
    assert Demand.of(record, 1000) == Demand(1000, 100, 50, 2, 0.5)
    with pytest.raises(OptionInvalid, match="no good request"):
        Demand.of(Record("load", {}, {}, {}), 1000)


@pytest.mark.parametrize(
    "wrong",
    [{"per_day": -1}, {"per_replica": 0}, {"hours": (1.0,)}, {"hours": (0.0,) * 24}, {"seconds": math.nan}],
)
def test_a_demand_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    right = {"per_day": 1, "prompt_tokens": 1, "completion_tokens": 1, "seconds": 1, "per_replica": 1}
    with pytest.raises(OptionInvalid, match="no such demand"):
        Demand(**{**right, **wrong})
