"""The Ollama engine against labkit's own endpoint, and against a scripted server for what no endpoint does at will.

Whether that endpoint is like a daemon is the question of tests/contract/ollama_api.
"""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from go_template import render
from test_openai import Script

from labkit import Model, load
from labkit.engines.llamacpp_files import shipped_template
from labkit.engines.ollama_daemon import TEMPLATE, address
from labkit.errors import (
    ContextOverflow,
    EngineFailed,
    EngineTimeout,
    EngineUnavailable,
    LabkitError,
    ModelNotFound,
    NotEnoughMemory,
    OptionInvalid,
)
from labkit.models.card import Ref
from labkit.models.template import ChatTemplate

ollama = pytest.importorskip("ollama", reason="needs Ollama's client: pip install 'labkit[ollama]'")


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    for package in ("fastapi", "uvicorn", "xllamacpp"):
        pytest.importorskip(package, reason="labkit's endpoint needs labkit[serve,llamaserver]")
    from labkit.serving.endpoint import start_ollama_api

    process, url = start_ollama_api(engine="llamaserver", threads=1)
    yield url
    process.stop()


@pytest.fixture
def model(host: str) -> Iterator[Model]:
    with load("nano", engine="ollama", host=host) as loaded:
        yield loaded


def test_nano_is_created_once_and_the_model_says_who_answers(model: Model, host: str) -> None:
    client = model.engine.client  # type: ignore[attr-defined]
    name = f"labkit-nano:{model.variant.lower()}"
    before = {entry.model: entry.modified_at for entry in client.list().models}
    assert name in before
    assert f"labkit's endpoint 0.1.0-labkit at {host}" in model.why
    with load("nano", engine="ollama", host=host) as again:
        assert again.chat("Hello", max_tokens=4).text == model.chat("Hello", max_tokens=4).text
    assert {entry.model: entry.modified_at for entry in client.list().models} == before


def test_a_model_of_that_name_with_other_weights_is_replaced(model: Model, host: str) -> None:
    client = model.engine.client  # type: ignore[attr-defined]
    name = f"labkit-nano:{model.variant.lower()}"
    client.create(name, from_="pico")
    with load("nano", engine="ollama", host=host) as again:
        assert again.engine.file and "sha256-" in (client.show(name).modelfile or "")


