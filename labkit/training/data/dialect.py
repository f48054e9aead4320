"""Tool schemas as other libraries write them: in another order of keys, and with keys that change no call."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]
KEYS = "type description properties required items enum title additionalProperties".split()
PLAIN = 0.6  # the share of offers left as labkit writes them


@dataclass(frozen=True, slots=True)
class Dialect:
    """Say in which order keys come, and which of the meaningless ones are there."""

    order: list[str]
    titled: bool
    closed: bool

    def write(self, schema: Schema, name: str = "") -> Schema:
        """Write one JSON schema, and those within it."""
        made = dict(schema)
        if self.titled and name:
            made["title"] = name.replace("_", " ").title()
        if "properties" in made:
            made["properties"] = {key: self.write(each, key) for key, each in made["properties"].items()}
            made |= {"additionalProperties": False} if self.closed else {}
        return {key: made[key] for key in sorted(made, key=self.order.index)}


def translate(rng: random.Random, tools: list[Schema]) -> list[Schema]:
    """Write some offers of tools in a dialect of their own: a model must read every client's schemas."""
    if rng.random() < PLAIN:
        return tools
    dialect = Dialect(rng.sample(KEYS, len(KEYS)), rng.random() < 0.25, rng.random() < 0.25)
    functions = [tool["function"] for tool in tools]
    written = [{**each, "parameters": dialect.write(each["parameters"])} for each in functions]
    return [{"type": "function", "function": each} for each in written]
