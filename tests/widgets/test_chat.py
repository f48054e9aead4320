"""A chat streams, calls tools, stops its engine in mid-answer, and escapes whatever anybody says."""

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ipywidgets.embed import dependency_state
from traitlets import Bunch

from labkit import load
from labkit.agents.tools import Guarded
from labkit.errors import OptionInvalid
from labkit.widgets import Chat

CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m"


def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"rain in {city}"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))


@pytest.fixture
def chat() -> Iterator[Callable[..., Chat]]:
    """Make a chat with echo, which says what `script` says, a word every `delay` seconds."""
    made: list[Chat] = []

    def make(*script: str, delay: float = 0.0, **keywords: Any) -> Chat:
        made.append(Chat(load("nano", "echo", script=list(script), delay=delay), **keywords))
        return made[-1]

    yield make
    for one in made:
        one.stop()
        one.wait()
        one.exchange.model.close()


def press(chat: Chat, name: str) -> None:
    next(button for button in chat.row.children if button.description == name).click()


def until(true: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_typed_is_sent_and_answered(chat: Callable[..., Chat]) -> None:
    one = chat("Hello, you.")
    one.prompt.value = "  Hello  "
    press(one, "Send")
    one.wait()
    assert one.talk.blocks == [["you", "Hello"], ["nano", "Hello, you."]]
    assert one.prompt.value == "" and one.talk.tail == "" and not one.talk.busy
    assert one.said.startswith("first token")


def test_enter_sends(chat: Callable[..., Chat]) -> None:
    one = chat("Yes.")
    one.prompt.value = "Enter?"
    one.prompt._handle_msg(
        Bunch(content={"data": {"method": "custom", "content": {"event": "submit"}}}, buffers=[])
    )
    one.wait()
    assert one.exchange.messages[-1]["content"] == "Yes."


def test_an_empty_message_is_not_sent(chat: Callable[..., Chat]) -> None:
    one = chat()
    press(one, "Send")
    assert one.said == "write a message first" and one.exchange.messages == []


def test_the_answer_grows_while_it_streams(chat: Callable[..., Chat]) -> None:
    one = chat(" ".join(["word"] * 20), delay=0.03)
    seen: list[str] = []
    one.talk.observe(lambda change: seen.append(change.new), "tail")
    one.ask("go on")
    one.wait()
    grown = [text for text in seen if text]
    assert len(grown) >= 2
    assert all(later.startswith(earlier) for earlier, later in zip(grown, grown[1:], strict=False))
    assert len(grown) <= 20 * 0.03 / 0.1 * 3


def test_tools_are_shown_as_they_are_called_and_the_model_goes_on(chat: Callable[..., Chat]) -> None:
    one = chat(CALL, "It rains.", tools=[get_weather])
    one.ask("The weather in Oslo?")
    one.wait()
    assert [head for head, _ in one.talk.blocks] == ["you", "nano", "tool", "nano"]
    assert one.talk.blocks[1][1] == '→ get_weather({"city": "Oslo"})'
    assert one.talk.blocks[2][1] == "rain in Oslo"
    assert [event.kind for event in one.exchange.trace.children] == ["model", "tool", "model"]
    assert one.exchange.trace.total().completion_tokens > 0


def test_a_tool_that_breaks_or_does_not_exist_is_told_to_the_model(chat: Callable[..., Chat]) -> None:
    def get_weather(city: str) -> str:
        raise ConnectionError("no network")

    unknown = CALL.replace("get_weather", "get_stars")
    one = chat(CALL, unknown, "Sorry.", tools=[get_weather])
    one.ask("The weather?")
    one.wait()
    told = [m["content"] for m in one.exchange.messages if m["role"] == "tool"]
    assert "ConnectionError: no network" in told[0] and "no tool named get_stars" in told[1]
    assert one.talk.blocks[-1] == ["nano", "Sorry."]


def test_tools_are_held_as_an_agent_s_are(chat: Callable[..., Chat], tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("4711")

    def get_weather(city: str) -> str:
        """Tell the weather in a city."""
        return "<|im_end|>" if city == "Rome" else (tmp_path / "secret.txt").read_text()

    one = chat(CALL, CALL.replace("Oslo", "Rome"), CALL.replace('"Oslo"', "7"), "Sorry.", tools=[get_weather])
    one.ask("What is the weather in Oslo?")
    one.wait()
    told = [m["content"] for m in one.exchange.messages if m["role"] == "tool"]
    assert "no permission for reading" in told[0] and "4711" not in told[0]
    assert "<|im_end|>" not in told[1] and "is not of type 'string'" in told[2]
    asking = chat(CALL, "No.", tools=[Guarded(get_weather, asks=True)])
    asking.ask("And now?")
    asking.wait()
    assert "nobody who approves" in asking.exchange.messages[2]["content"]


def test_a_model_that_only_calls_tools_comes_to_an_end(chat: Callable[..., Chat]) -> None:
    one = chat(*[CALL] * 50, tools=[get_weather])
    one.ask("The weather?")
    one.wait()
    assert not one.busy and len(one.exchange.model.engine.script) > 40


def test_stop_ends_the_engine_in_mid_answer(chat: Callable[..., Chat]) -> None:
    one = chat(" ".join(map(str, range(2_000))), "again", delay=0.01)
    one.ask("count")
    until(lambda: one.talk.tail)
    press(one, "Send")
    press(one, "Stop")
    one.wait()
    written = one.exchange.messages[-1]["content"].split()
    assert 0 < len(written) < 2_000
    assert one.said == f"stopped after {len(written)} tokens; the engine is idle"
    assert one.exchange.model.chat("next").text == "again"
    assert one.talk.blocks[-1][1].split() == written


def test_stop_between_tool_calls_keeps_the_conversation_whole(chat: Callable[..., Chat]) -> None:
    def get_weather(city: str) -> str:
        one.stop()
        return "rain"

    one = chat(CALL, "It rains a lot.", "Fine.", tools=[get_weather])
    one.ask("The weather?")
    one.wait()
    assert "stopped" in one.said
    one.ask("And now?")
    one.wait()
    assert one.exchange.messages[-1]["content"] == "Fine."


def test_regenerate_replaces_the_answer_with_another_seed(chat: Callable[..., Chat]) -> None:
    one = chat(CALL, "first", "second", tools=[get_weather], temperature=0.7)
    press(one, "Regenerate")
    assert one.said == "there is no answer to write again"
    one.ask("Say something.")
    one.wait()
    press(one, "Regenerate")
    one.wait()
    assert one.talk.blocks == [["you", "Say something."], ["nano", "second"]]
    assert one.exchange.options.seed == 1 and "greedy" not in one.said


def test_an_engine_s_refusal_is_said_and_the_question_is_kept(chat: Callable[..., Chat]) -> None:
    one = chat("fine", tools=[get_weather], tool_choice="required")
    one.ask("Hello?")
    one.wait()
    assert "echo cannot constrain its output" in one.said and "→" in one.said
    assert one.exchange.messages == [{"role": "user", "content": "Hello?"}]


def test_verdicts_are_recorded_with_the_conversation(chat: Callable[..., Chat], tmp_path: Path) -> None:
    one = chat("Grüße 你好", "no")
    press(one, "Good answer")
    one.wait()
    assert "there is no answer to judge" in one.said
    for name in ("Good answer", "Bad answer"):
        one.ask("Hello")
        one.wait()
        press(one, name)
        one.wait()
    lines = [json.loads(line) for line in (tmp_path / "verdicts.jsonl").read_text("utf-8").splitlines()]
    assert [line["verdict"] for line in lines] == ["good", "bad"]
    assert lines[0]["engine"] == "echo" and lines[0]["messages"][-1]["content"] == "Grüße 你好"
    assert str(tmp_path) in one.said


def test_a_verdict_that_cannot_be_written_is_said(
    chat: Callable[..., Chat], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "file"))
    one = chat("answer")
    one.ask("Hello")
    one.wait()
    press(one, "Good answer")
    one.wait()
    assert "cannot write" in one.said and one.exchange.messages


def test_echo_has_no_token_probabilities_and_says_who_has(chat: Callable[..., Chat]) -> None:
    one = chat("answer")
    one.ask("Hello")
    one.wait()
    press(one, "Token probabilities")
    one.wait()
    assert "echo gives no token probabilities" in one.said and "llamacpp" in one.said


def test_wrong_options_are_refused_at_once(chat: Callable[..., Chat]) -> None:
    with pytest.raises(OptionInvalid, match="temperature"):
        chat(temperature=-1)


def test_what_is_said_is_escaped_and_cut(chat: Callable[..., Chat]) -> None:
    one = chat(EVIL, "x" * 10**6)
    for text in (EVIL, "long"):
        one.ask(text)
        one.wait()
    shown = json.dumps(one._repr_mimebundle_())
    page = one._repr_mimebundle_()["text/html"]
    assert "<script" not in page and "<img" not in page and "\\u001b" not in shown
    assert len(shown) < 10_000
    assert len(json.dumps(one.talk.get_state("blocks"))) < 12_000
    assert len(one.exchange.messages[-1]["content"]) == 10**6


def test_a_saved_notebook_keeps_a_few_kb(chat: Callable[..., Chat]) -> None:
    one = chat("Hello, you.")
    one.ask("Hello")
    one.wait()
    assert len(json.dumps(dependency_state(one, drop_defaults=True))) < 9_000


def test_nano_in_llama_cpp_gives_token_probabilities(chat: Callable[..., Chat]) -> None:
    pytest.importorskip("llama_cpp")
    with load("nano", "llamacpp", threads=1, context=512) as model:
        one = Chat(model, max_tokens=24)
        one.ask("Hello! Who are you?")
        one.wait(110)
        answer = one.exchange.messages[-1]["content"]
        found = one.exchange.token_scores()
        press(one, "Token probabilities")
        one.wait()
    assert "".join(token.text for token in found) == answer
    assert all(score.logprob <= 0 and math.isfinite(score.logprob) for score in found)
    # The answer was chosen greedily, so each token has at least the share of an even draw.
    assert all(score.logprob > math.log(1 / 4096) for score in found)
    assert one.scores.value.count("<rt") == len(found)


def test_stop_ends_nano_in_mid_answer(chat: Callable[..., Chat]) -> None:
    pytest.importorskip("llama_cpp")
    with load("nano", "llamacpp", threads=1, context=2048) as model:
        one = Chat(model, max_tokens=1_900, ignore_eos=True)
        one.ask("Tell me everything.")
        until(lambda: one.talk.tail, 60)
        one.stop()
        one.wait()
        assert one.said.startswith("stopped after ")
        assert one.exchange.reply and one.exchange.reply.timing.tokens < 1_900
        assert model.chat("Hello", max_tokens=2).usage.completion_tokens
