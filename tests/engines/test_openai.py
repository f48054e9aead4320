"""The OpenAI engine against a scripted server: what it sends, what it makes of answers, and of faults."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from labkit import Model, load
from labkit.errors import (
    ContextOverflow,
    EngineFailed,
    EngineTimeout,
    EngineUnavailable,
    LabkitError,
    ModelNotFound,
    OptionInvalid,
)

KEY = "sk-a-secret-key"
NOTHING = {"type": "object", "properties": {}}
TOOL = {"type": "function", "function": {"name": "go", "description": "Go.", "parameters": NOTHING}}


def event(**parts: Any) -> bytes:
    return b"data: " + json.dumps(parts, ensure_ascii=False).encode() + b"\n\n"


def delta(finish: str | None = None, **parts: Any) -> bytes:
    return event(choices=[{"index": 0, "delta": parts, "finish_reason": finish}])


DONE = b"data: [DONE]\n\n"
USAGE = event(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 3})
HELLO = [
    delta(role="assistant", content=None),
    delta(content="Hel"),
    delta(content="lo"),
    delta("stop"),
    USAGE,
    DONE,
]


class Script(ThreadingHTTPServer):
    """Answers as its attributes say, and keeps what it was asked."""

    daemon_threads = True
    status, answer, content_type = 200, b"".join(HELLO), "text/event-stream"
    models: bytes | None = b'{"data": [{"id": "nano", "owned_by": "somebody"}]}'
    pieces: list[bytes] | None = None
    pause = 0.0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.hung_up = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Script

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.reply(
            404 if self.server.models is None else 200, "application/json", [self.server.models or b""]
        )

    def do_POST(self) -> None:
        script = self.server
        script.headers = dict(self.headers)
        script.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.reply(script.status, script.content_type, script.pieces or [script.answer])

    def reply(self, status: int, kind: str, pieces: list[bytes]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        try:
            for piece in pieces:
                self.wfile.write(piece)
                self.wfile.flush()
                time.sleep(self.server.pause)
        except OSError:
            self.server.hung_up.set()


@pytest.fixture
def script() -> Iterator[Script]:
    with Script() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def model(script: Script) -> Iterator[Model]:
    with load("nano", engine="openai", url=script.url, timeout=5) as loaded:
        yield loaded


def served_by(script: Script, owner: str) -> Model:
    script.models = json.dumps({"data": [{"id": "nano", "owned_by": owner}]}).encode()
    return load("nano", engine="openai", url=script.url)


def test_a_request_says_all_that_was_asked_for(script: Script, model: Model) -> None:
    reply = model.chat("hi", tools=[TOOL], stop="x", max_tokens=5, seed=3, temperature=0.5, top_p=0.9)
    (body,) = script.asked
    assert body["messages"] == [{"role": "user", "content": "hi"}]
    assert (body["model"], body["stream"], body["stream_options"]) == ("nano", True, {"include_usage": True})
    assert (body["max_tokens"], body["seed"], body["temperature"], body["top_p"]) == (5, 3, 0.5, 0.9)
    assert (body["stop"], body["tools"], body["tool_choice"]) == (["x"], [TOOL], "auto")
    assert "top_k" not in body and "response_format" not in body
    assert (reply.text, reply.finish_reason, reply.usage.prompt_tokens) == ("Hello", "stop", 7)
    assert model.variant == "served"


def test_tools_are_not_sent_where_none_may_be_called(script: Script, model: Model) -> None:
    model.chat("hi", tools=[TOOL], tool_choice="none")
    assert "tools" not in script.asked[0]


def test_a_schema_becomes_the_response_format(script: Script, model: Model) -> None:
    model.chat("hi", schema={"type": "object"})
    assert script.asked[0]["response_format"]["json_schema"]["schema"] == {"type": "object"}


BEYOND = {"top_k": 3, "min_p": 0.1, "repeat_penalty": 1.5, "ignore_eos": True, "grammar": 'root ::= "a"'}


@pytest.mark.parametrize("name", BEYOND)
def test_what_a_server_would_not_obey_is_refused(model: Model, name: str) -> None:
    with pytest.raises(OptionInvalid, match=name):
        model.chat("hi", **{name: BEYOND[name]})


def test_servers_that_take_more_are_told_more_in_their_words(script: Script) -> None:
    with served_by(script, "llamacpp") as llamacpp:
        llamacpp.chat("hi", **BEYOND)  # type: ignore[arg-type]
    assert BEYOND.items() <= script.asked[-1].items() and script.asked[-1]["timings_per_token"]
    with served_by(script, "vllm") as vllm:
        vllm.chat("hi", top_k=3, repeat_penalty=1.5)
    assert (script.asked[-1]["top_k"], script.asked[-1]["repetition_penalty"]) == (3, 1.5)
    assert script.asked[-1]["stream_options"]["continuous_usage_stats"]


@pytest.mark.parametrize("owner", ["llamacpp", "vllm"])
def test_a_required_call_is_put_as_a_schema(script: Script, owner: str) -> None:
    script.pieces = [delta(content='{"name": "go", '), delta(content='"arguments": {}}'), delta("stop"), DONE]
    with served_by(script, owner) as model:
        reply = model.chat("hi", tools=[TOOL], tool_choice="required")
    assert script.asked[0]["tool_choice"] == "none" and script.asked[0]["tools"] == [TOOL]
    assert (reply.text, reply.finish_reason, str(reply)) == ("", "tool_calls", "→ go()")


def test_the_key_goes_to_the_server_and_nowhere_else(
    script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with load("nano", engine="openai", url=script.url, key_env="MY_KEY") as model:
        script.status, script.answer = 401, b'{"error": {"message": "no such key: %s"}}' % KEY.encode()
        with pytest.raises(EngineUnavailable) as caught:
            model.chat("hi")
        assert script.headers["Authorization"] == f"Bearer {KEY}"
        assert "MY_KEY" in caught.value.fix
        assert KEY not in f"{caught.value} {model!r} {model.engine!r} {capsys.readouterr()}"
    with pytest.raises(OptionInvalid):
        load("nano", engine="openai", url=script.url, api_key=KEY)
    monkeypatch.setenv("MY_KEY", "sk-\nevil: header")
    with pytest.raises(OptionInvalid) as caught_bad:
        load("nano", engine="openai", url=script.url, key_env="MY_KEY")
    assert "evil" not in str(caught_bad.value)


def call(index: int, arguments: str, **more: str) -> bytes:
    function = {"arguments": arguments} | ({"name": more["name"]} if "name" in more else {})
    return delta(
        tool_calls=[{"index": index, "function": function} | ({"id": more["id"]} if "id" in more else {})]
    )


def test_tool_calls_are_put_together_by_index(script: Script, model: Model) -> None:
    place = {"place": {"city": "Łódź 🙂", "floors": [-1, {"x": None}]}, "on": True}
    first, second = json.dumps(place, ensure_ascii=False), '{"city": "北京"}'
    script.pieces = [
        delta(content="Well, "),
        call(0, "", name="go", id="a"),
        call(1, "", name="come", id="b"),
    ]
    script.pieces += [call(0, c) + call(1, d) for c, d in zip(first, second.ljust(len(first)), strict=True)]
    script.pieces += [delta("tool_calls"), DONE]
    reply = model.chat("hi", tools=[TOOL])
    assert [(c.name, c.arguments, c.id) for c in reply.tool_calls] == [
        ("go", place, "a"),
        ("come", {"city": "北京"}, "b"),
    ]
    assert (reply.text, reply.finish_reason) == ("Well,", "tool_calls")
    assert len(reply.timing.stamps) > len(second), "each part of a call counts as output"


def test_a_call_that_does_not_parse_is_shown_as_text(script: Script, model: Model) -> None:
    script.pieces = [call(0, '{"city": "Par', name="go"), delta("length"), DONE]
    reply = model.chat("hi", tools=[TOOL])
    assert (reply.tool_calls, reply.finish_reason) == ((), "length")
    assert reply.text == '<tool_call>go {"city": "Par'


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_bytes_may_be_split_anywhere(script: Script, model: Model, size: int) -> None:
    text = "naïve 🙂\u2028北\x85京\r\n"
    data = b"".join(
        [b": comment\n\n", delta(content=""), *(delta(content=c) for c in text), delta("stop"), DONE]
    )
    data = data.replace(b"\n\n", b"\r\n\r\n")
    script.pieces = [data[i : i + size] for i in range(0, len(data), size)]
    assert "".join(c.text for c in model.stream("hi")) == text


def test_tokens_add_up_whatever_the_server_counts(script: Script) -> None:
    def counts(owner: str, *pieces: bytes) -> tuple[list[int], int]:
        script.pieces = [*pieces, delta("stop"), DONE]
        with served_by(script, owner) as model:
            chunks = list(model.stream("hi"))
        assert chunks[-1].usage
        return [c.tokens for c in chunks], chunks[-1].usage.completion_tokens

    def timed(text: str, count: int) -> bytes:
        return event(choices=[{"delta": {"content": text}}], timings={"predicted_n": count})

    total = event(choices=[], usage={"prompt_tokens": 1, "completion_tokens": 6})
    assert counts("somebody", delta(content="a"), delta(content="b")) == ([1, 1, 0], 2)
    assert counts("somebody", delta(content="a"), delta(content="b"), total) == ([1, 1, 4], 6)
    assert counts("llamacpp", timed("a", 1), timed("🙂", 5), total) == ([1, 4, 1], 6)
    assert counts("somebody", delta(reasoning_content="hm"), delta(content="b"), total) == ([1, 1, 4], 6)


@pytest.mark.parametrize(
    ("status", "said", "error"),
    [
        (400, '{"error": {"message": "maximum context length is 512 tokens"}}', ContextOverflow),
        (400, '{"error": {"message": "exceeds the available context size (512)"}}', ContextOverflow),
        (400, '{"error": {"message": "unknown parameter: seed"}}', OptionInvalid),
        (401, "{}", EngineUnavailable),
        (403, "no", EngineUnavailable),
        (404, '{"error": {"message": "no such model"}}', ModelNotFound),
        (429, "slow down", EngineUnavailable),
        (500, "<html>oops</html>", EngineFailed),
        (503, "", EngineFailed),
        (307, "", EngineFailed),
    ],
)
def test_a_status_becomes_the_error_it_means(
    script: Script, model: Model, status: int, said: str, error: type[LabkitError]
) -> None:
    script.status, script.answer = status, said.encode()
    with pytest.raises(error, match=str(status)) as caught:
        model.chat("hi")
    assert type(caught.value) is error and caught.value.fix
    script.status, script.answer = 200, b"".join(HELLO)
    assert model.chat("hi").text == "Hello"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>a login page</html>",
        delta(content="a"),
        delta(content="a") + DONE,
        delta(content="a") + b'data: {"choices": [{"del',
        delta(content="a") + b"data: {half\n\n" + delta("stop") + DONE,
        b"data: [1, 2]\n\n",
        b'data: {"choices": 7}\n\n',
        b"data: " + b"[" * 100_000 + b"\n\n",
        delta(content="a") + event(error={"message": "out of memory", "code": 500}),
        delta(content="a") + event(error="out of memory"),
        delta(content="a") + delta("content_filter") + DONE,
    ],
    ids=lambda answer: answer[:60].decode(),
)
def test_an_answer_that_is_not_whole_is_never_taken_for_whole(
    script: Script, model: Model, answer: bytes
) -> None:
    script.answer = answer
    with pytest.raises(EngineFailed) as caught:
        model.chat("hi")
    assert caught.value.fix


def test_silence_ends_in_a_timeout(script: Script) -> None:
    script.pieces, script.pause = [delta(content="a"), delta("stop"), DONE], 1.0
    script.models = None
    with load("nano", engine="openai", url=script.url, timeout=0.2) as model:
        with pytest.raises(EngineTimeout, match="in time"):
            model.chat("hi")


def test_closing_a_stream_hangs_up(script: Script, model: Model) -> None:
    script.pieces, script.pause = [delta(content="a")] * 1000, 0.01
    stream = model.stream("hi")
    next(stream)
    stream.close()
    assert script.hung_up.wait(5)


def test_closing_the_model_ends_streams_of_other_threads(script: Script) -> None:
    script.pieces, script.pause = [delta(content="a")] * 500, 0.01
    model = load("nano", engine="openai", url=script.url)
    begun, seen = threading.Event(), list[BaseException]()

    def read() -> None:
        try:
            for _ in model.stream("hi"):
                begun.set()
        except BaseException as error:
            seen.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    assert begun.wait(5)
    model.close()
    thread.join(10)
    assert not thread.is_alive() and [type(e) for e in seen] == [EngineFailed]


def test_nobody_at_the_url() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(EngineUnavailable, match="nothing answers") as caught:
        load("nano", engine="openai", url=f"http://127.0.0.1:{port}")
    assert "start the server" in caught.value.fix


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"url": ""},
        {"url": 7},
        {"url": "127.0.0.1:8080"},
        {"url": "ftp://x/v1"},
        {"url": "http://"},
        {"url": "http://user:pass-word@127.0.0.1/v1"},
        {"url": "http://x/\0"},
        {"url": "http://x/v1", "timeout": 0},
        {"url": "http://x/v1", "timeout": "soon"},
        {"url": "http://x/v1", "key_env": 7},
        {"url": "http://x/v1", "variant": "Q8_0"},
    ],
    ids=str,
)
def test_bad_load_options_are_refused_before_anything_is_sent(bad: dict[str, Any]) -> None:
    with pytest.raises(OptionInvalid) as caught:
        load("nano", engine="openai", **bad)
    assert caught.value.fix and "pass-word" not in str(caught.value)


def test_a_model_only_the_server_knows_is_found_by_the_servers_name(script: Script) -> None:
    script.models = b'{"data": [{"id": "some/Model-7B.gguf"}, {"id": "other"}]}'
    with load("some/Model-7B.gguf", engine="openai", url=script.url) as model:
        assert model.chat("hi").model == "some/Model-7B.gguf"
        assert script.asked[0]["model"] == "some/Model-7B.gguf"
    with load("nano", engine="openai", url=f"{script.url}/", model="other") as model:
        model.chat("hi")
        assert script.asked[1]["model"] == "other"
    with pytest.raises(ModelNotFound) as caught:
        load("missing", engine="openai", url=script.url)
    assert "'other'" in caught.value.fix
    with pytest.raises(ModelNotFound):
        load("some/Model-7B", engine="openai")


def test_a_server_without_a_list_is_asked_all_the_same(script: Script) -> None:
    script.models = None
    with load("anything", engine="openai", url=script.url) as model:
        assert model.chat("hi").text == "Hello"


def test_a_server_that_is_none_is_an_error(script: Script) -> None:
    for script.models in (b"<html>", b"[]", b'{"models": []}', b'{"data": [{"name": "x"}]}'):
        with pytest.raises(EngineFailed, match="no OpenAI answer"):
            load("nano", engine="openai", url=script.url)


def test_a_key_never_leaves_this_machine_unencrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with pytest.raises(OptionInvalid, match="without encryption") as caught:
        load("nano", engine="openai", url="http://192.0.2.1:8000/v1")
    assert "sk-secret" not in str(caught.value)
