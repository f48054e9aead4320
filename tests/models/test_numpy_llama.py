"""The forward pass in numpy, against llama.cpp."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llama_cpp", reason="needs llama-cpp-python: pip install 'labkit[llamacpp]'")

from labkit import Model, load
from labkit.errors import ContextOverflow, ModelNotFound
from labkit.metrics.quality import perplexity, ppl, token_nll
from labkit.models.numpy_llama import NumpyLlama, nano_folder

TEXT = Path(__file__).parents[2] / "datasets" / "texts" / "agent_heldout.txt"


@pytest.fixture(scope="module")
def nano() -> Iterator[Model]:
    with load("nano", engine="llamacpp", variant="F16", threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def mine() -> NumpyLlama:
    return NumpyLlama.read(nano_folder())


def test_scores_are_those_of_llama_cpp(nano: Model, mine: NumpyLlama) -> None:
    text = TEXT.read_text("utf-8")
    for start in (0, 20_000, 40_000):
        ids = nano.tokenize(text[start : start + 800])
        theirs, ours = nano.window_logits(ids, 0), mine.window_logits(ids)
        assert ours.shape == theirs.shape == (len(ids), 4096) and ours.dtype == np.float32
        # llama.cpp keeps keys and values, and multiplies, in float16: 11 bits, over several layers.
        assert np.abs(ours - theirs).max() < 0.01 * np.abs(theirs).max()
        best = np.sort(theirs, axis=1)
        clear = best[:, -1] - best[:, -2] > 0.1
        assert clear.mean() > 0.8
        assert (ours.argmax(axis=1) == theirs.argmax(axis=1))[clear].all()


def test_perplexity_is_the_same_within_a_thousandth(nano: Model, mine: NumpyLlama) -> None:
    text = TEXT.read_text("utf-8")[:2500]
    value, _ = ppl(token_nll(mine.window_logits, nano.tokenize(text), window=256))
    assert value == pytest.approx(perplexity(nano, text, window=256).figures["ppl"], rel=1e-3)


def test_a_token_sees_none_behind_it_and_first_leaves_rows_out(mine: NumpyLlama) -> None:
    ids = [1, 40, 300, 77, 5, 900]
    whole = mine.window_logits(ids)
    assert np.allclose(mine.window_logits(ids[:4]), whole[:4], atol=1e-3)
    assert np.allclose(mine.window_logits(ids, 3), whole[3:], atol=1e-4)  # sums in another order


def test_a_replaced_matrix_changes_only_the_copy(mine: NumpyLlama) -> None:
    name = "model.layers.3.mlp.down_proj.weight"
    before = mine.window_logits([1, 40, 300])
    other = mine.with_weights({name: np.zeros_like(mine.weights[name])})
    assert not np.allclose(other.window_logits([1, 40, 300]), before)
    assert np.array_equal(mine.window_logits([1, 40, 300]), before)


def test_too_many_tokens_and_missing_files_are_refused(mine: NumpyLlama, tmp_path: Path) -> None:
    with pytest.raises(ContextOverflow, match="2049 tokens"):
        mine.window_logits([5] * 2049)
    with pytest.raises(ModelNotFound, match=r"config\.json"):
        NumpyLlama.read(tmp_path)
