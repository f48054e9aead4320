"""Several engines as one model: the conversation goes on when one of them fails, in the middle of an answer too."""

import asyncio
from typing import Any

import pytest

from labkit import Model, load
from labkit.agents.failover import failover
from labkit.engines.registry import engine_class
from labkit.errors import EngineFailed, LabkitError, OptionInvalid

CALL = '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'


def echo(*script: str, **options: Any) -> Model:
    return load("nano", engine="echo", script=list(script), **options)


def breaking(text: str, after: int) -> Model:
    """An engine that ends in the middle of its first answer, and for good."""
    model = echo(text)
    ask = model.engine.stream

    def stream(*given: Any) -> Any:
        for place, chunk in enumerate(ask(*given)):
            if place == after:
                raise EngineFailed("the server ended")
            yield chunk

    model.engine.stream = stream  # type: ignore[method-assign]
    return model


def test_the_first_that_answers_is_asked() -> None:
    with failover([echo("one"), echo("two")]) as model:
        assert model.chat("hi").text == "one" and model.engine.failures == []


def test_the_conversation_goes_on_on_the_next_engine() -> None:
    first = echo("Hello Mira.")
    model = failover([first, echo("You are Mira.")])
    turns = [{"role": "user", "content": "I am Mira."}, model.chat("I am Mira.").message]
    first.close()
    assert model.chat([*turns, {"role": "user", "content": "Who am I?"}]).text == "You are Mira."
    assert "was closed" in model.engine.failures[0]


@pytest.mark.parametrize("after", [0, 1, 3, 4])
def test_an_answer_that_breaks_off_is_taken_up_where_it_ended(after: int) -> None:
    text = "one two three four"
    model = failover([breaking(text, after), echo(text)])
    pieces = [chunk.text for chunk in model.stream("go")]
    assert "".join(pieces) == text and pieces[:after] == ["one", " two", " three", " four"][:after]
    assert len(model.engine.failures) == 1


def test_a_piece_that_spans_the_break_is_cut_there() -> None:
    model = failover([breaking("one two three", 2), echo("one", "x")])
    whole = echo("one two three")
    whole.engine.stream = lambda *_: iter([*_pieces("one tw", "o three")])  # type: ignore[method-assign]
    model.engine.models = (model.engine.models[0], whole)
    assert "".join(chunk.text for chunk in model.stream("go")) == "one two three"


def _pieces(*texts: str) -> Any:
    from labkit.types import Chunk, Usage

    yield from (Chunk(text, 1) for text in texts)
    yield Chunk(finish_reason="stop", usage=Usage(1, 2))


def test_other_words_are_no_continuation() -> None:
    model = failover([breaking("one two three", 2), echo("something else altogether")])
    with pytest.raises(EngineFailed, match="begins another way"):
        model.chat("go")


def test_a_stream_that_just_ends_counts_as_a_failure() -> None:
    first = echo("one two three", delay=0.001)
    model = failover([first, echo("one two three")])
    stream = model.stream("go")
    next(stream)
    first.close()
    assert "".join(chunk.text for chunk in stream) == " two three"


def test_one_that_failed_rests() -> None:
    asked: list[str] = []
    first, second = breaking("a", 0), echo("b", "c", "d")
    ask = first.engine.stream
    first.engine.stream = lambda *given: (asked.append("first"), ask(*given))[1]  # type: ignore[method-assign,func-returns-value]
    model = failover([first, second], rest=1000)
    assert [model.chat("go").text for _ in range(3)] == ["b", "c", "d"] and len(asked) == 1
    eager = failover([breaking("a", 0), echo("b", "c")], rest=0)
    assert [eager.chat("go").text for _ in range(2)] == ["b", "c"] and len(eager.engine.failures) == 2


def test_when_all_fail_the_last_error_is_told() -> None:
    with pytest.raises(EngineFailed, match="the server ended"):
        failover([breaking("a", 0), breaking("b", 0)]).chat("go")


def test_a_wrong_request_is_nobodys_failure() -> None:
    model = failover([echo("a"), echo("b")])
    with pytest.raises(OptionInvalid):
        model.chat("go", schema={"type": "object"})  # echo cannot be held to a schema
    assert model.engine.failures == []
    with pytest.raises(OptionInvalid):
        failover([])


def test_tool_calls_pass() -> None:
    def look() -> str:
        """Look."""
        return ""

    model = failover([breaking(CALL, 1), echo(CALL)])
    reply = model.chat("go", tools=[look])
    assert [call.name for call in reply.tool_calls] == ["look"] and reply.finish_reason == "tool_calls"


def test_an_agent_of_the_framework_notices_nothing() -> None:
    framework = pytest.importorskip("agent_framework")
    from labkit.agents.framework import ChatClient

    text = "one two three"
    agent = framework.Agent(ChatClient(failover([breaking(text, 2), echo(text)])))
    assert asyncio.run(agent.run("go")).text == text


def test_two_copies_of_nano() -> None:
    if not engine_class("llamacpp").available().installed:
        pytest.skip("needs llama-cpp-python")
    first, second = (load("nano", engine="llamacpp", variant="F16", threads=1) for _ in range(2))
    with failover([first, second]) as model:
        whole = second.chat("Hello! Who are you?", max_tokens=12, ignore_eos=True).text
        stream = model.stream("Hello! Who are you?", max_tokens=12, ignore_eos=True)
        said = next(stream).text + next(stream).text
        first.close()
        assert (said + "".join(chunk.text for chunk in stream)).strip() == whole
        with pytest.raises(LabkitError):
            first.chat("Hello")
