"""What the gateway tells of itself: figures for Prometheus, with names that stay, and OpenTelemetry spans.

Labels have few values, whatever students send: a route, a role, a backend's name, never a user, a key or a text.
Dashboards (`dashboards/labkit.json`), alert rules (`alerts.yml`) and `labkit serve top` go by these names.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Self

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from labkit.serving.refused import HUNG_UP, status_of

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
TURNS = (1, 2, 3, 5, 8, 13, 21, 34)
LENGTHS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
HERE_S = 600.0  # a user counts as present for so long after a request
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Telemetry:
    """Count and time what a gateway does; one object for one app, with a registry of its own.

    Spans go to `provider`, else to the program's own; where there is neither, they cost next to nothing.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        # The time at which each series began would make the page twice as long.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = own = CollectorRegistry()
        self.tracer = trace.get_tracer("labkit.serving", tracer_provider=provider)
        self._seen: dict[str, float] = {}
        self._working, self._since = 0, 0.0

        counter = partial(Counter, namespace="labkit", registry=own)
        gauge = partial(Gauge, namespace="labkit", registry=own)
        histogram = partial(Histogram, namespace="labkit", registry=own, buckets=SECONDS)
        self.requests = counter(
            "requests", "Requests, by their last status.", ["route", "status", "user_role"]
        )
        self.request_seconds = histogram("request_seconds", "Request read to last byte sent.", ["route"])
        self.ttft = histogram("ttft_seconds", "Request read to first output passed on.")
        self.engine_seconds = histogram("engine_seconds", "One try at one backend.", ["backend"])
        self.engine_failures = counter("engine_failures", "Tries that a backend did not finish.", ["backend"])
        self.engine_busy = counter("engine_busy_seconds", "Time with one try or more at work.")
        self.token_count = counter("tokens", "Tokens, by kind and local hour of day.", ["kind", "hour"])
        self.output_tokens = histogram("output_tokens", "Tokens written for a request.", buckets=LENGTHS)
        self.tool_calls = counter("tool_calls", "Tool calls that models wrote, by outcome.", ["outcome"])
        self.cache_hits = counter("cache_hits", "Answers from the cache: exact or semantic.", ["kind"])
        self.cache_misses = counter("cache_misses", "Look-ups in the cache that found nothing.")
        self.turns = histogram("conversation_turns", "User turns in a request's messages.", buckets=TURNS)
        self.thumbs = counter("thumbs", "Votes on answers: up or down.", ["vote"])
        self.audit_lost = counter("audit_lost", "Events that the audit log could not keep.")
        self.running = gauge("requests_running", "Tries at a backend that are at work.")
        self.running.set_function(lambda: self._working)
        self.queue_depth = gauge("queue_depth", "Requests that wait for their turn.")
        self.queue_limit = gauge("queue_limit", "Requests that may wait.")
        self.backend_up = gauge("backend_up", "1 while a backend takes requests, else 0.", ["backend"])
        self.backend_bytes = gauge("backend_memory_bytes", "Memory of a backend's process.", ["backend"])
        self.budget_bytes = gauge("memory_budget_bytes", "What all backends may take together.")
        self.disk_free = gauge("disk_free_bytes", "Free space where audit log and state are.")
        self.disk_free.set(math.nan)  # 0 would say that it is full
        self.action_on = gauge("action_on", "1 while an action on an alert is in force.", ["action"])
        self.users = gauge("active_users", f"Users with a request in the last {HERE_S / 60:g} minutes.")
        self.users.set_function(self._present)

    def request(
        self, route: str, role: str = "none", user: str = "", headers: Mapping[str, str] | None = None
    ) -> Request:
        """Watch a request from here to the end of its `with` block, or until `end(status)`.

        `route` is the path's template and `role` the user's; `user` (any id) is only counted, never shown.
        `headers` may carry a `traceparent`, whose trace the spans then join.
        """
        return Request(self, route, role, user, headers or {})

    def tokens(self, prompt: int = 0, completion: int = 0, cached: int = 0) -> None:
        """Count a request's tokens: read, written, and those of the prompt that came from a cache."""
        hour = f"{datetime.now().hour:02}"
        for kind, count in (("prompt", prompt), ("completion", completion), ("cached", cached)):
            if count > 0:
                self.token_count.labels(kind, hour).inc(count)
        if completion > 0:
            self.output_tokens.observe(completion)

    def tool(self, outcome: str) -> None:
        """Count a tool call: "ok", "unknown" (no such tool was offered) or "invalid" (arguments do not fit)."""
        self.tool_calls.labels(outcome).inc()

    def cache(self, kind: str = "") -> None:
        """Count a look-up in the cache: "exact" or "semantic" for a hit, nothing for a miss."""
        self.cache_hits.labels(kind).inc() if kind else self.cache_misses.inc()

    def thumb(self, vote: str) -> None:
        """Count a vote: "up" or "down"."""
        self.thumbs.labels(vote).inc()

    def backend(self, name: str, up: bool, memory: int = 0) -> None:
        """Say whether a backend takes requests, and how many bytes its process has."""
        self.backend_up.labels(name).set(up)
        self.backend_bytes.labels(name).set(memory)

    def gone(self, name: str) -> None:
        """Forget a backend that was stopped on purpose, so that nobody is alarmed."""
        for figure in (self.backend_up, self.backend_bytes):
            with suppress(KeyError):
                figure.remove(name)

    def page(self) -> bytes:
        """Return all figures in Prometheus' text format (`CONTENT_TYPE`)."""
        self._work(0)
        return generate_latest(self.registry)

    def _work(self, step: int) -> None:
        """Count time only once, however many tries are at work."""
        now = time.perf_counter()
        if self._working:
            self.engine_busy.inc(now - self._since)
        self._working, self._since = self._working + step, now

    def _present(self) -> float:
        old = time.monotonic() - HERE_S
        self._seen = {user: at for user, at in self._seen.items() if at > old}
        return len(self._seen)