def test_the_environment_names_the_host(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", host.removeprefix("http://"))
    with load("nano", engine="ollama") as model:
        assert host in repr(model)


def test_another_name_of_the_daemons_may_be_asked_for(host: str) -> None:
    with load("nano", engine="ollama", host=host, model="pico", keep_alive=0) as model:
        assert model.chat("Hello", max_tokens=2).usage.completion_tokens == 2
        client = model.engine.client  # type: ignore[attr-defined]
        end = time.monotonic() + 5
        while any(entry.name == "pico:latest" for entry in client.ps().models) and time.monotonic() < end:
            time.sleep(0.05)
        assert "pico:latest" not in {entry.name for entry in client.ps().models}


def test_a_model_the_daemon_lacks_is_not_pulled_unasked(host: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        load("qwen2.5-0.5b", engine="ollama", host=host)
    assert "labkit models pull qwen2.5-0.5b --engine ollama" in caught.value.fix
    assert "ollama pull qwen2.5:0.5b" in caught.value.fix


def test_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(EngineUnavailable, match="no Ollama answers") as caught:
        load("nano", engine="ollama", host=f"127.0.0.1:{port}")
    assert "ollama serve" in caught.value.fix and "labkit serve --api ollama" in caught.value.fix


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:11434"),
        ("nas:1234", "http://nas:1234"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("http://nas:1234/", "http://nas:1234"),
        ("https://ollama.example/sub", "https://ollama.example/sub"),
        ("[::1]:11434", "http://[::1]:11434"),
    ],
)
def test_a_host_is_written_as_for_ollama(host: str, url: str) -> None:
    assert address(host) == url


@pytest.mark.parametrize(
    "bad",
    [
        {"host": 7},
        {"host": "ftp://nas"},
        {"host": "user:pass-word@nas"},
        {"host": "nas\0"},
        {"keep_alive": [1]},
        {"context": 1},
        {"timeout": 0},
        {"model": "x", "variant": "Q2_K"},
    ],
    ids=str,
)
def test_bad_load_options_are_refused_before_anything_is_sent(bad: dict[str, Any]) -> None:
    with pytest.raises(OptionInvalid) as caught:
        load("nano", engine="ollama", **bad)
    assert caught.value.fix and "pass-word" not in str(caught.value)


def test_what_ollama_does_not_have_is_refused(model: Model) -> None:
    for option in ({"grammar": 'root ::= "a"'}, {"ignore_eos": True}):
        with pytest.raises(OptionInvalid, match="takes no"):
            model.chat("hi", **option)


def line(done: bool = False, **parts: Any) -> bytes:
    return (
        json.dumps({"message": {"role": "assistant", "content": "", **parts}, "done": done}).encode() + b"\n"
    )


END = b'{"done": true, "done_reason": "stop", "prompt_eval_count": 7, "eval_count": 5, "message": {"content": ""}}\n'


class Daemon(Script):
    """Answers `/api/version` and `/api/tags` at once, and a chat as its attributes say."""

    models = b'{"version": "0.21.0", "models": [{"name": "tiny:latest", "model": "tiny:latest"}]}'
    answer = line(content="Hi") + END


@pytest.fixture
def script() -> Iterator[Daemon]:
    with Daemon() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def scripted(script: Daemon, **options: Any) -> Model:
    return load("nano", engine="ollama", host=script.url.removesuffix("/v1"), model="tiny", **options)


def test_a_daemon_is_named_and_a_request_says_all(script: Daemon) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "go", "arguments": '{"to": "Łódź"}'}}
    messages = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "gone"},
    ]
    with scripted(script, keep_alive="5m", context=99) as model:
        assert "Ollama 0.21.0 at http" in model.why
        reply = model.chat(messages, max_tokens=5, temperature=0.5, stop="x", schema={"type": "object"})
    (body,) = script.asked
    assert (body["model"], body["keep_alive"], body["format"]) == ("tiny", "5m", {"type": "object"})
    assert (body["stream"], body["truncate"]) == (True, False)
    options = {"num_ctx": 99, "num_predict": 5, "temperature": 0.5, "stop": ["x"], "seed": 0, "min_p": 0.0}
    assert options.items() <= body["options"].items()
    assert body["messages"][1]["tool_calls"] == [{"function": {"name": "go", "arguments": {"to": "Łódź"}}}]
    assert body["messages"][2] == {"role": "tool", "content": "gone", "tool_name": "go"}
    assert (reply.text, reply.finish_reason, reply.usage.prompt_tokens) == ("Hi", "stop", 7)
    assert reply.usage.completion_tokens == 5


def test_a_thought_stays_in_the_text(script: Daemon) -> None:
    script.answer = (
        line(thinking="Let me") + line(thinking=" see.") + line(content="Yes") + line(content="!") + END
    )
    with scripted(script) as model:
        assert model.chat("hi").text == "<think>Let me see.</think>Yes!"
        script.answer = line(thinking="Hm") + END
        assert model.chat("hi").text == "<think>Hm</think>"


