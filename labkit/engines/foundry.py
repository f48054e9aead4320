"""Foundry Local inside this process: Microsoft's runtime for ONNX models, which picks the variant for this hardware.

Foundry renders the prompt itself, with the model's own template; for nano it comes to the same tokens as elsewhere.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Self

from labkit.engines.base import Engine, installed
from labkit.engines.foundry_models import public_model, shipped_model, start, starting
from labkit.engines.hf_folder import control_tokens
from labkit.engines.settings import settings_of
from labkit.engines.stops import StopReader
from labkit.engines.tokens import room, vendor_errors
from labkit.engines.toolcalls import CLOSE, OPEN
from labkit.errors import EngineFailed, EngineUnavailable, OptionInvalid
from labkit.models.card import ModelCard, Ref
from labkit.models.fit import check_fit
from labkit.models.hardware import free_cores
from labkit.models.template import neutralise
from labkit.types import (
    Availability,
    Chunk,
    FinishReason,
    GenerationOptions,
    Message,
    Tool,
    Usage,
    require_whole,
)

MAX_SEED = 2**31 - 1
MAX_TEMPERATURE = 2.0
REMEDY = "ask in other words, or without tools; or load(…, engine='llamacpp')"
users: Counter[str] = Counter()  # how many engines hold a loaded model: Foundry loads it only once


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Settle how a shipped model is loaded: 0 threads are the cores that are free."""

    threads: int = 0

    def __post_init__(self) -> None:
        require_whole("threads", self.threads, 0, 512)


class Foundry(Engine):
    """Run a model through Foundry Local's `ChatSession`, a new one for each request."""

    name = "foundry"

    @classmethod
    def available(cls) -> Availability:
        """Look for the package without importing it."""
        return installed("foundry-local-sdk", "pip install 'labkit[foundry]'")

    @classmethod
    def default_variant(cls, card: ModelCard) -> str:
        """Return "int4", or "auto": what Foundry picks from its public catalog."""
        return "auto" if card.refs.get("foundry", Ref()).repo else "int4"

    @classmethod
    def load(cls, card: ModelCard, variant: str, options: Mapping[str, Any]) -> Self:
        """Register the shipped model, or download one of the public catalog; then load it."""
        chosen = settings_of(LoadOptions, cls.name, options)
        check_fit(card)
        with vendor_errors(EngineUnavailable, "Foundry Local cannot get the model", "labkit doctor --deep"):
            manager = start()
            if public := card.refs.get("foundry", Ref()).repo:
                return cls(*public_model(manager, public, variant))
            model, folder = shipped_model(manager, card, variant, chosen.threads or free_cores())
            template = (folder / "chat_template.jinja").read_text("utf-8")
            return cls(model, "CPU (what this export is made for)", control_tokens(folder, template))

    def __init__(self, model: Any, device: str, control: Sequence[str] | None = None) -> None:
        self.device, self.control, self.model = device, control, model
        with starting:
            model.load()
            users[model.id] += 1

    def stream(
        self, messages: Sequence[Message], tools: Sequence[Tool], options: GenerationOptions
    ) -> Iterator[Chunk]:
        """Ask in a fresh session and yield what comes."""
        import foundry_local_sdk as sdk

        check_able(options)
        with (
            vendor_errors(EngineFailed, "Foundry gave no answer", REMEDY),
            sdk.ChatSession(self.model) as session,
            sdk.Request() as request,
        ):
            for tool in () if options.tool_choice == "none" else tools:
                function = tool["function"]
                schema = json.dumps(function.get("parameters") or {"type": "object", "properties": {}})
                session.add_tool_definition(function["name"], function["description"], schema)
            for item in self.items(messages):
                request.add_item(item)
            request.set_options(self.settings(options, 1))
            asked = session.preflight_request(request)
            limit = room(asked.prompt_tokens, asked.context_limit_tokens, options.max_tokens)
            request.set_options(self.settings(options, limit))
            session.set_streaming(True)
            yield from answer(session, request, options, asked.prompt_tokens)

    def items(self, messages: Sequence[Message]) -> Iterator[Any]:
        """Turn OpenAI's messages into Foundry's items; control tokens are broken in what users and tools say."""
        import foundry_local_sdk as sdk

        for message in messages:
            role, content, calls = message["role"], message["content"], message.get("tool_calls") or ()
            if role in ("user", "tool") and self.control:
                content = neutralise(content, self.control)
            if role == "tool":
                yield sdk.ToolResultItem(str(message.get("tool_call_id", "")), content)
            elif content or not calls:
                yield sdk.MessageItem(sdk.MessageRole[role.upper()], content)
            for call in calls:
                yield sdk.ToolCallItem(call["id"], call["function"]["name"], call["function"]["arguments"])

    def settings(self, options: GenerationOptions, limit: int) -> Any:
        """Return Foundry's form of the options."""
        import foundry_local_sdk as sdk
        from foundry_local_sdk.session_types import ToolChoice

        search = sdk.SearchOptions(
            temperature=options.temperature,
            top_p=options.top_p,
            top_k=options.top_k,
            max_output_tokens=limit,
            seed=(options.seed or 0) & MAX_SEED,
        )
        # "Auto" adds 600 tokens of Foundry's own protocol, which nano was not trained on, and raises on any slip.
        # "None" shows the tools through the model's template all the same, and labkit reads the calls.
        choice = ToolChoice.AUTO if self.control is None else ToolChoice.NONE
        return sdk.RequestOptions(search=search, tool_choice=choice)

    def close(self) -> None:
        """Unload the model, unless another `Model` still uses it."""
        model, self.model = self.model, None
        if model is not None:
            with vendor_errors(EngineFailed, "Foundry cannot unload the model", "restart Python"), starting:
                users[model.id] -= 1
                if not users[model.id]:
                    model.unload()


def check_able(options: GenerationOptions) -> None:
    """Raise `OptionInvalid` for what Foundry Local cannot do."""
    wrong = {
        "min_p": options.min_p > 0,
        "repeat_penalty": options.repeat_penalty != 1,
        "ignore_eos": options.ignore_eos,
        f"temperature over {MAX_TEMPERATURE:g}": options.temperature > MAX_TEMPERATURE,
    }
    for name in (name for name, is_wrong in wrong.items() if is_wrong):
        raise OptionInvalid(f"foundry has no {name}", fix="leave it out, or load(…, engine='llamacpp')")


def answer(session: Any, request: Any, options: GenerationOptions, prompt: int) -> Iterator[Chunk]:
    """Yield a chunk for each item that streams in; the last one also carries the tokens that had no item."""
    stops, written, stopped = StopReader(options.stop), 0, False
    reason: FinishReason = "stop"
    with session.process_streaming_request(request) as stream:
        with closing(iter(stream)) as items:  # closed early, it cancels the request
            for item in items:
                written += 1
                shown, stopped = stops.feed(text_of(item))
                yield Chunk(shown, 1)
                if stopped:
                    break
        total = written
        if not stopped:
            with stream.final_response as final:
                reason = "length" if final.finish_reason.name == "LENGTH" else "stop"
                total = max(written, final.get_usage().completion_tokens)
    tail = "" if stopped else stops.held
    yield Chunk(tail, total - written, finish_reason=reason, usage=Usage(prompt, total))


def text_of(item: Any) -> str:
    """Return an item's text; a tool call as the text that labkit reads tool calls from."""
    if not hasattr(item, "arguments"):
        return str(getattr(item, "text", ""))
    return f'{OPEN}{{"name": {json.dumps(item.name)}, "arguments": {item.arguments or "{}"}}}{CLOSE}'
