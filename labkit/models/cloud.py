"""Models that only a cloud runs. labkit never calls them: their prices are what the edge is compared with."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class CloudModel:
    """Quote a price list: US dollars per million tokens read and written, `as_of` a month, from `source`."""

    alias: str
    title: str
    context: int
    input_usd: float
    output_usd: float
    as_of: str
    source: str
    verified: bool = False

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return the price of so many tokens in US dollars."""
        return (self.input_usd * prompt_tokens + self.output_usd * completion_tokens) / 1e6


@cache
def cloud_models() -> dict[str, CloudModel]:
    """Return every cloud model by its alias."""
    text = files("labkit.models").joinpath("cloud.toml").read_text("utf-8")
    return {alias: CloudModel(alias, **entry) for alias, entry in tomllib.loads(text).items()}
