"""Lab 05's checks accept every right answer and explain the wrong ones."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llama_cpp", reason="needs llama-cpp-python: pip install 'labkit[llamacpp]'")

from labkit import Model, load
from labkit.checks.core import Exercise
from labkit.checks.lab05 import q1, q2, q3, q4, q5
from labkit.models.gguf import inspect


@pytest.fixture(autouse=True)
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABKIT_STRICT", raising=False)


@pytest.fixture(scope="module")
def m() -> Iterator[Model]:
    with load("nano", engine="llamacpp", threads=1) as model:
        yield model


def verdict(exercise: Exercise, capsys: pytest.CaptureFixture[str], *answers: Any) -> tuple[str, str]:
    exercise.check(*answers)
    return exercise.state, capsys.readouterr().out


def accepts(exercise: Exercise, capsys: pytest.CaptureFixture[str], *answers: Any) -> None:
    state, text = verdict(exercise, capsys, *answers)
    assert state == "right", text


def explains(said: str, exercise: Exercise, capsys: pytest.CaptureFixture[str], *answers: Any) -> None:
    state, text = verdict(exercise, capsys, *answers)
    assert (state, said in text) == ("wrong", True), text


def test_q1(m: Model, capsys: pytest.CaptureFixture[str]) -> None:
    info = inspect(m.engine.file or "")
    right = m.card.kv_bytes(1)
    for answer in (right, float(right), np.int64(right)):
        accepts(q1, capsys, info, answer)
    layers = info.number("llama.block_count")
    explains("keys and values", q1, capsys, info, right / 2)
    explains("one layer's", q1, capsys, info, right // layers)
    explains("KV heads", q1, capsys, info, right * 2)
    explains("is not it", q1, capsys, info, right + 12)
    explains("checking it raised", q1, capsys, info, "many")
    assert verdict(q1, capsys, info, ...)[0] == "not attempted"


def by_loop(before: list[int], now: list[int]) -> int:
    for at, token in enumerate(now[:-1]):
        if at == len(before) or before[at] != token:
            return at
    return max(0, len(now) - 1)


def by_numpy(before: list[int], now: list[int]) -> Any:
    size = min(len(before), len(now) - 1)
    return np.cumprod(np.equal(before[:size], now[:size])).sum()


def without_the_last(before: list[int], now: list[int]) -> int:
    count = 0
    while count < min(len(before), len(now)) and before[count] == now[count]:
        count += 1
    return count


def test_q2(m: Model, capsys: pytest.CaptureFixture[str]) -> None:
    for answer in (by_loop, by_numpy, lambda a, b: by_loop(a, b)):
        accepts(q2, capsys, m, answer)
    _, said = verdict(q2, capsys, m, by_loop)
    numbers = [word.strip(".,") for word in said.split() if word.strip(".,").isdigit()]
    assert len(set(numbers)) == 1, said  # what the function says is what llama.cpp did
    explains("always read again", q2, capsys, m, without_the_last)
    explains("first difference", q2, capsys, m, lambda a, b: len(set(a) & set(b[:-1])))
    explains("it is None", q2, capsys, m, lambda a, b: None)
    explains("checking it raised", q2, capsys, m, 7)
    assert verdict(q2, capsys, m, ...)[0] == "not attempted"


def test_q3(m: Model, capsys: pytest.CaptureFixture[str]) -> None:
    start = m.tokenize("<|im_start|>user\n")
    scores = m.window_logits(start, len(start) - 1)[0]
    p = np.exp(scores - scores.max())
    p /= p.sum()
    best = np.argsort(-p)
    count = np.searchsorted(np.cumsum(p[best]), 0.5) + 1
    top, least = best[:count], np.flatnonzero(p >= 0.1 * p.max())
    mask = np.isin(np.arange(len(p)), top)
    for answer in ((top, least), (top.tolist(), set(least.tolist())), (mask, p >= 0.1 * p.max())):
        accepts(q3, capsys, m, scores, *answer)
    explains("one token too few", q3, capsys, m, scores, top[:-1], least)
    explains("places in best", q3, capsys, m, scores, np.arange(count), least)
    explains("are missing", q3, capsys, m, scores, best[: count + 3], least)
    explains("by_min_p", q3, capsys, m, scores, top, np.flatnonzero(p >= 0.1))
    explains("by_min_p", q3, capsys, m, scores, top, top[:1])
    assert verdict(q3, capsys, m, scores, ..., ...)[0] == "not attempted"


def test_q4(m: Model, capsys: pytest.CaptureFixture[str]) -> None:
    for right in (
        'root ::= ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9]',
        'root ::= hour ":" minute\nhour ::= [0-1] [0-9] | "20" | "21" | "22" | "23"\nminute ::= [0-5] [0-9]',
        'root ::= (("0" | "1") [0123456789] | [2] [0123]) [:] [0-5] [0-9]',
    ):
        accepts(q4, capsys, m, right)
    explains("admits '24:00'", q4, capsys, m, 'root ::= [0-2] [0-9] ":" [0-5] [0-9]')
    explains("admits '7:30'", q4, capsys, m, 'root ::= ([01]? [0-9] | "2" [0-3]) ":" [0-5] [0-9]')
    explains("refuses '09:00'", q4, capsys, m, 'root ::= ("00" | [1] [0-9] | "2" [0-3]) ":" [0-5] [0-9]')
    explains("admits '07:300'", q4, capsys, m, 'root ::= ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9]+')
    explains("does not parse", q4, capsys, m, "root ::= (")
    assert verdict(q4, capsys, m, ...)[0] == "not attempted"


def tokens(alpha: float, gamma: int) -> float:
    return sum(alpha**i for i in range(gamma + 1))


def test_q5(capsys: pytest.CaptureFixture[str]) -> None:
    for right in (
        lambda a, g, c: (1 - a ** (g + 1)) / (1 - a) / (g * c + 1),
        lambda a, g, c: tokens(a, g) / (1 + c * g),
    ):
        accepts(q5, capsys, right, 0.8, 0.2)
        accepts(q5, capsys, right, 1.0, 0.2)
    assert "γ = 1\n" in verdict(q5, capsys, lambda a, g, c: tokens(a, g) / (1 + c * g), 0.1, 1.0)[1]
    explains("divide by the steps", q5, capsys, lambda a, g, c: tokens(a, g), 0.8, 0.2)
    explains("exponent", q5, capsys, lambda a, g, c: (1 - a**g) / (1 - a) / (g * c + 1), 0.8, 0.2)
    explains("γ times c", q5, capsys, lambda a, g, c: tokens(a, g) / (c + 1), 0.8, 0.2)
    explains("takes a step, too", q5, capsys, lambda a, g, c: tokens(a, g) / (g * c), 0.8, 0.2)
    explains("turn it over", q5, capsys, lambda a, g, c: (g * c + 1) / tokens(a, g), 0.8, 0.2)
    explains("it should be", q5, capsys, lambda a, g, c: float("nan"), 0.8, 0.2)
    assert verdict(q5, capsys, ..., 0.8, 0.2)[0] == "not attempted"


def test_every_exercise_has_hints_and_a_solution(capsys: pytest.CaptureFixture[str]) -> None:
    for exercise in (q1, q2, q3, q4, q5):
        for _ in exercise.hints:
            exercise.hint()
        exercise.solution()
        said = capsys.readouterr().out
        assert exercise.code in said and all(hint in said for hint in exercise.hints)
