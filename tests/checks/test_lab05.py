"""Lab 05's checks accept every right answer and explain the wrong ones."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llama_cpp", reason="needs llama-cpp-python: pip install 'labkit[llamacpp]'")

from judging import explains, verdict

from labkit import Model, load
from labkit.checks.core import Exercise
from labkit.checks.lab05 import q1, q2, q3, q4, q5
from labkit.models.gguf import inspect


@pytest.fixture(scope="module")
def m() -> Iterator[Model]:
    with load("nano", engine="llamacpp", threads=1) as model:
        yield model


def accepts(exercise: Exercise, capsys: pytest.CaptureFixture[str], *answers: Any) -> None:
    state, text = verdict(exercise, capsys, *answers)
    assert state == "right", text


def test_q1(m: Model, capsys: pytest.CaptureFixture[str]) -> None:
    info = inspect(m.engine.file or "")
    right = m.card.kv_bytes(1)
    for answer in (right, float(right), np.int64(right)):
        accepts(q1, capsys, info, answer)
    layers = info.number("llama.block_count")
    explains(q1, capsys, "keys and values", info, right / 2)
    explains(q1, capsys, "one layer's", info, right // layers)
    explains(q1, capsys, "KV heads", info, right * 2)
    explains(q1, capsys, "is not it", info, right + 12)
    explains(q1, capsys, "give a number", info, "many")
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
    explains(q2, capsys, "always read again", m, without_the_last)
    explains(q2, capsys, "first difference", m, lambda a, b: len(set(a) & set(b[:-1])))
    explains(q2, capsys, "it is None", m, lambda a, b: None)
    explains(q2, capsys, "checking it raised", m, 7)
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
    explains(q3, capsys, "one token too few", m, scores, top[:-1], least)
    explains(q3, capsys, "places in best", m, scores, np.arange(count), least)
    explains(q3, capsys, "are missing", m, scores, best[: count + 3], least)
    explains(q3, capsys, "by_min_p", m, scores, top, np.flatnonzero(p >= 0.1))
    explains(q3, capsys, "by_min_p", m, scores, top, top[:1])
    assert verdict(q3, capsys, m, scores, ..., ...)[0] == "not attempted"


def test_q4(m: Model, capsys: pytest.CaptureFixture[str]) -> None:
    for right in (
        'root ::= ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9]',
        'root ::= hour ":" minute\nhour ::= [0-1] [0-9] | "20" | "21" | "22" | "23"\nminute ::= [0-5] [0-9]',
        'root ::= (("0" | "1") [0123456789] | [2] [0123]) [:] [0-5] [0-9]',
    ):
        accepts(q4, capsys, m, right)
    explains(q4, capsys, "admits '24:00'", m, 'root ::= [0-2] [0-9] ":" [0-5] [0-9]')
    explains(q4, capsys, "admits '7:30'", m, 'root ::= ([01]? [0-9] | "2" [0-3]) ":" [0-5] [0-9]')
    explains(q4, capsys, "refuses '09:00'", m, 'root ::= ("00" | [1] [0-9] | "2" [0-3]) ":" [0-5] [0-9]')
    explains(q4, capsys, "admits '07:300'", m, 'root ::= ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9]+')
    explains(q4, capsys, "does not parse", m, "root ::= (")
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
    explains(q5, capsys, "divide by the steps", lambda a, g, c: tokens(a, g), 0.8, 0.2)
    explains(q5, capsys, "exponent", lambda a, g, c: (1 - a**g) / (1 - a) / (g * c + 1), 0.8, 0.2)
    explains(q5, capsys, "γ times c", lambda a, g, c: tokens(a, g) / (c + 1), 0.8, 0.2)
    explains(q5, capsys, "takes a step, too", lambda a, g, c: tokens(a, g) / (g * c), 0.8, 0.2)
    explains(q5, capsys, "turn it over", lambda a, g, c: (g * c + 1) / tokens(a, g), 0.8, 0.2)
    explains(q5, capsys, "it should be", lambda a, g, c: float("nan"), 0.8, 0.2)
    assert verdict(q5, capsys, ..., 0.8, 0.2)[0] == "not attempted"