def test_calls_are_objects_already(script: Daemon) -> None:
    calls = [{"function": {"name": "go", "arguments": {"to": {"x": 1}}}}] * 2
    script.answer = line(tool_calls=calls) + END
    with scripted(script) as model:
        reply = model.chat("hi", tools=[{"type": "function", "function": {"name": "go", "parameters": {}}}])
    assert [(c.name, c.arguments, c.id) for c in reply.tool_calls] == [
        ("go", {"to": {"x": 1}}, "call_0"),
        ("go", {"to": {"x": 1}}, "call_1"),
    ]
    assert (reply.finish_reason, reply.usage.completion_tokens) == ("tool_calls", 5)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>\n",
        line(content="a"),
        line(content="a") + b'{"message": {"con',
        line(content="a") + b'{"error": "llama runner process has terminated"}\n',
        b"[1]\n",
        b'{"message": 7}\n',
        b"[" * 100_000 + b"\n",
    ],
    ids=lambda answer: answer[:60].decode(),
)
def test_an_answer_that_is_not_whole_is_never_taken_for_whole(script: Daemon, answer: bytes) -> None:
    script.answer = answer
    with scripted(script) as model, pytest.raises(EngineFailed) as caught:
        model.chat("hi")
    assert caught.value.fix


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (404, "model 'tiny' not found", ModelNotFound),
        (400, "the input length exceeds the context length", ContextOverflow),
        (400, "tiny does not support tools", OptionInvalid),
        (500, "model requires more system memory (9 GiB) than is available (1 GiB)", NotEnoughMemory),
        (503, "server busy, please try again. maximum pending requests exceeded", EngineUnavailable),
        (500, "unexpected EOF", EngineFailed),
    ],
)
def test_a_refusal_is_told_apart(script: Daemon, status: int, words: str, kind: type[LabkitError]) -> None:
    with scripted(script) as model:
        script.status, script.answer = status, json.dumps({"error": words}).encode()
        with pytest.raises(LabkitError) as caught:
            model.chat("hi")
    assert type(caught.value) is kind and words in caught.value.what and caught.value.fix


def test_silence_ends_in_a_timeout_and_closing_hangs_up(script: Daemon) -> None:
    with scripted(script, timeout=0.2) as model:
        script.pieces, script.pause = [line(content="a"), END], 1.0
        with pytest.raises(EngineTimeout):
            model.chat("hi")
    with scripted(script) as model:
        script.hung_up.clear()
        script.pieces, script.pause = [line(content="a")] * 1000, 0.01
        stream = model.stream("hi")
        next(stream)
        stream.close()
        assert script.hung_up.wait(5)


def test_what_is_no_ollama_is_an_error(script: Daemon) -> None:
    for script.models in (b"<html>", b"[]", b'{"version": "1"}', None):
        with pytest.raises(LabkitError) as caught:
            scripted(script)
        assert caught.value.fix


class Function(dict[str, Any]):
    """What prints as JSON in Ollama's templates, and has a Name there."""

    def __missing__(self, key: str) -> Any:
        return self[key.lower()]


def go_data(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> dict[str, Any]:
    """What Ollama hands to a template."""
    turns = []
    for message in messages:
        calls = [call["function"] for call in message.get("tool_calls", ())]
        made = [{"Function": {"Name": c["name"], "Arguments": json.loads(c["arguments"])}} for c in calls]
        turns.append({"Role": message["role"], "Content": message["content"], "ToolCalls": made})
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    return {
        "System": system,
        "Tools": [{"Function": Function(t["function"])} for t in tools],
        "Messages": turns,
    }


def test_the_template_says_in_go_what_nanos_own_says() -> None:
    def call(arguments: dict[str, Any]) -> dict[str, Any]:
        function = {"name": "go", "arguments": json.dumps(arguments, ensure_ascii=False)}
        return {"id": "c", "type": "function", "function": function}

    tool = {"type": "function", "function": {"name": "go", "parameters": {"type": "object"}}}
    system, user = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "go"}
    one = {"role": "assistant", "content": "", "tool_calls": [call({"to": "Łódź"})]}
    two = {"role": "assistant", "content": "Well", "tool_calls": [call({"to": 1}), call({})]}
    gone, plain = {"role": "tool", "content": "{}"}, {"role": "assistant", "content": "ok"}
    own = ChatTemplate(shipped_template(Ref(package="nano")), trusted=True)
    for talk in ([user], [user, plain, user], [user, one, gone], [user, two, gone, gone, plain, user]):
        for messages in (talk, [system, *talk]):
            for tools in ([], [tool], [tool, tool]):
                assert render(TEMPLATE, go_data(messages, tools)) == own.render(messages, tools or None)


def test_ollama_finds_the_tag_of_a_call_in_the_template() -> None:
    """It takes the first text within `if .ToolCalls` up to a brace (tools/template.go in Ollama's source)."""
    inside = TEMPLATE.split("{{ if .ToolCalls }}")[1]
    assert re.match(r"\{\{ range [^}]*\}\}<tool_call>\n\{", inside)
