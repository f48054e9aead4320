"""Perplexity and the KL set: against llama-perplexity's arithmetic spelled out, and on scores known in advance."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from labkit import Model, load
from labkit.engines.base import Engine
from labkit.errors import ContextOverflow, EngineFailed, LabkitError, OptionInvalid
from labkit.metrics import records
from labkit.metrics.quality import divergence, log_softmax, perplexity, ppl, token_nll
from labkit.models.card import ModelCard
from labkit.models.catalog import find
from labkit.types import Availability, Chunk, GenerationOptions, Message, Tool

TEXT = Path(__file__).parents[2] / "datasets" / "texts" / "agent_heldout.txt"
WORDS = TEXT.read_text("utf-8")[:2500]
VOCAB = 8


class Table(Engine):
    """Predict by a table: the scores of what follows token t are row t."""

    name = "table"
    logits = True

    def __init__(self, rows: Any) -> None:
        self.rows = np.asarray(rows, dtype=np.float32)

    @classmethod
    def available(cls) -> Availability:
        return Availability(True, "1")

    @classmethod
    def load(cls, card: ModelCard, variant: str, options: Mapping[str, Any]) -> Self:
        raise NotImplementedError

    def stream(
        self, messages: Sequence[Message], tools: Sequence[Tool], options: GenerationOptions
    ) -> Iterator[Chunk]:
        raise NotImplementedError

    def close(self) -> None:
        pass

    def tokenize(self, text: str, special: bool = True) -> list[int]:
        return [ord(letter) - ord("a") for letter in text]

    def window_logits(self, ids: Sequence[int], first: int) -> Any:
        return self.rows[list(ids)[first:]]


def table(rows: Any) -> Model:
    return Model(Table(rows), find("nano"), "F16")


@pytest.fixture(scope="module")
def nano() -> Iterator[Model]:
    pytest.importorskip("llama_cpp", reason="needs llama-cpp-python: pip install 'labkit[llamacpp]'")
    with load("nano", engine="llamacpp", variant="F16", threads=1) as model:
        yield model


def spelled_out(model: Model, ids: list[int], window: int) -> list[float]:
    """Return -ln p as `llama-perplexity` computes them (perplexity.cpp, log_softmax), token by token."""
    context: Any = model.engine.context  # type: ignore[attr-defined]
    found = []
    for start in range(0, len(ids) // window * window, window):
        for at in range(start + window // 2, start + window - 1):
            context.read(ids[start : at + 1])
            raw = context.lib.llama_get_logits_ith(context.ctx, -1)
            scores = raw[: context.width]
            top = max(scores)
            found.append(math.log(sum(math.exp(s - top) for s in scores)) - (scores[ids[at + 1]] - top))
    return found


def test_perplexity_is_that_of_llama_perplexity(nano: Model) -> None:
    words, window = WORDS[:700], 48
    record = perplexity(nano, words, window=window)
    nll = spelled_out(nano, nano.tokenize(words), window)
    assert len(record.samples["nll"]) == len(nll) == len(nano.tokenize(words)) // window * 23
    mean, count = sum(nll) / len(nll), len(nll)
    error = math.sqrt((sum(x * x for x in nll) / count - mean * mean) / (count - 1))
    assert record.figures["ppl"] == pytest.approx(math.exp(mean), rel=1e-3)
    assert record.figures["ppl_error"] == pytest.approx(math.exp(mean) * error, rel=1e-2)
    used = record.about["settings"]
    assert (record.kind, used["window"], used["special"], used["scored"]) == ("perplexity", 48, True, count)
    assert len(used["text_sha256"]) == 64 and used["tokens"] == len(nano.tokenize(words))


def test_control_tokens_are_parsed_only_when_asked_for(nano: Model) -> None:
    words = "<|im_start|>user\nHi<|im_end|>\n" * 12
    assert nano.tokenize("<|im_end|>") == [2]
    assert len(nano.tokenize("<|im_end|>", special=False)) > 1
    parsed, plain = (perplexity(nano, words, window=16, special=special) for special in (True, False))
    assert parsed.about["settings"]["tokens"] < plain.about["settings"]["tokens"]
    assert parsed.figures["ppl"] != plain.figures["ppl"]


def test_bos_takes_the_place_of_a_windows_first_token(nano: Model, tmp_path: Path) -> None:
    whole = nano.engine.file.read_bytes()  # type: ignore[union-attr]
    key = b"tokenizer.ggml.add_bos_token"
    at = whole.index(key) + len(key) + 4  # behind the value's type
    path = tmp_path / "bos.gguf"
    path.write_bytes(whole[:at] + b"\x01" + whole[at + 1 :])
    ids = nano.tokenize(WORDS)[:48]
    with load(str(path), engine="llamacpp", threads=1) as model:
        assert model.tokenize(WORDS)[:2] == [0, ids[0]]
        bos = model.window_logits(ids, 24)
    assert np.array_equal(bos, nano.window_logits([0, *ids[1:]], 24))
    assert not np.array_equal(bos, nano.window_logits(ids, 24))


def test_window_logits_do_not_depend_on_the_batch(nano: Model) -> None:
    ids = nano.tokenize(WORDS)[:120]
    whole = nano.window_logits(ids, 50)
    assert whole.shape == (70, 4096)
    with load("nano", engine="llamacpp", variant="F16", threads=1, batch=32) as small:
        assert np.abs(small.window_logits(ids, 50) - whole).max() < 0.1
    assert nano.chat("hi", max_tokens=2).usage.completion_tokens


def test_a_window_beyond_the_context_is_refused(nano: Model) -> None:
    with pytest.raises(ContextOverflow, match="the context 2048"):
        nano.window_logits([5] * 2049, 10)


def test_rounding_to_bfloat16_moves_little_and_nothing_moves_nothing(nano: Model) -> None:
    same = divergence(nano, nano, WORDS, window=256).figures
    assert same["kl_max"] == same["dp_rms"] == 0 and same["same_top"] == same["ppl_ratio"] == 1
    with load("nano", engine="llamacpp", variant="BF16", threads=1) as rounded:
        record = divergence(nano, rounded, WORDS, window=256)
        alone = perplexity(rounded, WORDS, window=256).figures
    figures = record.figures
    assert 0 <= figures["kl_median"] <= figures["kl_mean"] < 0.01 < 0.95 < figures["same_top"] <= 1
    assert figures["kl_mean"] < figures["kl_p999"] <= figures["kl_max"]
    assert figures["ppl"] == pytest.approx(alone["ppl"]) and figures["ppl_base"] == pytest.approx(same["ppl"])
    assert record.about["settings"]["base"] == "nano F16" and record.about["variant"] == "BF16"


def test_figures_of_scores_known_in_advance() -> None:
    uniform, half = np.zeros((VOCAB, VOCAB)), np.zeros((VOCAB, VOCAB))
    half[:, 0] = math.log(7)  # p(a) = 7 / 14 = 1/2, all others 1 / 14
    text = "abcdabcdabcdabcd" * 5
    record = divergence(table(uniform), table(half), text, window=16)
    count = 7 * 5  # of positions 9 to 15 of a window, one holds an "a"
    kl = 1 / 8 * math.log(1 / 8 / 0.5) + 7 / 8 * math.log(1 / 8 / (1 / 14))
    changes = np.array([0.5 - 1 / 8 if letter == "a" else 1 / 14 - 1 / 8 for letter in "bcdabcd" * 5])
    figures = record.figures
    assert len(record.samples["kl"]) == len(record.samples["nll"]) == count
    for name in ("kl_mean", "kl_median", "kl_p999", "kl_max"):
        assert figures[name] == pytest.approx(kl, rel=1e-6)
    assert figures["kl_mean_error"] == pytest.approx(0, abs=1e-9)
    assert record.samples["dp"] == pytest.approx(changes.tolist(), rel=1e-6)
    assert figures["dp_mean"] == pytest.approx(changes.mean())
    assert figures["dp_rms"] == pytest.approx(math.sqrt((changes**2).mean()))
    assert figures["dp_mean_error"] == pytest.approx(changes.std(ddof=1) / math.sqrt(count))
    assert figures["ppl_base"] == pytest.approx(8) and figures["same_top"] == 1
    # 5 of 35 right tokens have p = 1/2, the others 1/14.
    assert figures["ppl"] == pytest.approx(math.exp((5 * math.log(2) + 30 * math.log(14)) / 35))
    assert figures["ppl_ratio"] == pytest.approx(figures["ppl"] / 8)
    top = divergence(table(half), table(np.roll(half, 1, axis=1)), text, window=16).figures
    assert top["same_top"] == top["same_top_error"] == 0


def test_progress_counts_windows_and_the_rest_is_left_out() -> None:
    steps: list[tuple[int, int]] = []
    record = perplexity(table(np.eye(VOCAB)), "ab" * 25, window=16, progress=lambda *done: steps.append(done))
    assert steps == [(1, 3), (2, 3), (3, 3)] and len(record.samples["nll"]) == 21


def test_records_are_written_and_read_back(tmp_path: Path) -> None:
    made = divergence(table(np.zeros((VOCAB, VOCAB))), table(np.eye(VOCAB)), "abcd" * 12, window=16)
    records.write(tmp_path / "kl.jsonl", [made])
    (again,) = records.read(tmp_path / "kl.jsonl")
    assert again.figures == dict(made.figures) and again.samples == dict(made.samples)
    assert set(made.figures) | set(made.samples) <= set(records.METRICS)


@pytest.mark.parametrize(
    ("text", "window", "words"),
    [
        ("", 16, "has 0 tokens"),
        ("abc" * 13, 64, "or window=32"),
        ("abc" * 13, 8, "window cannot be 8"),
        ("abc" * 13, True, "window cannot be True"),
    ],
)
def test_too_little_text_and_bad_windows_are_refused(text: str, window: int, words: str) -> None:
    with pytest.raises(OptionInvalid, match=words):
        perplexity(table(np.eye(VOCAB)), text, window=window)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_refused(bad: float) -> None:
    rows = np.zeros((VOCAB, VOCAB))
    rows[1, 3] = bad
    with pytest.raises(EngineFailed, match="window 1 of 2"):
        perplexity(table(rows), "ab" * 16, window=16)


def test_different_vocabularies_are_refused() -> None:
    class Shifted(Table):
        def tokenize(self, text: str, special: bool = True) -> list[int]:
            return [VOCAB - 1 - id for id in super().tokenize(text)]

    plain = table(np.eye(VOCAB))
    for other in (Model(Shifted(np.eye(VOCAB)), plain.card, "Q8_0"), table(np.zeros((VOCAB, VOCAB + 1)))):
        with pytest.raises(OptionInvalid, match="different vocabularies"):
            divergence(plain, other, "abcd" * 8, window=16)


def test_an_engine_without_scores_says_so() -> None:
    with load(engine="echo") as echo, pytest.raises(LabkitError, match="echo shows no scores"):
        perplexity(echo, WORDS)


def test_log_softmax_holds_for_large_scores() -> None:
    logp = log_softmax(np.array([[1e4, 0, -1e4], [0, 0, 0]], dtype=np.float32))
    assert logp[0].tolist() == [0, -1e4, -2e4] and logp[1] == pytest.approx(-math.log(3))
    nll = token_nll(lambda ids, first: np.zeros((len(ids) - first, 4), np.float32), [1] * 32, 16)
    assert ppl(nll) == pytest.approx((4, 0))
