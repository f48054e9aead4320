"""Lab 01's checks accept every right answer and explain the wrong ones."""

import math
from collections.abc import Iterator

import pytest

pytest.importorskip("llama_cpp")

from judging import verdict

from labkit import Model, Reply, load
from labkit.checks.lab01 import q1, q2, q3, q4
from labkit.models.hardware import machine


@pytest.fixture(scope="module")
def nano() -> Iterator[Model]:
    with load("nano", engine="llamacpp", variant="F16", threads=1) as model:
        yield model


def test_q1(capsys: pytest.CaptureFixture[str]) -> None:
    right = machine().memory_available / 2 * 8 / 4.85 / 1e9
    assert verdict(q1, capsys, right)[0] == "right"
    assert verdict(q1, capsys, round(right))[0] == "right"
    assert verdict(q1, capsys, ...)[0] == "not attempted"
    for wrong, said in (
        (right / 8, "factor of 8"),
        (right * 1e9, "1e9"),
        (right * 2, "GB"),
        ("7B", "number"),
    ):
        state, text = verdict(q1, capsys, wrong)
        assert (state, said in text) == ("wrong", True), text


def test_q2(nano: Model, capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict(q2, capsys, nano, "Zxqvwkyj42")[0] == "right"
    assert verdict(q2, capsys, nano, "Донаудампф")[0] == "right"
    assert verdict(q2, capsys, nano, ...)[0] == "not attempted"
    for wrong, said in (
        ("kitchen", "only"),
        ("two words", "one word"),
        ("x" * 13, "12"),
        (7, "string"),
        ("", "word"),
    ):
        state, text = verdict(q2, capsys, nano, wrong)
        assert (state, said in text) == ("wrong", True), text


def set_light(room: str, on: bool) -> str:
    """Turn the light in a room on or off."""
    return ""


def untold(room: str, on: bool) -> str:
    return ""


def other(place: str) -> str:
    """Turn the light on."""
    return ""


def test_q3(nano: Model, capsys: pytest.CaptureFixture[str]) -> None:
    state, text = verdict(q3, capsys, nano, set_light)
    assert state == "right"
    assert "set_light(room=" in text
    assert verdict(q3, capsys, nano, ...)[0] == "not attempted"
    for wrong, said in ((untold, "docstring"), (other, "parameters"), ("set_light", "brackets")):
        state, text = verdict(q3, capsys, nano, wrong)
        assert (state, said in text) == ("wrong", True), text


def test_q4(nano: Model, capsys: pytest.CaptureFixture[str]) -> None:
    reply: Reply = nano.chat("Hello", max_tokens=40, ignore_eos=True)
    stamps = reply.timing.stamps
    right = 39 / (stamps[-1] - stamps[0])
    assert verdict(q4, capsys, reply, right)[0] == "right"
    assert verdict(q4, capsys, reply, ...)[0] == "not attempted"
    for wrong, said in (
        (1 / right, "turn it over"),
        (40 / (stamps[-1] - stamps[0]), "gaps"),
        (40 / reply.timing.total, "first token"),
        (math.nan, "gaps"),
        ("fast", "number"),
    ):
        state, text = verdict(q4, capsys, reply, wrong)
        assert (state, said in text) == ("wrong", True), text
