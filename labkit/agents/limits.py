"""Limits on agents of Agent Framework: how many run at a time, and which calls wait for a person."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from weakref import WeakKeyDictionary

from agent_framework import (
    Agent,
    AgentContext,
    AgentMiddleware,
    AgentResponse,
    AgentSession,
    Content,
    Message,
)

from labkit.types import ToolCall, require_whole


class AtMost(AgentMiddleware):
    """Let at most `limit` runs go on at a time, of all agents that share this object; the others wait their turn.

    `most` is how many there were at once so far.
    """

    def __init__(self, limit: int) -> None:
        require_whole("limit", limit, 1, 10**6)
        self.limit, self.running, self.most = limit, 0, 0
        self._gates: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    async def process(self, context: AgentContext, call_next: Callable[[], Awaitable[None]]) -> None:
        """Wait for a place; a stream holds its place until it was read, closed or forgotten."""
        gate = self._gates.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(self.limit))
        await gate.acquire()
        self.running += 1
        self.most = max(self.most, self.running)
        leave = ExitStack()
        leave.callback(self._leave, gate)
        with leave:
            await call_next()
            if context.stream:
                later = leave.pop_all()
                context.stream_cleanup_hooks.append(later.close)
                weakref.finalize(context.result, later.close)

    def _leave(self, gate: asyncio.Semaphore) -> None:
        self.running -= 1
        gate.release()


async def run_approved(
    agent: Agent, text: str, decide: Callable[[ToolCall], bool], session: AgentSession, rounds: int = 5
) -> AgentResponse:
    """Run an agent; before each call of a tool with `approval_mode="always_require"`, ask `decide`.

    Only True lets a call run. After so many rounds the response is returned with its last requests unanswered.
    """
    response = await agent.run(text, session=session)
    for _ in range(rounds):
        requests = response.user_input_requests
        if not requests:
            break
        answers = [each.to_function_approval_response(decide(call_of(each)) is True) for each in requests]
        response = await agent.run(Message("user", answers), session=session)
    return response


def call_of(request: Content) -> ToolCall:
    """Return the call that a request for approval is about."""
    call = request.function_call
    assert call is not None
    return ToolCall(str(call.name), call.parse_arguments() or {}, str(call.call_id))
