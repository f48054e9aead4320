"""Where the greedy answers of two engines part, and how near a tie the model was: rounding decides near ties.

Tools are written into the system turn, as the model's own template writes them, and are not offered: llama.cpp's
server holds a call to its schema once it has begun, which is no greedy answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from labkit.engines.llamacpp import LlamaCpp
from labkit.engines.llamacpp_files import shipped_template
from labkit.engines.registry import load
from labkit.metrics.cases import Case
from labkit.models.catalog import find
from labkit.models.numpy_llama import NumpyLlama, nano_folder
from labkit.models.template import ChatTemplate
from labkit.types import GenerationOptions

Array = NDArray[np.float32]
ANSWER_TOKENS = 256
SYSTEM, END = "<|im_start|>system\n", "<|im_end|>"  # the shipped models' template is ChatML
STAND_IN_TOKENS = 512


def spelled_out(cases: Iterable[Case], name: str = "nano") -> list[Case]:
    """Return the same prompts without tools: in the system turn of a shipped model, for others nowhere."""
    card = find(name)
    template = ChatTemplate(shipped_template(card.refs["llamacpp"]), trusted=True) if card.shipped else None
    found = []
    for case in cases:
        turns = case.messages
        if template and case.tools:
            prompt = template.render(turns, case.tools)
            system = prompt.removeprefix(SYSTEM).partition(END)[0]
            rest = [turn for turn in turns if turn["role"] != "system"]
            turns = [{"role": "system", "content": system}, *rest]
        found.append(replace(case, messages=turns, tools=[]))
    return found


@dataclass(frozen=True, slots=True)
class Parting:
    """Show an answer that leaves the reference's after `at` characters, which both share."""

    engine: str
    case: str
    at: int
    reference: str
    answer: str

    def __str__(self) -> str:
        before, right, other = self.reference[: self.at], self.reference[self.at :], self.answer[self.at :]
        return f"{self.case}: after {before[-24:]!r} {right[:24]!r} follows, on {self.engine} {other[:24]!r}"


def partings(engine: str, reference: Mapping[str, str], given: Mapping[str, str]) -> list[Parting]:
    """Compare the answers to the same cases, character by character."""
    found = []
    for case, right in reference.items():
        answer = given.get(case, "")
        if answer != right:
            pairs = enumerate(zip(right, answer, strict=False))
            at = next((i for i, (a, b) in pairs if a != b), min(len(right), len(answer)))
            found.append(Parting(engine, case, at, right, answer))
    return found


def lead(scores: Array) -> Array:
    """Return by how much each row's best score leads the next, in logits: (N, V) to (N,)."""
    top = np.partition(scores, -2, axis=1)[:, -2:]
    return np.asarray(top[:, 1] - top[:, 0])


def answer_ids(engine: LlamaCpp, case: Case) -> tuple[list[int], int]:
    """Return the tokens of a prompt and of the engine's greedy answer, and the place of the prompt's last one."""
    options = GenerationOptions(max_tokens=ANSWER_TOKENS)
    text = "".join(chunk.text for chunk in engine.stream(case.messages, case.tools, options))
    ids = engine.prompt(case.messages, case.tools)
    return [*ids, *engine.tokenize(text)], len(ids) - 1


def two_programs(cases: Iterable[Case]) -> tuple[Array, Array, str]:
    """Score every token of nano's own answers with two programs; return both (N, V) and what they are.

    llama.cpp at F16 and numpy in float32. Where llama.cpp is not installed, numpy with weights rounded to bfloat16
    stands in for it, on tokens drawn at random.
    """
    exact = NumpyLlama.read(nano_folder())
    if not LlamaCpp.available().installed:
        ids = np.random.default_rng(0).integers(16, exact.config["vocab_size"], STAND_IN_TOKENS).tolist()
        rounded = exact.with_weights({name: _bfloat16(w) for name, w in exact.weights.items()})
        named = "a stand-in, as llama.cpp is not installed: numpy with bfloat16 weights, on random tokens"
        return rounded.window_logits(ids), exact.window_logits(ids), named
    ours, others = [], []
    with load("nano", "llamacpp", "F16", threads=1) as model:
        assert isinstance(model.engine, LlamaCpp)
        for case in cases:
            ids, first = answer_ids(model.engine, case)
            ours.append(model.window_logits(ids, first))
            others.append(exact.window_logits(ids, first))
    named = f"llama.cpp at F16 and numpy in float32, on nano's {len(ours)} answers"
    return np.concatenate(ours), np.concatenate(others), named


def _bfloat16(weights: Array) -> Array:
    """Keep the 16 upper bits of each float32, rounded to nearest."""
    bits = np.ascontiguousarray(weights, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32)
