"""Microsoft Agent Framework on any labkit engine: `Agent(ChatClient(load("nano")), "You help.", tools=[…])`.

The framework runs tools, sessions, middleware and workflows; this client only asks the model. Written for
agent-framework-core 1.23, whose four layers must be inherited in this order.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from agent_framework import (
    BaseChatClient,
    ChatMiddlewareLayer,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    FunctionInvocationLayer,
    FunctionTool,
    Message,
    ResponseStream,
    UsageDetails,
)
from agent_framework.observability import ChatTelemetryLayer
from pydantic import BaseModel

from labkit.engines.base import Model
from labkit.engines.beside import iterate
from labkit.engines.toolcalls import CLOSE
from labkit.errors import OptionInvalid
from labkit.types import Chunk, ToolCall

SAMPLING = ("temperature", "top_p", "max_tokens", "seed", "stop")
# What the framework may set that an engine here would ignore in silence.
UNKNOWN = ("logit_bias", "frequency_penalty", "presence_penalty")


class ChatClient(FunctionInvocationLayer, ChatMiddlewareLayer, ChatTelemetryLayer, BaseChatClient):
    """Ask a loaded labkit model. The model stays the caller's: closing it is theirs."""

    OTEL_PROVIDER_NAME = "labkit"

    def __init__(self, model: Model, **settings: Any) -> None:
        """Take a model and Agent Framework's own settings, as `function_invocation_configuration`."""
        super().__init__(**settings)
        self.labkit_model = model
        self.model = model.card.alias  # the name that traces show

    def _inner_get_response(
        self, *, messages: Sequence[Message], stream: bool, options: Mapping[str, Any], **_: Any
    ) -> Awaitable[ChatResponse] | ResponseStream[ChatResponseUpdate, ChatResponse]:
        updates = self._updates(messages, options)
        response = self._build_response_stream(updates, response_format=options.get("response_format"))
        return response if stream else response.get_final_response()

    async def _updates(
        self, messages: Sequence[Message], options: Mapping[str, Any]
    ) -> AsyncIterator[ChatResponseUpdate]:
        """Stream the model's answer; whoever stops reading stops the engine."""
        chosen = await self._validate_options(options)
        turns = openai_turns(messages, chosen.get("instructions"))
        tools = [t.to_json_schema_spec() for t in chosen.get("tools") or [] if isinstance(t, FunctionTool)]
        wanted, model = settings(chosen), self.labkit_model
        if not tools:
            wanted.pop("tool_choice", None)
        elif chosen.get("allow_multiple_tool_calls") is False and model.engine.raw_tool_calls:
            wanted["stop"] = (*wanted.get("stop", ()), CLOSE)  # one call, and the turn is over
        async with aclosing(iterate(lambda: model.stream(turns, tools=tools, **wanted))) as chunks:
            async for chunk in chunks:
                yield update(chunk, model.card.alias)


def settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the framework's chat options into keywords of `Model.stream`; raise `OptionInvalid` on others."""
    refused = [name for name in UNKNOWN if options.get(name)]
    if refused:
        raise OptionInvalid(f"labkit's engines know no {refused[0]}", fix=f"leave {refused[0]} out")
    found = {name: options[name] for name in SAMPLING if options.get(name) is not None}
    if choice := options.get("tool_choice"):
        found["tool_choice"] = choice if isinstance(choice, str) else choice["mode"]
    if (form := options.get("response_format")) is not None:
        found["schema"] = schema_of(form)
    return found


def schema_of(form: type[BaseModel] | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the JSON schema of a response format: a pydantic class, a schema, or OpenAI's wrapping of one."""
    if isinstance(form, Mapping):
        inner: Mapping[str, Any] = form.get("json_schema", {}).get("schema", form)
        return inner
    return form.model_json_schema()


def openai_turns(messages: Sequence[Message], instructions: str | None) -> list[dict[str, Any]]:
    """Turn the framework's messages into chat dicts.

    Workflows hand one agent's answer on as an assistant turn at the end. A local model would take that for its own
    answer, already given, so it becomes a user turn.
    """
    turns: list[dict[str, Any]] = [{"role": "system", "content": instructions}] if instructions else []
    for message in messages:
        results = [content for content in message.contents if content.type == "function_result"]
        calls = [content for content in message.contents if content.type == "function_call"]
        if results:
            turns += [
                {"role": "tool", "tool_call_id": r.call_id, "content": str(r.result or "")} for r in results
            ]
            continue
        turn = {"role": str(message.role), "content": message.text}
        turns.append({**turn, "tool_calls": [openai_call(call) for call in calls]} if calls else turn)
    if turns and turns[-1]["role"] == "assistant":
        turns[-1] = {"role": "user", "content": turns[-1]["content"]}
    return turns


def openai_call(content: Content) -> dict[str, Any]:
    """Write a call that the framework remembers as a chat dict does."""
    given = content.arguments
    arguments = json.loads(given or "{}") if isinstance(given, str | None) else dict(given)
    return ToolCall(str(content.name), arguments, str(content.call_id)).openai()


def update(chunk: Chunk, model: str) -> ChatResponseUpdate:
    """Turn a chunk into the framework's update."""
    contents = [Content.from_text(chunk.text)] if chunk.text else []
    for call in chunk.tool_calls:
        # Engines number the calls of one reply; the framework pairs calls with results by id in a whole session.
        id = f"{call.id}_{uuid.uuid4().hex[:8]}"
        contents.append(Content.from_function_call(id, call.name, arguments=call.arguments))
    if usage := chunk.usage:
        counted = UsageDetails(
            input_token_count=usage.prompt_tokens,
            output_token_count=usage.completion_tokens,
            total_token_count=usage.total_tokens,
        )
        contents.append(Content.from_usage(counted))
    return ChatResponseUpdate(
        role="assistant", contents=contents, finish_reason=chunk.finish_reason, model=model
    )
