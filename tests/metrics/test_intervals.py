"""Intervals against published values."""

import pytest

from labkit.errors import OptionInvalid
from labkit.metrics.intervals import paired, wilson


# R. G. Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998),
# table I, method 3; the last is its mirror.
@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_wilson_agrees_with_newcombe(hits: int, n: int, low: float, high: float) -> None:
    assert wilson(hits, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_stays_between_0_and_1_and_narrows() -> None:
    for n in (1, 2, 7, 300):
        for hits in range(n + 1):
            low, high = wilson(hits, n)
            assert 0 <= low <= hits / n <= high <= 1
            assert wilson(hits, n, 0.99)[1] >= high
            assert wilson(n - hits, n) == pytest.approx((1 - high, 1 - low))
    assert wilson(0, 0) == (0, 1)


@pytest.mark.parametrize("wrong", [(-1, 3), (4, 3), (1, -1), (1, 3, 1.0), (1, 3, float("nan"))])
def test_wilson_refuses_nonsense(wrong: tuple[float, ...]) -> None:
    with pytest.raises(OptionInvalid):
        wilson(*wrong)  # type: ignore[arg-type]


def test_a_paired_change_counts_only_cases_that_changed() -> None:
    before, after = [1, 0, 0, 0, 1, 0, 1, 0], [1, 1, 1, 0, 1, 0, 1, 1]
    change, low, high = paired(before, after)
    assert change == pytest.approx(0.375)
    assert high - change == change - low == pytest.approx(1.959964 * (15 / 56) ** 0.5 / 8**0.5)
    assert paired(before, before) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("before", "after"), [([1], [1]), ([1, 0], [1]), ([], [])])
def test_what_is_no_pair_is_refused(before: list[float], after: list[float]) -> None:
    with pytest.raises(OptionInvalid, match="no pairs"):
        paired(before, after)
