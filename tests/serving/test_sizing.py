"""Advice is right when it is replayed, says why, and students per box are those whose class the box can bear."""

import json
from pathlib import Path

import numpy as np
import pytest
from running_gateway import Running, wait_for

from labkit.engines.prometheus import read_page
from labkit.errors import LabkitError, OptionInvalid
from labkit.metrics.records import Record
from labkit.serving.simulation import Arrival, replay
from labkit.serving.sizing import Window, class_trace, most_students, read_trace, recommend
from labkit.serving.speed import Speed

BOX = Speed((1, 2, 4, 8), (2.0, 3.0, 4.0, 4.5), 0.3)


def run(callers: int, rate: float) -> Record:
    samples = {"ttft": [0.1, 0.1, 0.3], "e2el": [0.4, 0.5, 0.6]}
    return Record("load", {"settings": {"concurrency": callers}}, samples, {"requests_per_s": rate})


def test_speed_comes_from_records() -> None:
    speed = Speed.of([run(4, 4.0), run(1, 2.0), run(2, 3.0)])
    assert speed == Speed((1, 2, 4), (2.0, 3.0, 4.0), 0.2) and speed.slots == 4
    assert speed.each[1:] == pytest.approx((2.0, 1.5, 3.5 / 3, 1.0))  # 3 lies between 2 and 4
    assert speed.ttft(1) == pytest.approx(0.1) and speed.ttft(4) == pytest.approx(0.2)


@pytest.mark.parametrize(
    "wrong",
    [((), (), 0.5), ((1, 1), (1.0, 1.0), 0.5), ((0,), (1.0,), 0.5), ((1,), (0.0,), 0.5), ((1,), (1.0,), 0.0),
     ((1, 2), (1.0,), 0.5), ((1,), (float("nan"),), 0.5), ((1,), (1.0,), 1.1)],
)  # fmt: skip
def test_speeds_that_cannot_be(wrong: tuple[tuple[int, ...], tuple[float, ...], float]) -> None:
    with pytest.raises(OptionInvalid):
        Speed(*wrong)


def trace(rate: float, requests: int) -> list[Arrival]:
    gaps = np.random.default_rng(1).exponential(1 / rate, requests)
    return [Arrival(float(at)) for at in np.cumsum(gaps)]


@pytest.mark.parametrize("target", [0.2, 0.5])
@pytest.mark.parametrize("rate", [0.2, 3, 30, 300])
def test_advice_holds_when_it_is_replayed(rate: float, target: float) -> None:
    advice = recommend(Window(60, 60 * rate), BOX, target)
    arrivals = trace(rate, max(200, int(10 * rate)))
    assert replay(arrivals, BOX, advice.replicas).p95 <= target * 1.001
    if advice.replicas > 2:  # and it is not too much: with half as many, students wait
        assert replay(arrivals, BOX, advice.replicas // 2).p95 > target


def test_advice_up_to_a_thousand_replicas_holds_when_it_is_replayed() -> None:
    advice = recommend(Window(60, 60 * 4000.0, replicas=900), BOX, 1.0)
    assert advice.action == "out" and 900 < advice.replicas <= 1000
    assert replay(trace(4000, 12_000), BOX, advice.replicas).p95 <= 1.0


@pytest.mark.parametrize(
    ("window", "target", "action", "said"),
    [
        (Window(60, 60), 0.1, "up", "even alone a request takes 0.15 s"),
        (Window(60, 600), 0.5, "out", "10.0 requests/s came; with 7 at a time"),
        (Window(60, 60, replicas=10), 0.5, "down", "1 could bear 25% more"),
        (Window(60, 60), 0.5, "stay", "1 are enough"),
        (Window(60, 0), 0.5, "stay", "0 requests/s"),
        (Window(60, 60 * 10_000), 0.5, "up", "too many"),
    ],
)
def test_each_advice_has_its_reason(window: Window, target: float, action: str, said: str) -> None:
    advice = recommend(window, BOX, target)
    assert (advice.action, said in advice.reason) == (action, True), advice
    assert str(advice).startswith(f"{action}, ")


def test_a_growing_queue_counts_as_demand() -> None:
    """A service at its limit answers as much as it can; what came beyond that stands in the queue."""
    flat, growing = Window(60, 240), Window(60, 240, waited=0, waiting=600)
    assert growing.rate == pytest.approx(14.0)
    assert recommend(growing, BOX, 0.5).replicas > recommend(flat, BOX, 0.5).replicas


def test_advice_does_not_swing() -> None:
    """What was just added is not taken away again at the same load."""
    for rate in np.linspace(0.1, 60, 40):
        replicas = recommend(Window(60, 60 * rate), BOX, 0.5).replicas
        assert recommend(Window(60, 60 * rate, replicas=replicas), BOX, 0.5).action == "stay"


def test_a_window_is_read_from_two_pages() -> None:
    page = "labkit_ttft_seconds_count {}\nlabkit_queue_depth {}\n"
    before, after = (read_page(page.format(*numbers)) for numbers in ((100, 2), (340, 8)))
    assert Window.between(before, after, 60, 3) == Window(60, 240, 2, 8, 3)
    assert Window.between({}, {}, 60).rate == 0


def test_a_class_asks_as_often_as_it_is_told() -> None:
    arrivals = class_trace(30, every=30, seconds=600)
    assert len(arrivals) == 30 * 20 and arrivals == class_trace(30, every=30, seconds=600)
    assert all(0 <= a.at <= b.at < 600 for a, b in zip(arrivals, arrivals[1:], strict=False))
    assert arrivals != class_trace(30, every=30, seconds=600, seed=1)


def test_students_of_a_box_are_the_most_that_are_in_time() -> None:
    slow = Speed((1, 2), (0.2, 0.3), 0.2)
    students = most_students(slow, target=2.0)
    assert replay(class_trace(students), slow).p95 <= 2.0 < replay(class_trace(students + 1), slow).p95
    assert students < 0.3 * 30  # more than the box can end in 30 s it cannot bear
    assert most_students(slow, target=0.5) == 0 and most_students(slow, 2.0, replicas=3) > 2 * students


def test_a_trace_is_read_from_the_log_that_a_gateway_writes(gateway: Running) -> None:
    for text in ("one two", "one two three four"):
        assert gateway.chat(text).status_code == 200
    wait_for(lambda: len(read_trace(gateway.state / "audit.jsonl", tokens=2)) == 2)
    first, second = read_trace(gateway.state / "audit.jsonl", tokens=2)
    assert (first.at, first.work, second.work) == (0.0, 1.0, 2.0) and 0 < second.at < 60


def test_a_trace_leaves_out_what_wrote_nothing_and_refuses_what_is_no_log(tmp_path: Path) -> None:
    log, rows = tmp_path / "audit.jsonl", [{"at": 5.0, "completion_tokens": 4}, {"at": 4.0, "status": 401}]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert read_trace(log, tokens=4) == [Arrival(0.0, 1.0)]
    for wrong in ("no JSON", "[1]", '{"completion_tokens": 3}', '{"at": "noon", "completion_tokens": 3}'):
        log.write_text(wrong, "utf-8")
        with pytest.raises(LabkitError, match="no audit log"):
            read_trace(log, tokens=4)
    with pytest.raises(LabkitError, match="no audit log"):
        read_trace(tmp_path / "none.jsonl", tokens=4)
