"""Options are checked before an engine sees them; figures follow their definitions."""

import math
from typing import Any

import pytest

from labkit.errors import LabkitError, OptionInvalid
from labkit.types import GenerationOptions, Timing

DEEP: dict[str, Any] = {}
for _ in range(10_000):
    DEEP = {"properties": DEEP}


@pytest.mark.parametrize(
    "bad",
    [
        {"max_tokens": 0},
        {"max_tokens": -1},
        {"max_tokens": 1e9},
        {"max_tokens": True},
        {"max_tokens": "ten"},
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"temperature": 1e9},
        {"top_k": -1},
        {"top_p": 1.1},
        {"min_p": "x"},
        {"repeat_penalty": 0.0},
        {"seed": -1},
        {"seed": 2**32},
        {"stop": ["x"] * 100_000},
        {"stop": [""]},
        {"stop": ["x" * 1000]},
        {"stop": 7},
        {"stop": [7]},
        {"tool_choice": "maybe"},
        {"grammar": ""},
        {"grammar": "x" * 1_000_000},
        {"schema": "x"},
        {"schema": DEEP},
        {"grammar": "root ::= [0-9]", "schema": {}},
        {"ignore_eos": 1},
        {"tempreature": 1},
    ],
)
def test_bad_options_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(OptionInvalid) as caught:
        GenerationOptions.of(None, **bad)
    assert len(str(caught.value)) < 600
    assert caught.value.fix


def test_overrides_win_over_options() -> None:
    options = GenerationOptions.of(GenerationOptions(max_tokens=7, stop=("a",)), max_tokens=9, stop="b")
    assert (options.max_tokens, options.stop) == (9, ("b",))


def test_timing_figures() -> None:
    timing = Timing(stamps=(0.5, 0.6, 0.8, 1.0), tokens=4, total=1.1)
    assert timing.ttft == 0.5
    assert timing.tpot == pytest.approx(0.5 / 3)
    assert timing.itl == pytest.approx((0.1, 0.2, 0.2))
    assert timing.tokens_per_second == pytest.approx(6.0)
    assert all(map(math.isnan, (Timing((), 0, 1).ttft, Timing((1.0,), 1, 1).tpot)))


def test_an_error_says_what_and_what_next_and_shows_no_frames() -> None:
    error = OptionInvalid("x is 3", fix="x=4")
    assert str(error) == "x is 3\n  → x=4"
    assert error._render_traceback_() == ["OptionInvalid: x is 3\n  → x=4"]
    assert isinstance(error, LabkitError)


def test_the_speed_of_a_burst_is_not_shown() -> None:
    burst = Timing(stamps=(1.0, 1.0001, 1.0002), tokens=300, total=1.0003)
    assert "the rest at once" in str(burst) and "tokens/s" not in str(burst)
    assert "then 2 tokens/s" in str(Timing(stamps=(0.5, 1.0, 1.5), tokens=3, total=1.6))
