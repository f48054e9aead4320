"""`labkit chat`: one streamed answer, or a conversation."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from labkit.cli.options import opened

if TYPE_CHECKING:
    from labkit.engines.base import Model
    from labkit.types import Chunk, GenerationOptions, Message, ToolCall

GOODBYE = ("bye", "exit", "quit")
MAX_ROUNDS = 3


def chat(
    model: Annotated[str, typer.Argument(help="A name from `labkit models`, or a .gguf file.")] = "nano",
    prompt: Annotated[str | None, typer.Argument(help="Ask this and end; without it, talk.")] = None,
    engine: Annotated[str, typer.Option(help="See `labkit engines`.")] = "auto",
    variant: Annotated[str | None, typer.Option(help="A quantization level, as in Q4_K_M.")] = None,
    system: Annotated[str, typer.Option(help="The system prompt.")] = "",
    tools: Annotated[str, typer.Option(help="demo: a light, the weather and a timer, all pretended.")] = "",
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer.  (default: 256)")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="0 always picks the likeliest.  (default: 0)")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed, another answer.")] = None,
    stats: Annotated[bool, typer.Option("--stats", help="Print tokens and speed after each answer.")] = False,
) -> None:
    """Talk to a model, or ask it one thing."""
    from labkit.errors import OptionInvalid
    from labkit.types import GenerationOptions

    given = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    options = GenerationOptions.of(None, **{name: v for name, v in given.items() if v is not None})
    if tools not in ("", "demo"):
        raise OptionInvalid.of("--tools", tools, "--tools demo")
    with opened(model, engine, variant) as loaded:
        talk = Conversation(loaded, options, system, demo=tools == "demo", stats=stats)
        talk.go_on() if prompt is None else talk.ask(prompt)


class Conversation:
    """Keep the messages of a conversation, and print answers as they come."""

    def __init__(
        self, model: Model, options: GenerationOptions, system: str, *, demo: bool, stats: bool
    ) -> None:
        self.model, self.options, self.demo, self.stats = model, options, demo, stats
        self.messages: list[Message] = [{"role": "system", "content": system}] if system else []

    def ask(self, text: str) -> None:
        """Stream the answer to one message; a demo tool that is called answers, and the model goes on."""
        self.messages.append({"role": "user", "content": text})
        for _ in range(MAX_ROUNDS):
            calls = self._stream()
            if not calls:
                return
            self._run(calls)

    def go_on(self) -> None:
        """Answer line by line until "bye" or the end of input. Ctrl-C stops an answer, not the program."""
        if sys.stdin.isatty():
            _enable_line_editing()
            print(f"{self.model!r}: write a line, Ctrl-C stops an answer, bye ends.", file=sys.stderr)
        while True:
            try:
                line = input("> " if sys.stdin.isatty() else "").strip()
            except EOFError:
                return
            if line.lower() in GOODBYE:
                return
            if line:
                self._ask_or_stop(line)

    def _ask_or_stop(self, line: str) -> None:
        before = len(self.messages)
        try:
            self.ask(line)
        except KeyboardInterrupt:
            del self.messages[before:]  # half an exchange would confuse the next one
            print("\n(stopped)", file=sys.stderr)

    def _stream(self) -> tuple[ToolCall, ...]:
        from labkit.cli.demo import TOOLS

        offered = tuple(TOOLS.values()) if self.demo else ()
        chunks: list[Chunk] = []
        for chunk in self.model.stream(self.messages, tools=offered, options=self.options):
            chunks.append(chunk)
            sys.stdout.write(chunk.text)
            sys.stdout.flush()
        reply = self.model.reply_of(chunks)
        if reply.text or not reply.tool_calls:
            print()
        self.messages.append(reply.message)
        if self.stats:
            read = f"read {reply.usage.prompt_tokens} ({reply.usage.cached_tokens} cached)"
            print(f"[{reply.timing}, {read}]", file=sys.stderr)
        return reply.tool_calls

    def _run(self, calls: tuple[ToolCall, ...]) -> None:
        from labkit.cli.demo import answer

        for call in calls:
            result = answer(call)
            print(f"→ {call}\n← {result}", flush=True)
            self.messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


def _enable_line_editing() -> None:
    try:
        import readline  # noqa: F401  (importing it gives input() arrow keys and history)
    except ImportError:
        pass  # Windows has its own
