"""Tool schemas as other libraries write them: in another order of keys, and with keys that change no call."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]
KEYS = "type function name description parameters properties required items enum title additionalProperties".split()
PLAIN = 0.6  # the share of offers left as labkit writes them


@dataclass(frozen=True, slots=True)
class Dialect:
    """Say in which order keys come, and which of the meaningless ones are there."""

    order: list[str]
    titled: bool
    closed: bool
    blank: bool

    def parameter(self, schema: Schema, name: str = "") -> Schema:
        """Write one JSON schema, and those within it."""
        made = dict(schema)
        if self.titled and name:
            made["title"] = name.replace("_", " ").title()
        if "properties" in made:
            made["properties"] = {key: self.parameter(each, key) for key, each in made["properties"].items()}
            made |= {"additionalProperties": False} if self.closed else {}
        return self.ordered(made)

    def tool(self, schema: Schema) -> Schema:
        """Write the schema of a tool."""
        function = dict(schema["function"])
        if self.blank:
            function.setdefault("description", "")
        function["parameters"] = self.parameter(function["parameters"])
        return self.ordered({**schema, "function": self.ordered(function)})

    def ordered(self, schema: Schema) -> Schema:
        """Put keys in this dialect's order."""
        return {key: schema[key] for key in sorted(schema, key=self.order.index)}


def translate(rng: random.Random, tools: list[Schema]) -> list[Schema]:
    """Write some offers of tools in a dialect of their own: a model must read every client's schemas."""
    if rng.random() < PLAIN:
        return tools
    dialect = Dialect(rng.sample(KEYS, len(KEYS)), *(rng.random() < 0.25 for _ in range(3)))
    return [dialect.tool(tool) for tool in tools]
