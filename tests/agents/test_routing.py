"""Small first, on the echo engine with scripted answers, and an answer's probability on nano."""

from collections.abc import Iterator

import pytest

from labkit import Model, load
from labkit.agents.routing import Router, Rule, ask, invalid_call, no_call, unlikely
from labkit.errors import EngineFailed, OptionInvalid
from labkit.metrics.intervals import wilson


def set_light(room: str, level: int = 1) -> str:
    """Set the light in a room."""
    return f"{room} {level}"


QUESTION = "Light in the hall, please"
CALL = '<tool_call>\n{"name": "set_light", "arguments": {"room": "hall"}}\n</tool_call>'


def echo(*script: str) -> Model:
    return load("nano", engine="echo", script=list(script))


def test_a_good_answer_of_the_small_model_counts_and_the_big_one_is_not_asked() -> None:
    big = echo("never said")
    ((attempt, why),) = Router([echo(CALL), big]).ask(QUESTION, [set_light])
    assert (why, attempt.reply.tool_calls[0].arguments) == ("", {"room": "hall"})
    assert big.chat("?").text == "never said"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("It is on.", "no tool call"),
        (CALL[:40], "no tool call"),
        (CALL + CALL[:40], "a call that cannot be read"),
        (CALL.replace("set_light", "set_lamp"), "there is no tool set_lamp"),
        (CALL.replace("room", "where"), "set_light: "),
        (CALL.replace('"hall"', "7"), "set_light: 7 is not of type 'string'"),
        (CALL.replace('"hall"', '"hall", "level": "high"'), "set_light: 'high' is not of type 'integer'"),
        (CALL.replace('"hall"', '"hall", "colour": "red"'), "set_light: "),
    ],
)
def test_a_fault_hands_over(said: str, reason: str) -> None:
    (small, why), (big, last) = Router([echo(said), echo(CALL)]).ask(QUESTION, [set_light])
    assert why.startswith(reason) and last == ""
    assert small.model is not big.model and big.reply.tool_calls[0].arguments == {"room": "hall"}


def test_prose_is_no_fault_after_a_result_or_without_tools() -> None:
    result = [{"role": "user", "content": QUESTION}, {"role": "assistant"}, {"role": "tool", "content": "ok"}]
    assert [why for _, why in Router([echo("Done."), echo()]).ask(result, [set_light])] == [""]
    assert [why for _, why in Router([echo("Hi!"), echo()]).ask("Hello!")] == [""]


def test_the_first_rule_that_finds_fault_gives_the_reason_and_the_last_model_is_not_judged() -> None:
    rules: list[Rule] = [lambda attempt: "", lambda attempt: "second", lambda attempt: "third"]
    tried = Router([echo("a"), echo("b"), echo("c")], rules).ask("?")
    assert [(attempt.reply.text, why) for attempt, why in tried] == [
        ("a", "second"),
        ("b", "second"),
        ("c", ""),
    ]


def test_a_model_that_fails_is_passed_over_and_the_last_ones_error_is_raised() -> None:
    small, big = echo(), echo("Here I am.")
    small.close()
    (failed, why), (answered, _) = Router([small, big], []).ask("?")
    assert why.startswith("EngineFailed: ") and isinstance(failed.error, EngineFailed)
    assert (failed.reply.text, answered.reply.text) == ("", "Here I am.")
    big.close()
    with pytest.raises(EngineFailed):
        Router([small, big], []).ask("?")


def test_a_question_that_is_none_is_raised_before_any_model_is_asked() -> None:
    model = echo("still here")
    for wrong in ([], [{"role": "king", "content": "?"}]):
        with pytest.raises(OptionInvalid):
            Router([model]).ask(wrong)
    with pytest.raises(OptionInvalid):
        ask(model, "?", [7])  # type: ignore[list-item]
    assert model.chat("?").text == "still here"


def test_an_engine_without_scores_tells_no_probability() -> None:
    with pytest.raises(OptionInvalid, match="shows no scores"):
        unlikely(0.5)(ask(echo("Hi"), "Hello!"))


@pytest.fixture(scope="module")
def nano() -> Iterator[Model]:
    pytest.importorskip("llama_cpp")
    with load("nano", engine="llamacpp", variant="F16", threads=1) as model:
        yield model


@pytest.mark.parametrize("tools", [[], [set_light]])
def test_the_probability_is_how_often_sampling_writes_that_answer(nano: Model, tools: list[object]) -> None:
    attempt = ask(nano, "Hello! Who are you?" if not tools else QUESTION, tools, max_tokens=64)  # type: ignore[arg-type]
    assert 0 < attempt.probability <= 1
    free = {"temperature": 1.0, "top_k": 0, "max_tokens": 64}
    drawn = [nano.chat(attempt.messages, tools=attempt.tools, seed=n, **free) for n in range(40)]
    low, high = wilson(sum(str(reply) == str(attempt.reply) for reply in drawn), 40, 0.99999)
    assert low <= attempt.probability <= high


def test_unlikely_compares_with_its_limit(nano: Model) -> None:
    attempt = ask(nano, "Hello!")
    p = attempt.probability
    assert unlikely(p)(attempt) == "" and unlikely(p * 1.01)(attempt) == f"p = {p:.2f}"
    assert no_call(attempt) == invalid_call(attempt) == ""
