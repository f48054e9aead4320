"""Load against a scripted server in another process, and against engines in this one.

Margins are wide: how exact the figures are is measured by tests/bench/test_load_accuracy.py.
"""

import _thread
import asyncio
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from statistics import median
from typing import Any

import pytest
from scripted_server import PROMPT_TOKENS, script, serving

import labkit
from labkit.errors import EngineUnavailable, OptionInvalid
from labkit.metrics.answer import AnswerReader, Outcome
from labkit.metrics.load import FATES, Plan, knee, measure, saturate
from labkit.metrics.load_table import percentiles, steps_table, table
from labkit.metrics.records import Record
from labkit.metrics.request import Server


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as url:
        yield url


def load(target: Any, *prompts: Any, **plan: Any) -> Record:
    chosen = {"requests": len(prompts), "warmup": 0, "timeout": 20.0, **plan}
    chosen |= {} if "rate" in chosen else {"concurrency": chosen.get("concurrency", 4)}
    return measure(target, prompts, **chosen)


def fates(record: Record) -> dict[str, int]:
    return {name: int(record.figures[name]) for name in FATES if record.figures[name]}


# What came of a request


@pytest.mark.parametrize(
    ("do", "fate", "why"),
    [
        ("", "ok", ""),
        ("empty first", "ok", ""),
        ("split", "ok", ""),
        ("carriage returns", "ok", ""),
        ("tool call", "ok", ""),
        ("no done", "ok", ""),
        ("no finish reason", "ok", ""),
        ("hang up", "lost", "RemoteProtocolError"),
        ("silent", "lost", "not complete within 1 s"),
        ("503", "failed", "HTTP 503"),
        ("error event", "failed", "out of memory"),
        ("malformed", "failed", "unreadable event"),
        ("cut", "cut", "RemoteProtocolError"),
        ("end early", "cut", "no finish reason and no [DONE]"),
        ("stall", "cut", "not complete within 1 s"),
    ],
)
def test_every_kind_of_answer_has_one_fate(url: str, do: str, fate: str, why: str) -> None:
    slow = {"timeout": 1.0} if do in ("silent", "stall") else {}
    record = load(url, *[script(do=do, tokens=4)] * 3, **slow)
    assert fates(record) == {fate: 3}
    assert list(record.about["reasons"].values()) == ([3] if why else [])
    assert why in "".join(record.about["reasons"])
    good = 3 if fate == "ok" else 0
    assert record.samples["output_tokens"] == [4.0] * good
    assert (len(record.samples["ttft"]), len(record.samples["itl"])) == (good, 3 * good)


def test_fates_of_a_mixed_run_add_up(url: str) -> None:
    kinds = {"": "ok", "split": "ok", "hang up": "lost", "503": "failed", "malformed": "failed", "cut": "cut"}
    asked = [do for do in kinds for _ in range(7)]
    record = load(url, *[script(do=do, ttft=0.01) for do in asked], rate=200.0)
    assert fates(record) == Counter(kinds[do] for do in asked)
    assert len(record.samples["lag"]) == len(asked)  # each was sent, also those that were lost


def test_a_refused_connection_is_lost() -> None:
    with socket.socket() as taken:  # bound, so that nobody else answers there; not listening
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert fates(load(Server.find(nobody, "x"), *[script()] * 3)) == {"lost": 3}
        with pytest.raises(EngineUnavailable, match="names no model"):
            Server.find(nobody)


# Figures


def test_scripted_times_are_recovered(url: str) -> None:
    record = load(url, *[script(ttft=0.2, itl=0.03, tokens=8)] * 10, concurrency=5)
    for name, true in {"ttft": 0.2, "tpot": 0.03, "e2el": 0.41}.items():
        assert true * 0.9 < median(record.samples[name]) < true * 3, name
    assert sum(record.samples["itl"]) == pytest.approx(
        sum(record.samples["e2el"]) - sum(record.samples["ttft"])
    )
    wall = record.figures["wall_time"]
    assert wall > 0.8 and record.figures["throughput"] == pytest.approx(80 / wall)
    assert record.figures["total_throughput"] == pytest.approx((80 + 10 * PROMPT_TOKENS) / wall)
    assert record.about["settings"]["tokens_from"] == "usage"


def test_an_empty_first_chunk_is_no_first_token(url: str) -> None:
    record = load(url, script(do="empty first", ttft=0.3))
    assert record.samples["ttft"][0] > 0.27


def test_three_tokens_in_one_chunk_are_one_output(url: str) -> None:
    record = load(url, script(tokens=9, per_chunk=3, itl=0.05))
    assert record.samples["output_tokens"] == [9.0] and len(record.samples["itl"]) == 2
    assert record.samples["tpot"][0] == pytest.approx(sum(record.samples["itl"]) / 8)


