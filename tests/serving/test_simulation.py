"""The simulation agrees with what queueing theory computes, loses no request, and reaches 1,000 replicas."""

import math

import numpy as np
import pytest

from labkit.errors import OptionInvalid
from labkit.serving.simulation import MAX_REPLICAS, Arrival, Autoscale, Replay, replay
from labkit.serving.speed import Speed

ONE = Speed((1,), (1.0,), 1.0)


def poisson(rate: float, requests: int, seed: int = 0) -> list[Arrival]:
    """Draw independent arrivals with exponential work, the M/M/… of queueing theory."""
    random = np.random.default_rng(seed)
    at, work = np.cumsum(random.exponential(1 / rate, requests)), random.exponential(1.0, requests)
    return [Arrival(float(a), float(w)) for a, w in zip(at, work, strict=True)]


def erlang_c(load: float, servers: int) -> float:
    """Return the share of requests that wait in M/M/c (A. K. Erlang, 1917)."""
    terms = [load**k / math.factorial(k) for k in range(servers)]
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(terms) + last)


@pytest.mark.parametrize("speed", [ONE, Speed((1, 512), (1.0, 1.0), 0.5)], ids=["in turn", "all at once"])
def test_one_server_takes_as_long_as_theory_says(speed: Speed) -> None:
    """M/M/1, in turn or shared: 1 / (1 − load) on the mean (Kleinrock, Queueing Systems, 1975)."""
    found = replay(poisson(0.6, 12_000), speed)
    assert np.mean(found.total) == pytest.approx(1 / (1 - 0.6), rel=0.1)
    assert found.replica_seconds == pytest.approx(found.seconds)


@pytest.mark.parametrize(("servers", "load"), [(2, 1.2), (8, 6.4)])
def test_many_servers_take_as_long_as_erlang_says(servers: int, load: float) -> None:
    found = replay(poisson(load, 12_000, seed=1), ONE, servers)
    waited = np.array(found.total).mean() - 1
    assert waited == pytest.approx(erlang_c(load, servers) / (servers - load), rel=0.2)


def test_requests_share_a_replica() -> None:
    found = replay([Arrival(0.0), Arrival(0.0)], Speed((1, 2), (1.0, 1.0), 0.25))
    assert found.ttft == [0.5, 0.5] and found.total == [2.0, 2.0]


def test_what_finds_no_place_waits_for_one() -> None:
    found = replay([Arrival(0.0), Arrival(0.5)], Speed((1,), (1.0,), 0.25))
    assert found.ttft == [0.25, 0.75] and found.total == [1.0, 1.5]


def test_two_replicas_are_used_evenly() -> None:
    found = replay(
        [Arrival(0.0), Arrival(0.0), Arrival(0.0), Arrival(0.0)], Speed((1, 2), (1.0, 1.5), 0.5), 2
    )
    assert found.total == pytest.approx([2 / 1.5] * 4)
    assert "4 answered" in str(found) and "(simulated)" in str(found)


def test_batching_ends_sooner_what_is_left_alone() -> None:
    found = replay([Arrival(0.0, 1.0), Arrival(0.0, 0.5)], Speed((1, 2), (1.0, 1.0), 1.0))
    assert found.total == [1.0, 1.5]


def test_a_trace_may_come_in_any_order_and_be_empty() -> None:
    trace = poisson(2.0, 200)
    assert replay(reversed(trace), ONE, 4).total == replay(trace, ONE, 4).total
    assert replay([], ONE) == Replay(sizes=[(0.0, 1)]) and math.isnan(replay([], ONE).p95)


def test_a_thousand_replicas_keep_up_where_500_do_not() -> None:
    trace = poisson(700.0, 6_000)
    many, few = (replay(trace, ONE, n) for n in (MAX_REPLICAS, 500))
    assert len(many.total) == len(few.total) == len(many.ttft) == len(trace)
    assert np.mean(many.total) < 1.2 and np.mean(few.total) > 1.5


def test_replicas_follow_the_load_and_none_is_lost() -> None:
    calm, rush = [Arrival(float(at)) for at in range(100, 300, 2)], [Arrival(at / 20) for at in range(2000)]
    scale = Autoscale(least=1, most=20, ongoing=4, up_after=5, down_after=30, start=10)
    speed = Speed((1, 4), (1.0, 3.0), 0.3)
    found = replay(rush + calm, speed, 1, scale)
    sizes = [n for _, n in found.sizes]
    assert len(found.total) == len(rush) + len(calm)
    assert found.sizes[0] == (0.0, 1) and max(sizes) > 4 and sizes[-1] == 1 and min(sizes) >= 1
    assert found.sizes[1][0] >= 5.0  # not before it was wanted for that long
    fixed = replay(rush + calm, speed, max(sizes))
    assert found.replica_seconds < fixed.replica_seconds and found.p95 > fixed.p95


def test_a_closing_replica_ends_its_work() -> None:
    scale = Autoscale(least=1, most=2, ongoing=1, up_after=0, down_after=1, start=0)
    found = replay([Arrival(0.0, 50.0), Arrival(0.0, 3.0)], ONE, 2, scale)
    assert sorted(found.total) == [3.0, 50.0] and found.sizes[-1][1] == 1


@pytest.mark.parametrize("replicas", [0, -1, MAX_REPLICAS + 1])
def test_numbers_of_replicas_that_cannot_be(replicas: int) -> None:
    with pytest.raises(OptionInvalid, match="replicas"):
        replay([Arrival(0.0)], ONE, replicas)


@pytest.mark.parametrize("wrong", [{"least": 0}, {"least": 3, "most": 2}, {"most": 1001}, {"ongoing": 0.0}])
def test_scaling_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionInvalid, match="1,000"):
        Autoscale(**wrong)  # type: ignore[arg-type]