class Request:
    """Watch one request. Set `status` to what it ends with; a stream that broke is 502, whatever its header said."""

    def __init__(
        self, telemetry: Telemetry, route: str, role: str, user: str, headers: Mapping[str, str]
    ) -> None:
        self.telemetry, self.route, self.role, self.status = telemetry, route, role, 200
        self.began, self.ttft = time.perf_counter(), 0.0
        self._ended = False
        parent = propagate.extract(headers) if "traceparent" in headers else None
        self.span = telemetry.tracer.start_span(f"gateway {route}", parent, SpanKind.SERVER)
        if user:
            telemetry._seen[user] = time.monotonic()

    def engine(self, backend: str, model: str = "") -> Attempt:
        """Watch one try at a backend: `with request.engine("a", "nano") as attempt: …`."""
        return Attempt(self, backend, model)

    def first(self) -> None:
        """Note that the first output goes out now; later calls change nothing."""
        if not self.ttft:
            self.ttft = time.perf_counter() - self.began
            self.telemetry.ttft.observe(self.ttft)

    def end(self, status: int = 0) -> None:
        """Count the request with its last status; later calls change nothing."""
        if self._ended:
            return
        self._ended, self.status = True, status or self.status
        own = self.telemetry
        own.requests.labels(self.route, str(self.status), self.role).inc()
        own.request_seconds.labels(self.route).observe(time.perf_counter() - self.began)
        self.span.set_attribute("http.response.status_code", self.status)
        if self.status >= 500:
            self.span.set_status(Status(StatusCode.ERROR))
        self.span.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.end(status_of(error) if error and self.status < 400 else 0)


class Attempt:
    """Watch one try at one backend; `headers` make the backend's own spans part of the same trace."""

    def __init__(self, request: Request, backend: str, model: str) -> None:
        self.request, self.backend = request, backend
        self.failed = False
        self.began = time.perf_counter()
        told = {"gen_ai.operation.name": "chat", "gen_ai.request.model": model, "labkit.backend": backend}
        above = trace.set_span_in_context(request.span)
        self.span: Span = request.telemetry.tracer.start_span(
            f"chat {model}", above, SpanKind.CLIENT, attributes=told
        )
        self.headers: dict[str, str] = {}
        if self.span.is_recording():
            propagate.inject(self.headers, trace.set_span_in_context(self.span))
        request.telemetry._work(1)

    def usage(self, prompt: int, completion: int, cached: int = 0) -> None:
        """Count the tokens that were delivered, and put them on the span."""
        self.request.telemetry.tokens(prompt, completion, cached)
        self.span.set_attribute("gen_ai.usage.input_tokens", prompt)
        self.span.set_attribute("gen_ai.usage.output_tokens", completion)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        own = self.request.telemetry
        own._work(-1)
        own.engine_seconds.labels(self.backend).observe(time.perf_counter() - self.began)
        if self.failed or (error and status_of(error) != HUNG_UP):
            own.engine_failures.labels(self.backend).inc()
            self.span.set_status(Status(StatusCode.ERROR))
        self.span.end()
