"""What llama.cpp's filters keep is what their definitions say, and a grammar admits what it describes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llama_cpp", reason="needs llama-cpp-python: pip install 'labkit[llamacpp]'")

from labkit import GenerationOptions, Model, load
from labkit.engines.llamacpp_sampling import admits, kept_tokens
from labkit.errors import OptionInvalid


@pytest.fixture(scope="module")
def nano() -> Iterator[Model]:
    with load("nano", engine="llamacpp", threads=1) as model:
        yield model


def test_the_filters_keep_what_they_are_defined_to_keep(nano: Model) -> None:
    context: Any = nano.engine.context  # type: ignore[attr-defined]
    scores = np.log(np.arange(1.0, context.width + 1)).astype(np.float32)  # p grows with the token's id
    scores[:-5] = -50
    p = np.exp(scores[-5:].astype(np.float64) - scores[-1])
    p /= p.sum()

    def kept(**options: Any) -> dict[int, float]:
        return kept_tokens(context, scores, GenerationOptions(**{"temperature": 1.0, "top_k": 0} | options))

    last = context.width - 1
    assert len(kept()) == context.width
    assert sum(kept().values()) == pytest.approx(1, abs=1e-4)
    assert list(kept(top_k=3)) == [last, last - 1, last - 2]
    assert len(kept(top_p=0.5)) == int(np.searchsorted(np.cumsum(p[::-1]), 0.5)) + 1
    assert len(kept(min_p=0.5)) == 5
    assert kept(top_k=2, temperature=0.5)[last] == pytest.approx(
        p[-1] ** 2 / (p[-1] ** 2 + p[-2] ** 2), abs=1e-4
    )


def test_a_grammar_admits_whole_texts_of_its_language_and_no_others(nano: Model) -> None:
    context: Any = nano.engine.context  # type: ignore[attr-defined]
    grammar = 'root ::= [0-9]+ " °C" | "ja" "wohl"?'
    for text, right in (
        ("21 °C", True),
        ("ja", True),
        ("jawohl", True),
        ("j", False),
        ("", False),
        ("ja!", False),
    ):
        assert admits(context, grammar, text) is right, text
    assert not admits(context, 'root ::= "a"', "<|im_end|>")
    with pytest.raises(OptionInvalid):
        admits(context, "root ::= (", "a")