def test_without_usage_the_chunks_are_counted(url: str) -> None:
    record = load(url, script(tokens=9, per_chunk=3, usage=False))
    assert record.samples["output_tokens"] == [3.0] and record.about["settings"]["tokens_from"] == "chunks"
    assert "total_throughput" not in record.figures and record.samples["input_tokens"] == []


def test_goodput_counts_what_met_all_targets(url: str) -> None:
    prompts = [script(ttft=0.02), script(ttft=0.02, itl=0.3), script(ttft=0.6), script(ttft=0.02, do="cut")]
    record = load(url, *prompts, target_ttft=0.3, target_tpot=0.2)
    assert record.figures["goodput"] * record.figures["wall_time"] == pytest.approx(1)
    strict = load(url, *prompts, target_e2el=0.001)
    assert strict.figures["goodput"] == 0 and strict.figures["requests_per_s"] > 0


def test_percentiles_interpolate_and_p99_needs_a_thousand() -> None:
    assert percentiles([0.0, 1.0]) == {"p50": 0.5, "p90": 0.9}
    assert percentiles([float(x) for x in range(1001)]) == {"p50": 500, "p90": 900, "p99": 990}
    assert percentiles([1.0] * 999).keys() == {"p50", "p90"} and percentiles([]) == {}


# Reading events


EVENTS = (
    b': hello\n\ndata: {"choices": []}\n\nevent: x\nid: 1\ndata:{"choices": [{"delta": {"content": "\xc3\xa9"}}]}\n\n'
    b'data: {"choices":\r\ndata:  [{"delta": {"tool_calls": [{}]}}]}\r\n\r\n'
    b'data: {"choices": [{"delta": {"content": ""}, "finish_reason": null}]}\n\n'
    b'data: {"usage": {"prompt_tokens": 2, "completion_tokens": 5}, "choices": []}\n\ndata: [DONE]\n\n'
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, len(EVENTS)])
def test_events_are_read_however_they_are_split(size: int) -> None:
    outcome = Outcome()
    reader = AnswerReader(outcome)
    for at in range(0, len(EVENTS), size):
        reader.feed(EVENTS[at : at + size], float(at))
    outcome.end("ok")
    assert (reader.done, reader.error, len(outcome.stamps)) == (True, "", 2)
    assert (outcome.prompt_tokens, outcome.tokens, outcome.reported) == (2, 5, True)


@pytest.mark.parametrize(
    "data",
    [b"{", b"[]", b"7", b'{"choices": 7}', b'{"choices": [7]}', b'{"choices": [{"delta": 7}]}', b'"\xff"',
     b'{"usage": {"prompt_tokens": "many"}}', b'{"error": "no"}', b"[" * 100_000],
)  # fmt: skip
def test_an_event_that_is_none_is_an_error(data: bytes) -> None:
    reader = AnswerReader(Outcome())
    reader.feed(b"data: " + data + b"\n\n", 0.0)
    assert reader.error and not reader.done


def test_what_the_end_cuts_off_is_no_event() -> None:
    reader = AnswerReader(Outcome())
    reader.feed(b'data: {"choices": [{"delta": {"con', 0.0)
    assert not reader.error and not reader.done


# Open and closed loop


def test_the_schedule_is_poisson_and_seeded() -> None:
    due = Plan(rate=10, requests=2000, seed=3).due()
    gaps = [b - a for a, b in zip(due, due[1:], strict=False)]
    assert due[0] == 0 and min(gaps) >= 0 and due == Plan(rate=10, requests=2000, seed=3).due()
    assert sum(gaps) / len(gaps) == pytest.approx(0.1, rel=0.1)
    assert sum(gap > 0.1 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.05)  # 1 / e
    assert due != Plan(rate=10, requests=2000, seed=4).due()


def test_open_loop_waits_for_no_answer_and_counts_the_queue() -> None:
    with labkit.load(engine="echo", delay=0.05) as model:
        record = measure(model, [[{"role": "user", "content": "one"}]], rate=1000, requests=20, warmup=0)
    waits = sorted(record.samples["ttft"])
    assert waits[-1] > 0.9 and waits[0] < waits[-1] / 3  # the last stood behind 19 others
    assert max(record.samples["lag"]) < waits[-1] / 3 and min(record.samples["lag"]) >= 0


def test_closed_loop_never_has_more_callers() -> None:
    with labkit.load(engine="echo", delay=0.05) as model:
        record = measure(model, [[{"role": "user", "content": "one"}]], concurrency=3, requests=9)
    assert fates(record) == {"ok": 9} and record.samples["lag"] == []
    assert median(record.samples["ttft"]) > 0.13  # two others come first
    assert record.about["engine"] == "echo" and record.about["settings"]["concurrency"] == 3


