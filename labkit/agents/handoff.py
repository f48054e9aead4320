"""A help desk of Agent Framework: a triage agent hands each request to one specialist, who answers.

The triage agent's model calls `handoff_to_NAME`. A `Dispatcher` in front of it can make that call by any route.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from agent_framework import (
    Agent,
    ChatContext,
    ChatMiddleware,
    ChatOptions,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    ResponseStream,
    Workflow,
)
from agent_framework.exceptions import WorkflowConvergenceException
from agent_framework.orchestrations import HandoffBuilder

from labkit.agents.framework import ChatClient
from labkit.agents.intents import SPECIALISTS, Route
from labkit.engines.base import Model

TOOL = "handoff_to_"
CALL_TOKENS = 48


class Dispatcher(ChatMiddleware):
    """Hand the user's request to the specialist that a route names; where it names none, the model decides."""

    def __init__(self, route: Route) -> None:
        self.route = route

    async def process(self, context: ChatContext, call_next: Callable[[], Awaitable[None]]) -> None:
        """Answer in the model's place with a call of the handoff tool, if there is one of that name."""
        asked = context.messages[-1].text if context.messages and context.messages[-1].role == "user" else ""
        offered = {getattr(tool, "name", "") for tool in (context.options or {}).get("tools") or ()}
        name = await asyncio.to_thread(self.route, asked) if asked else ""
        if f"{TOOL}{name}" not in offered:
            return await call_next()
        call = Content.from_function_call(uuid.uuid4().hex, f"{TOOL}{name}", arguments={})
        update = ChatResponseUpdate(role="assistant", contents=[call], finish_reason="tool_calls")

        async def updates() -> AsyncIterator[ChatResponseUpdate]:
            yield update

        streamed = ResponseStream(updates(), finalizer=ChatResponse.from_updates)
        context.result = streamed if context.stream else ChatResponse.from_updates([update])


def help_desk(triage: Model, specialists: Mapping[str, Model], route: Route | None = None) -> Workflow:
    """Return a workflow for one request: triage, one handoff, one answer.

    The triage model is held to a call where its engine can be.
    """
    options: ChatOptions[None] = {"max_tokens": CALL_TOKENS}
    if triage.engine.constrained:
        options["tool_choice"] = "required"
    first = Agent(
        ChatClient(triage),
        name="triage",
        middleware=[Dispatcher(route)] if route else [],
        default_options=options,
        require_per_service_call_history_persistence=True,
    )
    others = [
        Agent(
            ChatClient(model),
            name=name,
            description=f"Hand over to the agent for {SPECIALISTS.get(name, name)}.",
            require_per_service_call_history_persistence=True,
        )
        for name, model in specialists.items()
    ]
    builder = HandoffBuilder(participants=[first, *others]).with_start_agent(first)
    for agent in others:
        builder.add_handoff(first, [agent])
    # It warns of agents that hand nothing on: ours shall not.
    with _quiet("agent_framework_orchestrations._handoff"):
        return builder.build()


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


@dataclass(frozen=True, slots=True)
class Handled:
    """Tell what became of a request: the specialist it reached ("" for none), the answer, whether a cap ended it."""

    specialist: str
    answer: str
    capped: bool = False


async def handle(desk: Workflow, text: str) -> Handled:
    """Send one request through a fresh help desk."""
    try:
        events = await desk.run(text)
    except WorkflowConvergenceException:
        return Handled("", "", capped=True)
    targets = [event.data.target for event in events if event.type == "handoff_sent"]
    outputs = [text for each in events.get_outputs() if (text := getattr(each, "text", ""))]
    return Handled(targets[-1] if targets else "", outputs[-1] if outputs else "")
