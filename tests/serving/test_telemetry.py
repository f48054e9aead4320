"""The gateway's figures keep their names, count each thing once, and never show who asked."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracerProvider, StatusCode
from prometheus_client.parser import text_string_to_metric_families

from labkit.engines.prometheus import read_page
from labkit.errors import EngineUnavailable, StorageFailed
from labkit.metrics.live import Live
from labkit.serving.telemetry import HERE_S, SECONDS, Telemetry
from labkit.serving.tracing import tracing

CHAT = "/v1/chat/completions"
# Dashboards, alerts and other people's tools go by these names: adding one is fine, changing one is not.
NAMES = {
    "labkit_requests": {"route", "status", "user_role"},
    "labkit_request_seconds": {"route", "le"},
    "labkit_ttft_seconds": {"le"},
    "labkit_engine_seconds": {"backend", "le"},
    "labkit_engine_failures": {"backend"},
    "labkit_engine_busy_seconds": set(),
    "labkit_tokens": {"kind", "hour"},
    "labkit_output_tokens": {"le"},
    "labkit_tool_calls": {"outcome"},
    "labkit_cache_hits": {"kind"},
    "labkit_cache_misses": set(),
    "labkit_conversation_turns": {"le"},
    "labkit_thumbs": {"vote"},
    "labkit_audit_lost": set(),
    "labkit_action_on": {"action"},
    "labkit_requests_running": set(),
    "labkit_queue_depth": set(),
    "labkit_queue_limit": set(),
    "labkit_backend_up": {"backend"},
    "labkit_backend_memory_bytes": {"backend"},
    "labkit_memory_budget_bytes": set(),
    "labkit_disk_free_bytes": set(),
    "labkit_active_users": set(),
}


def everything(telemetry: Telemetry) -> None:
    with telemetry.request(CHAT, "student", "anna") as request:
        with request.engine("one", "nano") as attempt:
            attempt.failed = True
        with request.engine("two", "nano") as attempt:
            request.first()
            attempt.usage(10, 20, cached=4)
    telemetry.tool("ok")
    telemetry.cache("exact")
    telemetry.cache()
    telemetry.turns.observe(2)
    telemetry.thumb("up")
    telemetry.backend("one", False)
    telemetry.backend("two", True, 5_000_000)
    telemetry.action_on.labels("shed_load").set(0)


def value(telemetry: Telemetry, name: str, **labels: str) -> float | None:
    telemetry.page()
    return telemetry.registry.get_sample_value(f"labkit_{name}", labels)


def test_the_names_and_labels_are_those_that_others_go_by() -> None:
    telemetry = Telemetry()
    everything(telemetry)
    families = text_string_to_metric_families(telemetry.page().decode())
    seen = {family.name: {key for sample in family.samples for key in sample.labels} for family in families}
    assert seen == NAMES


def test_a_request_is_counted_once_with_its_last_status() -> None:
    telemetry = Telemetry()
    with telemetry.request(CHAT, "student") as request:
        request.end(503)
        request.end(200)
        request.status = 200
    assert value(telemetry, "requests_total", route=CHAT, status="503", user_role="student") == 1
    assert read_page(telemetry.page().decode())["labkit_requests_total"] == 1


@pytest.mark.parametrize(
    ("error", "status", "failures"),
    [(RuntimeError(), "500", 1), (asyncio.CancelledError(), "499", None), (GeneratorExit(), "499", None)],
)
def test_a_block_that_breaks_has_a_status(error: BaseException, status: str, failures: int | None) -> None:
    telemetry = Telemetry()
    with pytest.raises(type(error)), telemetry.request(CHAT) as request, request.engine("one"):
        raise error
    assert value(telemetry, "requests_total", route=CHAT, status=status, user_role="none") == 1
    assert value(telemetry, "engine_failures_total", backend="one") == failures
    assert value(telemetry, "engine_seconds_count", backend="one") == 1


def test_a_status_that_was_set_before_the_block_broke_stays() -> None:
    telemetry = Telemetry()
    with pytest.raises(RuntimeError), telemetry.request(CHAT) as request:
        request.status = 502
        raise RuntimeError
    assert value(telemetry, "requests_total", route=CHAT, status="502", user_role="none") == 1


def test_only_the_first_output_is_the_first() -> None:
    telemetry = Telemetry()
    with telemetry.request(CHAT) as request:
        request.first()
        at = request.ttft
        request.first()
    assert request.ttft == at and value(telemetry, "ttft_seconds_count") == 1


def test_tokens_are_counted_by_kind_and_hour() -> None:
    telemetry = Telemetry()
    telemetry.tokens(prompt=10, completion=5)
    telemetry.tokens(prompt=3, cached=2)
    page = telemetry.page().decode()
    kinds = {
        sample.labels["kind"]: sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "labkit_tokens_total"
    }
    assert kinds == {"prompt": 13, "completion": 5, "cached": 2}
    hours = {f'hour="{hour:02}"' for hour in range(24)}
    assert all(any(hour in line for hour in hours) for line in page.splitlines() if "tokens_total{" in line)
    assert value(telemetry, "output_tokens_sum") == 5 and value(telemetry, "output_tokens_count") == 1


def test_time_at_work_is_counted_once_however_many_are_at_work() -> None:
    telemetry = Telemetry()
    began = time.perf_counter()
    with telemetry.request(CHAT) as one, telemetry.request(CHAT) as two:
        with one.engine("a"), two.engine("b"):
            time.sleep(0.05)
            assert (value(telemetry, "engine_busy_seconds_total") or 0) >= 0.05, "also while it lasts"
    took = time.perf_counter() - began
    assert 0.05 <= (value(telemetry, "engine_busy_seconds_total") or 0) <= took


def test_users_are_counted_for_a_while_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = Telemetry()
    for user in ("anna", "ben", "anna"):
        with telemetry.request(CHAT, "student", user):
            pass
    assert value(telemetry, "active_users") == 2
    assert b"anna" not in telemetry.page() and b"ben" not in telemetry.page()
    later = time.monotonic() + HERE_S + 1
    monkeypatch.setattr("labkit.serving.telemetry.time.monotonic", lambda: later)
    assert value(telemetry, "active_users") == 0 and not telemetry._seen


def test_two_gateways_in_one_process_do_not_mix() -> None:
    one, two = Telemetry(), Telemetry()
    one.thumb("up")
    assert b"labkit_thumbs_total{" not in two.page()


@pytest.fixture
def traced() -> Iterator[tuple[Telemetry, InMemorySpanExporter]]:
    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    yield Telemetry(provider), spans
    provider.shutdown()


def test_a_trace_goes_on_through_the_gateway(traced: tuple[Telemetry, InMemorySpanExporter]) -> None:
    telemetry, spans = traced
    trace_id, parent_id = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    headers = {"traceparent": f"00-{trace_id}-{parent_id}-01"}
    with telemetry.request(CHAT, "student", "anna", headers) as request:
        with request.engine("one", "nano") as attempt:
            attempt.failed = True
        with request.engine("two", "nano") as second:
            second.usage(10, 20)
        request.status = 502
    failed, good, server = spans.get_finished_spans()
    assert {f"{span.context.trace_id:032x}" for span in (failed, good, server)} == {trace_id}
    assert server.parent is not None and f"{server.parent.span_id:016x}" == parent_id
    assert [span.parent and span.parent.span_id for span in (failed, good)] == [server.context.span_id] * 2
    assert second.headers["traceparent"] == f"00-{trace_id}-{good.context.span_id:016x}-01"
    assert (failed.status.status_code, good.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert server.status.status_code is StatusCode.ERROR
    assert good.attributes and good.attributes["gen_ai.usage.output_tokens"] == 20
    assert "anna" not in server.to_json() + good.to_json()


@pytest.mark.parametrize("sent", ["", "00-zz", "x" * 10_000, "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_bad_traceparent_begins_a_new_trace(
    traced: tuple[Telemetry, InMemorySpanExporter], sent: str
) -> None:
    telemetry, spans = traced
    with telemetry.request(CHAT, headers={"traceparent": sent}):
        pass
    (server,) = spans.get_finished_spans()
    assert server.parent is None and server.context.trace_id


def test_where_nobody_traces_nothing_is_sent_upstream() -> None:
    with Telemetry(NoOpTracerProvider()).request(CHAT) as request, request.engine("one") as attempt:
        assert attempt.headers == {}


def test_the_live_view_reads_a_gateway_s_page() -> None:
    telemetry = Telemetry()
    telemetry.queue_depth.set(3)
    live = Live("http://gateway:8000")
    live.figures(read_page(telemetry.page().decode()))
    everything(telemetry)
    time.sleep(0.1)
    with telemetry.request(CHAT) as request, request.engine("one"):
        figures = live.figures(read_page(telemetry.page().decode()))
    assert figures["running"] == 1 and figures["waiting"] == 3
    assert 0 < figures["token_rate"] <= 200 and figures["server_ttft"] > 0


def test_spans_are_lines_of_a_file(tmp_path: Path) -> None:
    provider = tracing(str(tmp_path / "spans.jsonl"))
    telemetry = Telemetry(provider)
    with telemetry.request(CHAT, "student", "anna") as request, request.engine("one", "nano") as attempt:
        attempt.failed = True
    provider.shutdown()
    text = (tmp_path / "spans.jsonl").read_text("utf-8")
    engine, server = map(json.loads, text.splitlines())
    assert (
        engine["parent"] == server["span"] and engine["trace"] == server["trace"] and server["parent"] == ""
    )
    assert engine["error"] and not server["error"] and server["seconds"] >= engine["seconds"] > 0
    assert engine["labkit.backend"] == "one" and server["http.response.status_code"] == 200
    assert "anna" not in text


def test_a_file_or_a_collector_that_cannot_be_had_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageFailed):
        tracing(str(tmp_path / "none" / "spans.jsonl"))
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp", None)
    with pytest.raises(EngineUnavailable, match="exporter"):
        tracing("http://127.0.0.1:4318/v1/traces")


def test_the_lab_counts_figures_and_bounds_right() -> None:
    lab = (Path(__file__).parents[2] / "labs" / "source" / "19_observability.py").read_text("utf-8")
    assert f"one figure of {len(NAMES)}." in lab and f"has {len(SECONDS)} bounds" in lab
