"""Speculative decoding writes what plain decoding writes, in fewer batches, and leaves nothing behind."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llama_cpp", reason="needs llama-cpp-python: pip install 'labkit[llamacpp]'")

from labkit import GenerationOptions, Model, load
from labkit.engines.llamacpp_native import Context
from labkit.engines.llamacpp_sampling import sampler
from labkit.errors import EngineFailed, LabkitError, OptionInvalid
from labkit.metrics.cases import Case, choose, data_folder, read_cases
from labkit.models import store

PROMPTS = 24
WRITTEN = 24
TIE = 0.02  # nats: sums of a batch, done in another order, differ by less in F16 (and by 0.4 in Q4_K_M)


@pytest.fixture(scope="module")
def plain() -> Iterator[Model]:
    with load("nano", "llamacpp", "F16", threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def fast() -> Iterator[Model]:
    with load("nano", "llamacpp", "F16", threads=1, draft="pico") as model:
        yield model


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """The shortest cases of every split and skill, so that each kind of answer is there."""
    found = choose(read_cases(data_folder()), limit=8)
    return sorted(found, key=lambda case: len(str(case.messages) + str(case.tools)))[: 2 * PROMPTS : 2]


def written(engine: Any, writer: Any, ids: list[int], limit: int = WRITTEN) -> list[int]:
    """Return the tokens that one way of writing gives after `ids`, on the same context."""
    chain = sampler(engine.context, GenerationOptions(), ())
    try:
        engine.context.read(ids)
        return list(writer.tokens(chain, limit))
    finally:
        engine.context.lib.llama_sampler_free(chain)


def test_greedy_tokens_are_those_of_plain_decoding(fast: Model, cases: list[Case]) -> None:
    engine: Any = fast.engine
    checks = 0
    for case in cases:
        ids = engine.prompt(case.messages, case.tools)
        engine.context.read(ids)  # so that both begin with the very same cache
        alone = written(engine, engine.context, ids)
        together = written(engine, engine.drafter, ids)
        checks += engine.drafter.last.checks
        assert len(together) == WRITTEN
        at = next((i for i in range(WRITTEN) if alone[i] != together[i]), None)
        if at is not None:  # allowed for nothing but a tie
            scores = fast.window_logits([*ids, *alone[:at]], len(ids) + at - 1)[0]
            assert abs(scores[alone[at]] - scores[together[at]]) < TIE, case.id
    assert len(cases) == PROMPTS
    assert checks < len(cases) * (WRITTEN - 1)  # some guesses were right: that is what it is for


@pytest.mark.parametrize("limit", [1, 2, 3, 6])
def test_the_limit_is_kept_and_no_rejected_guess_stays_in_the_cache(fast: Model, limit: int) -> None:
    engine: Any = fast.engine
    context: Context = engine.context
    ids = engine.prompt([{"role": "user", "content": "Hello! Who are you?"}], [])
    tokens = written(engine, engine.drafter, ids, limit)
    assert len(tokens) == limit
    assert context.seen == [*ids, *tokens[:-1]]
    held = context.cache_bytes
    context.read(context.seen[:])
    assert context.cache_bytes == held


def shown(model: Model, case: Case, **options: Any) -> tuple[Any, ...]:
    reply = model.chat(case.messages, tools=case.tools, **options)
    calls = [(call.name, call.arguments) for call in reply.tool_calls]
    return reply.text, calls, reply.finish_reason, reply.usage.completion_tokens


def test_ends_stops_and_limits_fall_where_they_do_in_plain_decoding(
    plain: Model, fast: Model, cases: list[Case]
) -> None:
    case = cases[0]
    plain.chat(case.messages, tools=case.tools, max_tokens=1)
    fast.chat(case.messages, tools=case.tools, max_tokens=1)
    text = "".join(c.text for c in plain.stream(case.messages, tools=case.tools, max_tokens=24))
    options: list[dict[str, Any]] = [{"max_tokens": n} for n in (1, 2, 5, 64)]
    options += [{"max_tokens": 24, "stop": [text[at : at + 3]]} for at in (2, len(text) // 2)]
    options += [{"max_tokens": 24, "ignore_eos": True}, {"max_tokens": 24, "repeat_penalty": 1.5}]
    options += [{"max_tokens": 24, "grammar": 'root ::= "one two three"'}]
    for chosen in options:
        assert shown(fast, case, **chosen) == shown(plain, case, **chosen), chosen


def test_the_counts_add_up(fast: Model) -> None:
    reply = fast.chat("Hello! Who are you?", max_tokens=30, ignore_eos=True)
    last = fast.engine.drafter.last  # type: ignore[attr-defined]
    assert reply.usage.completion_tokens == 30 == 1 + last.checks + last.accepted
    assert last.accepted <= last.looked_at <= last.guessed <= 4 * last.checks
    assert last.acceptance == last.accepted / last.looked_at
    assert last.guess_seconds > 0 < last.check_seconds
    fast.chat("Hello!", max_tokens=1)
    assert np.isnan(fast.engine.drafter.last.acceptance)  # type: ignore[attr-defined]


def test_an_unfinished_stream_spoils_nothing(plain: Model, fast: Model) -> None:
    for model in (plain, fast):
        stream = model.stream("Hello! Who are you?", max_tokens=40, ignore_eos=True)
        for _ in range(7):
            next(stream)
    question = "Where is the lamp?"
    assert fast.chat(question, max_tokens=12).text == plain.chat(question, max_tokens=12).text


def test_an_answer_stops_where_the_context_ends() -> None:
    with load("nano", engine="llamacpp", context=64, threads=1, draft="pico", batch=3) as small:
        reply = small.chat("hi", max_tokens=1000, ignore_eos=True)
    assert reply.finish_reason == "length"
    assert reply.usage.total_tokens == 64


@pytest.mark.parametrize(
    "bad", [{"draft": "picoo"}, {"draft": 7}, {"draft_tokens": 0}, {"draft_tokens": 2.5}]
)
def test_bad_options_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(LabkitError) as caught:
        load("nano", engine="llamacpp", threads=1, **bad)
    assert caught.value.fix


def test_a_model_with_other_tokens_cannot_draft(tmp_path: Path) -> None:
    load("pico", engine="llamacpp", threads=1).close()
    data = store.file_of("pico", "Q4_K_M").read_bytes()
    other = tmp_path / "other.gguf"
    other.write_bytes(data.replace(b"<tool_call>", b"<tool_CALL>"))
    with pytest.raises(OptionInvalid, match="other tokens"):
        load("nano", engine="llamacpp", threads=1, draft=str(other))


def test_a_model_that_cannot_take_tokens_back_says_so(fast: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = fast.engine
    # No recurrent model is at hand: this is what llama.cpp answers for one.
    monkeypatch.setattr(engine.context, "forget", lambda kept: False)
    with pytest.raises(EngineFailed, match="recurrent"):
        engine.drafter._forget(0)
