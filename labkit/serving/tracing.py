"""Where the gateway's spans go: to a collector that speaks OpenTelemetry's protocol, or into a file."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

from labkit.errors import EngineUnavailable
from labkit.models.store import storage_errors

EVERY_MS = 500


def tracing(target: str) -> TracerProvider:
    """Return a provider for `Telemetry`: `target` is a collector's address (http…) or a file, one span a line.

    Its `shutdown()` writes what is left. Raises `EngineUnavailable` without the exporter, `StorageFailed` if the
    file cannot be written.
    """
    provider = TracerProvider(resource=Resource.create({"service.name": "labkit-gateway"}))
    exporter = _collector(target) if target.startswith(("http://", "https://")) else _File(Path(target))
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=EVERY_MS))
    return provider


def line(span: ReadableSpan) -> str:
    """Return a span as a line of JSON; `start` is UNIX seconds."""
    start, end = span.start_time or 0, span.end_time or 0
    told = {
        "trace": f"{span.context.trace_id:032x}",
        "span": f"{span.context.span_id:016x}",
        "parent": f"{span.parent.span_id:016x}" if span.parent else "",
        "name": span.name,
        "start": start / 1e9,
        "seconds": (end - start) / 1e9,
        "error": not span.status.is_ok,
        **(span.attributes or {}),
    }
    return json.dumps(told) + "\n"


class _File(ConsoleSpanExporter):
    def __init__(self, path: Path) -> None:
        with storage_errors(path):
            super().__init__(out=path.open("a", encoding="utf-8"), formatter=line)

    def shutdown(self) -> None:
        self.out.close()


def _collector(address: str) -> SpanExporter:
    try:
        module = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ImportError as exc:
        fix = "pip install opentelemetry-exporter-otlp-proto-http"
        raise EngineUnavailable("the exporter of traces is not installed", fix=fix) from exc
    exporter: SpanExporter = module.OTLPSpanExporter(endpoint=address)
    return exporter
