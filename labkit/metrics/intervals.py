"""How far a share that was counted on n cases may be from the true one."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

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
