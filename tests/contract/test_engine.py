"""What every engine promises. One list of engines, one suite; a new engine is one more line in `ENGINES`."""

import os
import threading
import time
from collections.abc import Iterator

import pytest

from labkit import Model, load
from labkit.engines.registry import engine_class
from labkit.errors import EngineFailed, LabkitError, OptionInvalid

ENGINES = ["echo", "llamacpp"]
MUST_RUN_IN_CI = {"llamacpp"}


@pytest.fixture(params=ENGINES, scope="module")
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    state = engine_class(request.param).available()
    if not state.installed:
        if os.environ.get("CI") and request.param in MUST_RUN_IN_CI:
            pytest.fail(f"{request.param} has to run in CI: {state.reason}")
        pytest.skip(f"{state.reason}: {state.fix}")
    with load("nano", engine=request.param) as loaded:
        yield loaded


def weather(city: str) -> str:
    """Get the current weather in a city."""
    return f"cold in {city}"


def test_chat_returns_a_whole_reply(model: Model) -> None:
    reply = model.chat("Hello there, who are you?", max_tokens=32)
    assert reply.text
    assert reply.finish_reason in ("stop", "length")
    assert (reply.model, reply.engine) == ("nano", model.engine.name)
    assert reply.usage.prompt_tokens > 0
    assert 0 < reply.usage.completion_tokens <= 32
    assert reply.message == {"role": "assistant", "content": reply.text}


def test_stream_adds_up_to_chat(model: Model) -> None:
    chunks = list(model.stream("Hello there, who are you?", max_tokens=32))
    reply = model.chat("Hello there, who are you?", max_tokens=32)
    assert "".join(c.text for c in chunks).strip() == reply.text
    assert sum(c.tokens for c in chunks) == reply.usage.completion_tokens
    assert [c.finish_reason for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].finish_reason and chunks[-1].usage


def test_stamps_never_go_back(model: Model) -> None:
    stamps = [c.at for c in model.stream("Hello there, who are you?", max_tokens=32)]
    assert stamps == sorted(stamps)
    assert stamps[0] > 0


def test_max_tokens_is_kept(model: Model) -> None:
    reply = model.chat("one two three four five six", max_tokens=2)
    assert reply.usage.completion_tokens == 2
    assert reply.finish_reason == "length"


def test_text_in_any_alphabet_arrives_whole(model: Model) -> None:
    for text in ("naïve 🙂🙃 🏳️‍🌈", "北京的天气", "مرحبا بالعالم"):
        # A grammar makes even a tiny model write exactly this, one byte-level token at a time.
        only = {"grammar": f'root ::= "{text}"'} if model.engine.constrained else {}
        assert "".join(c.text for c in model.stream(text, max_tokens=100, **only)) == text


def test_bad_options_never_reach_the_engine(model: Model) -> None:
    for bad in ({"max_tokens": -1}, {"temperature": float("nan")}, {"stop": ["x"] * 100}, {"colour": 1}):
        with pytest.raises(OptionInvalid):
            model.stream("hi", **bad)
    for messages in (
        [],
        [{"role": "boss", "content": "x"}],
        [{"content": "x"}],
        7,
        "x" * 5_000_000,
        "\ud83d",
    ):
        with pytest.raises(OptionInvalid):
            model.stream(messages)  # type: ignore[arg-type]


def test_a_stream_left_open_does_not_block_the_next_request(model: Model) -> None:
    unfinished = model.stream("Hello there, who are you?", max_tokens=32)
    next(unfinished)
    assert model.chat("Hello", max_tokens=4).text
    assert list(unfinished) == []


def test_interrupt_is_passed_on_and_the_model_stays_usable(model: Model) -> None:
    began = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        for _ in model.stream("Hello there, who are you?", max_tokens=64):
            raise KeyboardInterrupt
    assert model.chat("Hello", max_tokens=4).text
    assert time.perf_counter() - began < 1


def test_threads_take_turns(model: Model) -> None:
    def ask() -> None:
        replies.append(model.chat("Hello there, who are you?", max_tokens=16).text)

    replies: list[str] = []
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(replies) == 4
    assert len(set(replies)) == 1


def test_closing_twice_is_harmless_and_use_after_it_is_an_error(model: Model) -> None:
    second = load("nano", engine=model.engine.name)
    second.close()
    second.close()
    for use in (lambda: second.chat("hi"), lambda: second.stream("hi"), lambda: second.score("hi")):
        with pytest.raises(EngineFailed):
            use()


def test_what_an_engine_cannot_do_it_refuses_with_a_remedy(model: Model) -> None:
    if not model.engine.score:
        with pytest.raises(OptionInvalid):
            model.score("hello")
    if not model.engine.constrained:
        with pytest.raises(OptionInvalid):
            model.chat("hello", schema={"type": "object"})
    with pytest.raises(OptionInvalid):
        model.chat("hello", tool_choice="required")


def test_a_scripted_engine_fails_only_with_labkit_errors() -> None:
    for options in ({"script": "text"}, {"script": [1]}, {"delay": -1}, {"colour": 2}):
        with pytest.raises(LabkitError):
            load("nano", engine="echo", **options)


def test_tool_calls_are_read_from_text() -> None:
    script = ['Well, <tool_call>\n{"name": "weather", "arguments": {"city": "Łódź"}}\n</tool_call>']
    with load("nano", engine="echo", script=script) as echo:
        reply = echo.chat("weather in Łódź?", tools=[weather])
    assert (reply.text, reply.finish_reason) == ("Well,", "tool_calls")
    assert [str(call) for call in reply.tool_calls] == ["weather(city='Łódź')"]
