"""Several engines as one model: the first that can answers, and when it fails the next one goes on.

The conversation is in the messages, so any engine can take it up. An answer that broke off in the middle can be taken
up only where the next engine writes the same beginning, as engines with the same weights do (greedily).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from labkit.engines.base import Engine, Model
from labkit.errors import EngineFailed, EngineTimeout, EngineUnavailable, OptionInvalid
from labkit.models.card import ModelCard
from labkit.types import Availability, Chunk, GenerationOptions, Message, Tool

FAILURES = (EngineFailed, EngineTimeout, EngineUnavailable)


def failover(models: Sequence[Model], rest: float = 30.0) -> Model:
    """Return a model that asks these in order; one that failed rests for so many seconds. Closing it closes all."""
    if not models:
        raise OptionInvalid("failover needs a model", fix="failover([load('nano'), …])")

    class Chain(Failover):  # an engine's flags belong to its class: a chain can do what all of its links can
        tools = all(model.engine.tools for model in models)
        constrained = all(model.engine.constrained for model in models)

    return Model(Chain(models, rest), models[0].card, models[0].variant)


class Failover(Engine):
    """Ask models in order. `failures` tells of those so far, `last` is the model that answered last."""

    name = "failover"
    raw_tool_calls = False

    def __init__(self, models: Sequence[Model], rest: float) -> None:
        self.models, self.rest = tuple(models), rest
        self.failures: list[str] = []
        self.last: Model | None = None
        self._resting: dict[int, float] = {}

    @classmethod
    def available(cls) -> Availability:
        """Say yes: the engines it asks are loaded already."""
        return Availability(True, "1")

    @classmethod
    def load(cls, card: ModelCard, variant: str, options: Mapping[str, Any]) -> Self:
        """Refuse: there is nothing to load."""
        raise OptionInvalid("failover is made of loaded models", fix="failover([load('nano'), …])")

    def stream(
        self, messages: Sequence[Message], tools: Sequence[Tool], options: GenerationOptions
    ) -> Iterator[Chunk]:
        """Yield one answer, whoever writes it; raise the last engine's error when none is left."""
        said, error = "", None
        now = time.monotonic()
        for model in sorted(self.models, key=lambda model: self._resting.get(id(model), 0.0) > now):
            self.last = model
            try:
                for chunk in resumed(model, messages, tools, options, said):
                    said += chunk.text
                    yield chunk
                return
            except FAILURES as exc:
                error = exc
                self._resting[id(model)] = time.monotonic() + self.rest
                self.failures.append(f"{model.engine.name}: {exc.what}")
        assert error
        raise error

    def close(self) -> None:
        """Close every model."""
        for model in self.models:
            model.close()


def resumed(
    model: Model, messages: Sequence[Message], tools: Sequence[Tool], options: GenerationOptions, said: str
) -> Iterator[Chunk]:
    """Yield a model's answer without what was said already; raise `EngineFailed` if it begins otherwise."""
    got, chunk = "", Chunk()
    for chunk in model.stream(messages, tools=tools, options=options):
        before, got = len(got), got + chunk.text
        if not got.startswith(said[: len(got)]):
            raise EngineFailed(f"an answer broke off, and {model!r} begins another way", fix="ask again")
        new = got[max(before, len(said)) :]
        if new or chunk.tool_calls or chunk.finish_reason:
            yield chunk if new == chunk.text else replace(chunk, text=new)
    if not chunk.finish_reason:
        raise EngineFailed(f"{model!r} stopped in the middle of an answer", fix="ask again")
