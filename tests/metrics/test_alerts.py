"""Rules over a window of measurements."""

import math

import pytest

from labkit.errors import OptionInvalid
from labkit.metrics.alerts import Rule, alerts

SLOW = Rule("ttft", limit=0.5, window=60)
DOWN = Rule("down", limit=0, window=30, share=1, least=2)


def samples(*values: float, field: str = "ttft") -> list[dict[str, float]]:
    return [{"at": 10.0 * place, field: value} for place, value in enumerate(values)]


def test_a_share_of_the_window_fires() -> None:
    (alert,) = alerts(samples(0.1, 0.9, 0.7, 0.2), [SLOW])
    assert (alert.bad, alert.samples, alert.worst) == (2, 4, 0.9)
    assert str(alert) == "ttft: 2 of 4 samples in 60 s over 0.5, the worst 0.9"
    assert alerts(samples(0.1, 0.9, 0.1, 0.2), [SLOW]) == []


def test_too_few_samples_never_fire() -> None:
    assert alerts(samples(9, 9), [SLOW]) == alerts([], [SLOW]) == []
    assert alerts(samples(9, 9, math.nan), [SLOW]) == [], "what was not measured does not count"
    assert alerts(samples(1, 1, 1, field="other"), [SLOW]) == []


def test_what_is_older_than_the_window_or_in_the_future_does_not_count() -> None:
    seen = samples(9, 9, 9, *[0.1] * 7)
    assert alerts(seen, [SLOW]) == []
    assert alerts(seen, [SLOW], now=20)[0].samples == 3
    assert alerts(list(reversed(seen)), [SLOW], now=20)[0].bad == 3


def test_each_rule_is_judged_by_itself() -> None:
    down = samples(0, 0, 1, 1, field="down")
    assert alerts(down, [SLOW, DOWN]) == []
    (alert,) = alerts(down, [SLOW, DOWN], now=50)
    assert alert.rule is DOWN and (alert.bad, alert.samples) == (2, 2)


def test_a_value_at_the_limit_is_good() -> None:
    assert alerts(samples(0.5, 0.5, 0.5), [SLOW]) == []


@pytest.mark.parametrize(
    "wrong", [{"window": 0}, {"share": 0}, {"share": 2}, {"least": 0}, {"limit": math.nan}]
)
def test_a_rule_that_can_never_fire_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionInvalid):
        Rule(**{"field": "ttft", "limit": 1, "window": 60, **wrong})  # type: ignore[arg-type]
