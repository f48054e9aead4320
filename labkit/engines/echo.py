"""An engine without a model: it says what it is told to, or repeats the question. It ships; it is no mock.

Use it for lessons that need a fixed answer, and for tests of everything above the engines.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from labkit.engines.base import Engine
from labkit.engines.stops import StopReader
from labkit.errors import OptionInvalid
from labkit.models.card import ModelCard
from labkit.types import Availability, Chunk, FinishReason, GenerationOptions, Message, Tool, Usage

TOKEN = re.compile(r"\s*\S+|\s+$")


class Echo(Engine):
    """Answer from `script`, one entry a request, then with the last user message.

    Options: `script` is a list of texts (a text may hold `<tool_call>…</tool_call>`); `delay` is seconds before
    each token. A token is a word with the space before it.
    """

    name = "echo"

    @classmethod
    def available(cls) -> Availability:
        """Say yes: nothing needs to be installed."""
        return Availability(True, "1", reason="no model: repeats what it is told")

    @classmethod
    def load(cls, card: ModelCard, variant: str, options: Mapping[str, Any]) -> Self:
        """Take the script; the card is not used."""
        unknown = sorted(set(options) - {"script", "delay"})
        if unknown:
            raise OptionInvalid(f"echo has no option {unknown[0]!r}", fix="choose from: script, delay")
        script, delay = options.get("script", ()), options.get("delay", 0.0)
        if isinstance(script, str) or not all(isinstance(text, str) for text in script):
            raise OptionInvalid.of("script", script, "a list of strings")
        if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay <= 60:
            raise OptionInvalid.of("delay", delay, "seconds from 0 to 60")
        return cls(list(script), float(delay))

    def __init__(self, script: list[str], delay: float) -> None:
        self.script, self.delay = script, delay

    def stream(
        self, messages: Sequence[Message], tools: Sequence[Tool], options: GenerationOptions
    ) -> Iterator[Chunk]:
        """Yield the scripted text word by word."""
        asked = [m["content"] for m in messages if m["role"] == "user"] or [""]
        words = TOKEN.findall(self.script.pop(0) if self.script else asked[-1])
        stops, written, stopped = StopReader(options.stop), 0, False
        for word in words[: options.max_tokens]:
            if self.delay:
                time.sleep(self.delay)
            written += 1
            text, stopped = stops.feed(word)
            yield Chunk(text, 1)
            if stopped:
                break
        reason: FinishReason = "length" if len(words) > options.max_tokens and not stopped else "stop"
        read = sum(len(TOKEN.findall(m["content"])) for m in messages)
        yield Chunk("" if stopped else stops.held, finish_reason=reason, usage=Usage(read, written))

    def close(self) -> None:
        """Do nothing."""