def test_a_models_own_errors_are_failures() -> None:
    pytest.importorskip("llama_cpp")
    prompts = [[{"role": "user", "content": text}] for text in ("Hello", "long " * 500)]
    with labkit.load(engine="llamacpp", variant="F16", threads=1, context=256) as model:
        record = measure(model, prompts, concurrency=2, requests=4, max_tokens=4, ignore_eos=True)
    assert fates(record) == {"ok": 2, "failed": 2} and "ContextOverflow" in "".join(record.about["reasons"])
    assert record.samples["output_tokens"] == [4.0, 4.0]


def test_ctrl_c_keeps_what_was_measured() -> None:
    timer = threading.Timer(0.6, _thread.interrupt_main)
    with labkit.load(engine="echo", delay=0.02) as model:
        timer.start()
        record = measure(model, concurrency=2, requests=10_000, warmup=0)
        assert model.chat("still alive").text == "still alive"
    assert record.about["settings"]["interrupted"] is True
    assert 0 < record.figures["ok"] == len(record.samples["ttft"]) < 1000
    assert record.figures["lost"] == record.figures["cut"] == 0


def test_it_runs_where_an_event_loop_runs_already(url: str) -> None:
    async def cell() -> Record:
        return load(url, script())

    assert fates(asyncio.run(cell())) == {"ok": 1}


def test_saturation_stops_at_the_knee() -> None:
    steps: list[Record] = []
    with labkit.load(engine="echo", delay=0.1) as model:
        steps += saturate(model, [[{"role": "user", "content": "one"}]], concurrency=1, requests=4, warmup=0)
    assert [step.about["settings"]["concurrency"] for step in steps] == [1, 2]
    assert [step.about["settings"]["requests"] for step in steps] == [4, 8]
    assert knee(steps) is steps[0] and "knee is at 1 callers" in steps_table(steps, knee(steps))
    assert knee(steps[:1]) is None and "no knee" in steps_table(steps[:1], None)


# What goes in, and what is shown


@pytest.mark.parametrize(
    "plan",
    [{}, {"rate": 1, "concurrency": 1}, {"rate": 0}, {"rate": float("nan")}, {"rate": "1"}, {"concurrency": 1.5},
     {"rate": 1, "requests": 0}, {"rate": 1, "warmup": -1}, {"rate": 1, "seed": -1}, {"rate": 1, "target_ttft": -1.0},
     {"rate": 1, "timeout": float("inf")}, {"rate": 1e9}],
)  # fmt: skip
def test_a_plan_that_makes_no_sense_is_refused(plan: dict[str, Any]) -> None:
    with pytest.raises(OptionInvalid):
        Plan(**plan)


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
def test_a_url_is_completed_and_its_model_found(url: str, end: str) -> None:
    assert Server.find(url + end) == Server(f"{url}/v1", "scripted")


def test_other_paths_are_kept() -> None:
    assert Server.find("https://h/api/openai/v1", "m").url == "https://h/api/openai/v1"


@pytest.mark.parametrize(
    "bad", ["ftp://h", "http://", "http://me:secret@h", "http://h/v1?key=secret", "h:80"]
)
def test_no_secret_in_a_url_nor_in_the_message(bad: str) -> None:
    with pytest.raises(OptionInvalid) as caught:
        Server.find(bad, "m")
    assert "secret" not in str(caught.value)


def test_a_key_never_leaves_this_machine_unencrypted() -> None:
    with pytest.raises(OptionInvalid, match="without encryption"):
        Server.find("http://192.0.2.1:8000", "m", key="hush")


def test_the_key_reaches_the_server_and_nobody_else(url: str) -> None:
    server = Server.find(url, "m", key="hush-1")
    record = load(server, script(key="hush-1"), script(key="other"), script(do="tell key"), concurrency=1)
    assert fates(record) == {"ok": 1, "failed": 2}
    assert "hush" not in repr(server) + json.dumps(asdict(record)["about"])
    with pytest.raises(OptionInvalid, match="key is none") as caught:
        Server.find(url, "m", key="hush\n2")
    assert "hush" not in str(caught.value)


def test_the_table_has_every_formula(url: str) -> None:
    record = load(url, *[script(do=do) for do in ("", "503", "503")], rate=100)
    text = table(record)
    assert "scripted on " in text and "100 requests/s: 1 ok, 2 failed" in text and "2 × HTTP 503" in text
    assert all(formula in text for formula in record.formulas.values())
    assert "clock of a request starts when it was due" in text and "counted from usage" in text
