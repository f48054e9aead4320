"""How far a share that was counted on n cases may be from the true one."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist, fmean, stdev

from labkit.errors import OptionInvalid


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion as shares from 0 to 1; (0, 1) for no cases.

    It stays inside 0–1 and is right for small n and shares near 1, where share ± 1.96 s is not. Source: E. B.
    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927), 209–212.
    """
    if not 0 <= successes <= n or not 0 < confidence < 1:
        raise OptionInvalid(
            f"no interval for {successes} of {n} at {confidence}", fix="0 ≤ successes ≤ n, 0 < confidence < 1"
        )
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, scale = successes / n, 1 + z * z / n
    middle = (share + z * z / (2 * n)) / scale
    half = z / scale * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (0.0 if successes == 0 else middle - half), (1.0 if successes == n else middle + half)


def paired(before: Sequence[float], after: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean change of cases that were asked twice, and its 95 % interval (mean ± 1.96 standard errors).

    Cases that did not change say nothing, so it is narrower than two separate intervals. Needs two cases.
    """
    if len(before) != len(after) or len(after) < 2:
        raise OptionInvalid(
            f"{len(before)} and {len(after)} cases are no pairs", fix="ask the same cases twice"
        )
    changes = [float(b) - float(a) for a, b in zip(before, after, strict=True)]
    half = NormalDist().inv_cdf(0.975) * stdev(changes) / sqrt(len(changes))
    return fmean(changes), fmean(changes) - half, fmean(changes) + half
