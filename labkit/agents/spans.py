"""What OpenTelemetry tells of agents, as the events that `widgets.AgentTrace` shows: `with record() as seen: …`.

Agent Framework makes spans by the conventions for generative AI. They stay in this process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

from agent_framework.observability import OBSERVABILITY_SETTINGS
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from labkit.metrics.trace import Event, Kind
from labkit.types import Usage

KINDS: dict[object, Kind] = {"invoke_agent": "run", "chat": "model", "execute_tool": "tool"}
NAMES = {"run": "gen_ai.agent.name", "model": "gen_ai.request.model", "tool": "gen_ai.tool.name"}
TOKENS = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
TEXTS = ("gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "gen_ai.output.messages")


class Recordings(SpanProcessor):
    """Put every span that ends into the recordings that are open."""

    def __init__(self) -> None:
        self.open: list[list[ReadableSpan]] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span."""
        for spans in self.open:
            spans.append(span)


@contextmanager
def record(texts: bool = False) -> Iterator[list[ReadableSpan]]:
    """Record the runs of all agents in this block; `texts` keeps what was said, too (never on a real till)."""
    recordings, spans = _recordings(), list[ReadableSpan]()
    before, OBSERVABILITY_SETTINGS.enable_sensitive_data = OBSERVABILITY_SETTINGS.enable_sensitive_data, texts
    recordings.open.append(spans)
    try:
        yield spans
    finally:
        recordings.open = [each for each in recordings.open if each is not spans]
        OBSERVABILITY_SETTINGS.enable_sensitive_data = before


@cache
def _recordings() -> Recordings:
    """Join the program's own tracer provider, or become it: a process has one, and keeps its processors."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    provider.add_span_processor(recordings := Recordings())
    return recordings


def event(spans: Sequence[ReadableSpan]) -> Event:
    """Turn recorded spans into one event that holds the others, in order of time."""
    zero, ids = min((s.start_time or 0 for s in spans), default=0), {s.context.span_id for s in spans}
    below: dict[int, list[ReadableSpan]] = {}
    for span in sorted(spans, key=lambda span: span.start_time or 0):
        parent = span.parent.span_id if span.parent and span.parent.span_id in ids else 0
        below.setdefault(parent, []).append(span)

    def build(parent: int) -> tuple[Event, ...]:
        parts = (_events(span, zero, build(span.context.span_id)) for span in below.get(parent, []))
        return tuple(event for part in parts for event in part)

    found = build(0)
    end = max((event.start + event.seconds for event in found), default=0.0)
    return found[0] if len(found) == 1 else Event("run", "all runs", 0.0, end, children=found)


def _events(span: ReadableSpan, zero: int, children: tuple[Event, ...]) -> tuple[Event, ...]:
    """Turn a span into an event; the plumbing of workflows is left out, and what it holds takes its place."""
    told, start = dict(span.attributes or {}), span.start_time or zero
    kind = KINDS.get(told.get("gen_ai.operation.name"))
    if kind is None:
        return children
    name = str(told.get(NAMES[kind], span.name))
    # A run's span repeats the sum of its parts.
    counts = [str(told.get(key, 0)) if kind == "model" else "0" for key in TOKENS]
    text = "\n".join(str(told[key]) for key in TEXTS if key in told)
    seconds, used = ((span.end_time or start) - start) / 1e9, Usage(int(counts[0]), int(counts[1]))
    return (Event(kind, name, (start - zero) / 1e9, seconds, used, text, children),)
