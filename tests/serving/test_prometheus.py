"""A real Prometheus server reads a running gateway, and its alerts make the gateway act."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from running_gateway import wait_for
from test_dashboard import QUERIES
from upstream import Upstream

from labkit.errors import EngineUnavailable, OptionInvalid
from labkit.serving.prometheus import Prometheus

VARIABLES = {"$__rate_interval": "20s", "$instance": ".*", "$usd_per_second": "0.0001", "$usd_in": "0.15"}
LABELS = "__name__=labkit_queue_limit, instance="
# What an undisturbed gateway has no series of yet.
RARE = {"Turned away, by role", "Votes of the last hour", "Tries that failed, a second"}


@contextmanager
def watching(address: str, key: str = "") -> Iterator[Prometheus]:
    server = Prometheus(address, key)
    try:
        yield server
    finally:
        server.stop()


def test_without_prometheus_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EngineUnavailable, match="apt install prometheus"):
        Prometheus("127.0.0.1:8000")


@pytest.mark.heavy
def test_every_panel_has_figures_of_a_gateway_that_works(start: Callable[..., Any]) -> None:
    with Upstream("other", do="tool") as other:
        running = start("echo=echo", other.backend, memory_gb=4)
        tool = {"type": "function", "function": {"name": "light", "parameters": {"type": "object"}}}
        with watching(running.url.removeprefix("http://")) as prometheus:

            def busy() -> bool:
                for warmth in (0.0, 0.5, 0.5):  # with warmth, nothing comes from the cache
                    assert running.chat("Hello", tools=[tool], temperature=warmth).status_code == 200
                counters = ("labkit_requests_total", "labkit_tool_calls_total")
                return all(prometheus.query(f"sum(rate({name}[20s]))").get("", 0) > 0 for name in counters)

            wait_for(busy, 60)
            for title, query in QUERIES:
                for name, value in (*VARIABLES.items(), ("$usd_out", "0.6")):
                    query = query.replace(name, value)
                found = prometheus.query(query)
                assert found or title in RARE, f"{title} is empty: {query}"
            with pytest.raises(OptionInvalid, match="refuses"):
                prometheus.query("sum(")


@pytest.mark.heavy
def test_a_gateway_with_keys_is_watched_with_an_admins_key_alone(start: Callable[..., Any]) -> None:
    running = start("echo=echo", keys=True)
    keys, address = running.gateway.keys, running.url.removeprefix("http://")
    running.gateway.alerts.rules = {}  # only Prometheus asks
    (_, student), (_, admin) = keys.add("Ada"), keys.add("Root", "admin")
    with watching(address) as nobody, watching(address, student) as ada, watching(address, admin) as root:
        wait_for(lambda: root.query('up{job="labkit"}'), 60)
        wait_for(lambda: root.query("labkit_queue_limit") == {f"{LABELS}{address}, job=labkit": 64.0}, 60)
        for other in (nobody, ada):
            wait_for(lambda other=other: list(other.query('up{job="labkit"}').values()) == [0.0], 60)
            assert not other.query("labkit_queue_limit")
            wait_for(lambda other=other: other.alerts().get("GatewayGone") == "firing", 60)
        assert running.gateway.alerts.held == {}  # who may not see may not command, either
        running.gateway.telemetry.queue_depth.set_function(lambda: 60)
        wait_for(lambda: root.alerts().get("QueueFilling") == "firing", 60)
        wait_for(lambda: running.gateway.alerts.on == {"shed_load"}, 30)


@pytest.mark.heavy
def test_an_engine_that_dies_is_an_alert(start: Callable[..., Any]) -> None:
    pytest.importorskip("xllamacpp")
    running = start("one=llamaserver;threads=1;slots=1", "two=echo")
    with watching(running.url.removeprefix("http://")) as prometheus:
        wait_for(lambda: prometheus.query('labkit_backend_up{backend="one"} == 1'), 60)
        assert "BackendDown" not in prometheus.alerts()
        node = running.gateway.pool.nodes["one"]
        running.gateway.pool._tried["one"] = float("inf")  # nobody restarts it
        node.process.kill()
        wait_for(lambda: prometheus.alerts().get("BackendDown") == "firing", 60)
        assert "NoBackend" not in prometheus.alerts(), "the other one answers"


@pytest.mark.heavy
def test_a_full_queue_makes_prometheus_ask_for_less_and_the_gateway_obeys(start: Callable[..., Any]) -> None:
    with Upstream(do="silent") as upstream:
        running = start(upstream.backend, slots=1, queue=5, wait=45.0)
        gateway = running.gateway
        gateway.alerts.rules = {}  # only Prometheus asks

        def ask(place: int) -> None:
            body = {"model": "nano", "messages": [{"role": "user", "content": f"Hello {place}"}]}
            httpx.post(f"{running.url}/v1/chat/completions", json=body, timeout=120, trust_env=False)

        with watching(running.url.removeprefix("http://")) as prometheus, ThreadPoolExecutor(6) as callers:
            waiting = callers.map(ask, range(6))
            wait_for(lambda: gateway.line.waiting == 5)
            wait_for(lambda: prometheus.alerts().get("QueueFilling") == "firing", 60)
            wait_for(lambda: gateway.alerts.on == {"shed_load"} and gateway.line.shedding, 30)
            (asked,) = gateway.alerts.held
            assert re.search("alertname.*QueueFilling", asked), "it was Prometheus"
            upstream.do = ""
            wait_for(lambda: prometheus.query('labkit_action_on{action="shed_load"} == 1'), 30)
            assert len(list(waiting)) == 6
