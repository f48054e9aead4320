"""The text format in which servers tell Prometheus how they fare."""

from __future__ import annotations

import re
from contextlib import suppress

LINE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{.*\})?\s+([^\s{}]+)")
SHARES = ("vllm:kv_cache_usage_perc", "llamacpp:kv_cache_usage_ratio")


def read_page(text: str) -> dict[str, float]:
    """Return values by name, summed over labels (as of several engines); of a share of the cache, the largest."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if match := LINE.match(line):
            name, before = match[1], found.get(match[1], 0.0)
            with suppress(ValueError):
                value = float(match[2])
                found[name] = max(before, value) if name in SHARES else before + value
    return found
