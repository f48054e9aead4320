"""Engines run side by side, each in a thread; one that breaks leaves the others alone."""

import json
import time

import pytest

from labkit import load
from labkit.errors import EngineUnavailable
from labkit.widgets import EngineRace

WORDS = " ".join(map(str, range(2_000)))


def test_two_models_run_at_once_and_show_their_figures() -> None:
    with (
        load("nano", "echo", script=["one two three"], delay=0.2) as slow,
        load("pico", "echo", script=["four five"], delay=0.2) as fast,
    ):
        race = EngineRace([slow, fast])
        began = time.perf_counter()
        race.row.children[0].click()
        race.wait()
        assert [reply.text for reply in race.replies] == ["one two three", "four five"]
        # One after the other they would take 1.0 s of pauses, at once 0.6 s.
        assert sum(reply.timing.total for reply in race.replies) > (time.perf_counter() - began) * 1.1
        assert all("first token" in lane.log.blocks[0][0] for lane in race.lanes)
        slow.chat("still open")


def test_stop_ends_every_engine() -> None:
    with (
        load("nano", "echo", script=[WORDS], delay=0.01) as one,
        load("pico", "echo", script=[WORDS], delay=0.01) as two,
    ):
        race = EngineRace([one, two], max_tokens=2_000)
        race.row.children[0].click()
        deadline = time.monotonic() + 20
        while not all(lane.log.busy for lane in race.lanes) and time.monotonic() < deadline:
            time.sleep(0.01)
        race.row.children[1].click()
        race.wait()
        assert race.said == "stopped; every engine is idle"
        assert all(0 < reply.timing.tokens < 2_000 for reply in race.replies)
        assert all(not lane.log.busy for lane in race.lanes)


def test_one_that_breaks_is_a_line_and_the_others_go_on() -> None:
    with load("nano", "echo", script=["fine"]) as good, load("pico", "echo") as closed:
        closed.close()
        race = EngineRace([closed, good])
        race.row.children[0].click()
        race.wait()
    assert [reply.text for reply in race.replies] == ["fine"]
    assert "broke" in race.lanes[0].log.blocks[0][0]


def test_engines_by_name_are_loaded_for_the_race_and_closed() -> None:
    pytest.importorskip("llama_cpp")
    race = EngineRace(["llamacpp", "echo"], max_tokens=8)
    assert [lane.name for lane in race.lanes] == ["llamacpp", "echo"]
    race.row.children[0].click()
    race.wait(110)
    assert [reply.engine for reply in race.replies] == ["llamacpp", "echo"]
    assert all(lane.model is None for lane in race.lanes)


def test_a_name_that_no_engine_has_is_refused() -> None:
    with pytest.raises(EngineUnavailable, match="llamacp"):
        EngineRace(["llamacp"])


def test_what_engines_write_is_escaped_and_cut() -> None:
    with load("nano", "echo", script=["<script>alert(1)</script> \x1b[31m" + "x" * 10**6]) as model:
        race = EngineRace([model])
        race.row.children[0].click()
        race.wait()
    bundle = race._repr_mimebundle_()
    assert "<script" not in bundle["text/html"] and "\x1b" not in bundle["text/plain"]
    assert len(json.dumps(bundle)) < 5_000
    assert len(race.lanes[0].log.blocks[0][1]) < 11_000
