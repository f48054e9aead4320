"""An OpenAI-compatible server that labkit started itself, in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

from labkit.engines.openai import OpenAI
from labkit.engines.openai_request import UrlOptions
from labkit.engines.process import ServerProcess
from labkit.errors import EngineFailed, EngineTimeout, EngineUnavailable
from labkit.types import Chunk, GenerationOptions, Message, Tool

DYING_S = 1.0  # a server that broke off is given so long to end


class OwnServer(OpenAI):
    """Ask a server that is this engine's own: if it ends, tell how, and `close` stops it.

    `process` is None where the server was somebody else's after all.
    """

    process: ServerProcess | None = None

    @classmethod
    def over(cls, process: ServerProcess, url: str, timeout: float, alias: str) -> Self:
        """Return the engine of a server that has just been started; without its model, the server is stopped."""
        try:
            engine = cls(UrlOptions(f"{url}/v1", key_env="", timeout=timeout), alias)
            engine.process = process
            engine.look_up()
        except BaseException:
            process.stop()
            raise
        return engine

    def stream(
        self, messages: Sequence[Message], tools: Sequence[Tool], options: GenerationOptions
    ) -> Iterator[Chunk]:
        """Ask the server; if it has ended, tell how."""
        try:
            yield from super().stream(messages, tools, options)
        except (EngineFailed, EngineTimeout, EngineUnavailable) as exc:
            if self.process and self.process.ended(within=DYING_S):
                raise self.process.failure() from exc
            raise

    def close(self) -> None:
        """Close the connections, and stop the server if it is this engine's own."""
        super().close()
        if self.process:
            self.process.stop()
