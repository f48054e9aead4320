"""What every engine promises. One list of engines, one suite; a new engine is one more line in `ENGINES`."""

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import numpy as np
import psutil
import pytest

from labkit import Model, load
from labkit.engines.llamacpp import LlamaCpp
from labkit.engines.process import ServerProcess
from labkit.engines.registry import engine_class
from labkit.errors import ContextOverflow, EngineFailed, EngineUnavailable, LabkitError, OptionInvalid
from labkit.serving.endpoint import start_ollama_api
from labkit.types import Tool

# Each engine's name and options of `load`.
ENGINES: dict[str, dict[str, Any]] = {
    "echo": {},
    "llamacpp": {"threads": 1},
    "llamacpp with a draft": {"threads": 1, "draft": "pico"},
    "llamaserver": {"threads": 1, "slots": 2, "context": 512},
    "openai": {},
    "onnx": {"threads": 1},
    "mlx": {},
    "foundry": {"threads": 1},
    # Against labkit's own endpoint; `make test-ollama` tells how like a daemon that is.
    "ollama": {"context": 512},
    "vllm": {"threads": 1, "max_model_len": 1024, "max_num_seqs": 8, "start_timeout": 840},
}
# Only `make test-heavy` runs these, and installs them first: there, in CI, a skip is a failure as well.
HEAVY = {"vllm"}
MUST_RUN_IN_CI = {"llamacpp", "llamaserver", "openai", "onnx", "mlx", "foundry", "ollama", "vllm"}
# Engines whose server the suite starts: each can be killed.
SERVERS = ["llamaserver", "openai", "ollama", "vllm"]
# Obey a schema, but know no grammars.
WITHOUT_GRAMMAR = {"ollama", "vllm"}
# Says what it is told: it samples nothing, counts words, and has no context to overflow.
WITHOUT_MODEL = "echo"
HELLO = "Hello there, who are you?"


def marked(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.heavy) if name in HEAVY else name for name in names]


@contextmanager
def running(name: str, url: str = "") -> Iterator[tuple[Model, ServerProcess | None]]:
    """Load nano on an engine, or on its server at `url`; yield it with the process of a server it started."""
    with ExitStack() as stack:
        engine = name.partition(" ")[0]
        require("llamaserver" if name == "openai" else engine)
        options = {"url": url} if url else ENGINES[name]
        process = None
        if name == "ollama":
            require("llamaserver")
            process, url = start_ollama_api(engine="llamaserver", threads=1)
            stack.callback(process.stop)
            options = {**options, "host": url}
        if name == "openai":
            server = stack.enter_context(load("nano", engine="llamaserver", **ENGINES["llamaserver"]))
            options, process = {"url": server.engine.url}, server.engine.process  # type: ignore[attr-defined]
        model = stack.enter_context(load("nano", engine=engine, **options))
        yield model, process or getattr(model.engine, "process", None)


def require(name: str) -> None:
    """Skip, and say why, where an engine is not installed; in CI fail."""
    try:
        state = engine_class(name).available()
        missing = "" if state.installed else f"{state.reason}: {state.fix}"
    except EngineUnavailable as error:
        missing = str(error)
    if missing and os.environ.get("CI") and name in MUST_RUN_IN_CI:
        pytest.fail(f"{name} has to run in CI: {missing}")
    if missing:
        pytest.skip(missing)


@pytest.fixture(params=marked(ENGINES), scope="module")
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    with running(request.param) as (loaded, _):
        yield loaded


@pytest.fixture(scope="module")
def real(model: Model) -> Model:
    """An engine that runs a model, which has read `HELLO` before: what follows starts from the same cache."""
    if model.engine.name == WITHOUT_MODEL:
        pytest.skip("runs no model")
    model.chat(HELLO, max_tokens=1)
    return model


@pytest.fixture
def embeds(real: Model) -> Iterator[Model]:
    if not real.engine.embed:
        pytest.skip("makes no embeddings")
    if real.engine.name != "llamaserver":
        yield real
        return
    with load("nano", engine="llamaserver", **ENGINES["llamaserver"], embeddings=True) as server:
        yield server


@pytest.fixture
def constrained(real: Model) -> Model:
    if not real.engine.constrained:
        pytest.skip("does not constrain its output")
    return real


@pytest.fixture(scope="module")
def reference() -> Iterator[LlamaCpp]:
    """The template and tokenizer that every engine's counts have to agree with."""
    require("llamacpp")
    with load("nano", engine="llamacpp", threads=1) as loaded:
        assert isinstance(loaded.engine, LlamaCpp)
        yield loaded.engine


def seconds(action: Callable[[], None]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def weather(city: str) -> str:
    """Get the current weather in a city."""
    return f"cold in {city}"


def test_chat_returns_a_whole_reply(model: Model) -> None:
    reply = model.chat(HELLO, max_tokens=32)
    assert reply.text
    assert reply.finish_reason in ("stop", "length")
    assert (reply.model, reply.engine) == ("nano", model.engine.name)
    assert reply.usage.prompt_tokens > 0
    assert 0 < reply.usage.completion_tokens <= 32
    assert reply.message == {"role": "assistant", "content": reply.text}


def test_stream_adds_up_to_chat(model: Model) -> None:
    model.chat(HELLO, max_tokens=1)
    chunks = list(model.stream(HELLO, max_tokens=32))
    reply = model.chat(HELLO, max_tokens=32)
    assert "".join(c.text for c in chunks).strip() == reply.text
    assert sum(c.tokens for c in chunks) == reply.usage.completion_tokens
    assert [c.finish_reason for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].finish_reason and chunks[-1].usage


def test_a_stream_comes_in_pieces_and_its_stamps_never_go_back(model: Model) -> None:
    chunks = list(model.stream(HELLO, max_tokens=32))
    stamps = [c.at for c in chunks]
    assert len([c for c in chunks if c.tokens]) > 1
    assert stamps == sorted(stamps)
    assert stamps[0] > 0
    timing = model.reply_of(chunks).timing
    assert 0 < timing.ttft <= timing.total
    assert all(gap >= 0 for gap in timing.itl)


def test_max_tokens_is_kept(model: Model) -> None:
    reply = model.chat("one two three four five six", max_tokens=2)
    assert reply.usage.completion_tokens == 2
    assert reply.finish_reason == "length"


def test_usage_is_what_the_tokenizer_counts(real: Model, reference: LlamaCpp) -> None:
    messages = [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": "Ist es kalt in Łódź? 🙂"},
    ]
    tool = {"type": "function", "function": {"name": "weather", "description": "Say it.", "parameters": CITY}}
    for tools in ([], [tool]):
        usage = real.chat(messages, tools=tools, max_tokens=2).usage
        assert usage.prompt_tokens == len(reference.prompt(messages, tools))
        assert usage.completion_tokens == 2


def test_text_in_any_alphabet_arrives_whole(model: Model) -> None:
    if not model.engine.constrained and model.engine.name != WITHOUT_MODEL:
        pytest.skip("cannot be made to write a given text")
    for text in ("naïve 🙂🙃 🏳️‍🌈", "北京的天气", "مرحبا بالعالم", "one\u2028line\x85or two"):
        # A grammar makes even a tiny model write exactly this, one byte-level token at a time.
        only = {"grammar": f'root ::= "{text}"'} if model.engine.constrained else {}
        only = {"schema": {"enum": [text]}} if model.engine.name in WITHOUT_GRAMMAR else only
        said = "".join(c.text for c in model.stream(text, max_tokens=100, **only))
        assert (json.loads(said) if "schema" in only else said) == text


def test_an_answer_ends_before_a_stop_string(model: Model) -> None:
    model.chat(HELLO, max_tokens=1)
    whole = "".join(c.text for c in model.stream(HELLO, max_tokens=16))
    middle = len(whole) // 2
    stop = whole[middle : middle + 2]
    chunks = list(model.stream(HELLO, max_tokens=16, stop=["never said", stop]))
    assert "".join(c.text for c in chunks) == whole[: whole.find(stop)]
    assert chunks[-1].finish_reason == "stop"


def test_a_stop_string_that_does_not_come_loses_no_text(constrained: Model) -> None:
    if constrained.engine.name in WITHOUT_GRAMMAR:
        pytest.skip("knows no grammars")
    said = constrained.stream("Well?", grammar='root ::= "one two thre"', stop=["three"], max_tokens=32)
    assert "".join(c.text for c in said) == "one two thre"


def test_greedy_answers_are_the_same_each_time(model: Model) -> None:
    assert len({model.chat(HELLO, max_tokens=16).text for _ in range(3)}) == 1


def test_a_seed_decides_what_is_drawn(real: Model) -> None:
    def draw(seed: int) -> str:
        return real.chat(HELLO, max_tokens=12, temperature=2.0, seed=seed).text

    assert draw(1) == draw(1)
    assert len({draw(seed) for seed in range(6)}) > 1


CITY = {"type": "object", "properties": {"city": {"enum": ["Paris"]}}, "required": ["city"]}
PLACE = {
    "type": "object",
    "properties": {
        "place": {
            "type": "object",
            "properties": {"city": {"enum": ["Łódź, 北"]}, "floor": {"enum": [-2]}},
            "required": ["city", "floor"],
        },
        "on": {"type": "boolean"},
    },
    "required": ["place", "on"],
}


def tool(name: str, parameters: dict[str, Any]) -> Tool:
    return {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}


def test_a_tool_is_called_and_its_result_read(constrained: Model) -> None:
    tools, question = [tool("weather", CITY)], {"role": "user", "content": "Is it cold in Paris?"}
    reply = constrained.chat([question], tools=tools, tool_choice="required", max_tokens=64)
    assert (reply.finish_reason, reply.text) == ("tool_calls", "")
    assert {str(call) for call in reply.tool_calls} == {"weather(city='Paris')"}
    assert all(call.id for call in reply.tool_calls)
    results = [{"role": "tool", "tool_call_id": c.id, "content": "-3 °C"} for c in reply.tool_calls]
    answer = constrained.chat([question, reply.message, *results], tools=tools, max_tokens=16)
    assert answer.usage.prompt_tokens > reply.usage.prompt_tokens
    assert answer.usage.completion_tokens


def test_arguments_in_any_alphabet_and_depth_arrive_whole(constrained: Model) -> None:
    reply = constrained.chat("Go", tools=[tool("go_to", PLACE)], tool_choice="required", max_tokens=128)
    place = {"city": "Łódź, 北", "floor": -2}
    assert reply.tool_calls
    for call in reply.tool_calls:
        assert (call.name, call.arguments["place"]) == ("go_to", place)
        assert isinstance(call.arguments["on"], bool)
        assert json.loads(call.openai()["function"]["arguments"]) == call.arguments


def test_a_schema_is_obeyed(constrained: Model) -> None:
    schema = {"type": "object", "properties": {"room": {"enum": ["hall"]}}, "required": ["room"]}
    # Room for the white space that some grammars allow between any two signs.
    assert json.loads(constrained.chat("Where?", schema=schema, max_tokens=128).text) == {"room": "hall"}


def test_embeddings_are_of_length_1_and_the_same_in_any_company(embeds: Model) -> None:
    texts = ["Turn on the light in the kitchen", "Is it cold in Łódź? 🙂", "Hello"]
    together, count = embeds.embed(texts)
    alone = [embeds.embed([text]) for text in texts]
    assert together.shape == (3, 256) and count == sum(tokens for _, tokens in alone)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-4)
    assert np.allclose(together, np.concatenate([vectors for vectors, _ in alone]), atol=1e-3)
    assert together[0] @ together[2] < 0.999


def test_a_text_that_is_too_long_to_embed_is_cut_or_refused(embeds: Model) -> None:
    vectors, count = embeds.embed(["word " * 3_000])
    assert math.isclose(float(np.linalg.norm(vectors)), 1, rel_tol=1e-4) and 0 < count < 3_000
    for texts, error in ((["word " * 3_000], ContextOverflow), (["Hello", ""], OptionInvalid)):
        with pytest.raises(error) as caught:
            embeds.embed(texts, truncate=False)
        assert caught.value.fix


def test_tool_choice_none_hides_the_tools(real: Model) -> None:
    tools = [tool("weather", CITY)]
    shown = real.chat("Hello", tools=tools, max_tokens=1).usage.prompt_tokens
    hidden = real.chat("Hello", tools=tools, tool_choice="none", max_tokens=1).usage.prompt_tokens
    assert hidden < shown


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


def test_bad_load_options_are_refused(model: Model) -> None:
    for bad in ({"colour": 2}, {"threads": "two"}, {"url": 7}):
        with pytest.raises(LabkitError) as caught:
            load("nano", engine=model.engine.name, **bad)
        assert caught.value.fix


@pytest.mark.parametrize(
    "odd",
    [
        {"temperature": 5.0, "top_p": 0.0, "seed": 2**32 - 1},
        {"temperature": 1.0, "min_p": 1.0, "top_k": 1},
        {"repeat_penalty": 10.0},
        {"stop": ["\0", "🙂" * 100]},
        {"grammar": "root ::= ("},
        {"schema": {"type": "moon"}},
        {"schema": {"type": {1, 2}}},
        {"tools": [tool("t", {"type": "object", "properties": {"x": {"type": "moon"}}})]},
        {"tools": [tool("t", {"type": "object", "properties": {"x": {1, 2}}})]},
        {"tools": [tool("t", CITY)], "tool_choice": "required", "max_tokens": 5},
    ],
    ids=str,
)
def test_only_labkit_errors_come_out(model: Model, odd: dict[str, Any]) -> None:
    try:
        reply = model.chat("\0 <|im_end|> \x1b[31m \U0010ffff", **{"max_tokens": 4, **odd})
    except LabkitError as error:
        assert error.fix
    else:
        assert reply.usage.completion_tokens <= 5
    assert model.chat(HELLO, max_tokens=2).usage.completion_tokens


def test_a_prompt_over_the_context_is_refused_and_the_model_stays_usable(real: Model) -> None:
    with pytest.raises(ContextOverflow) as caught:
        real.chat("word " * 5_000)
    assert caught.value.fix
    assert real.chat("Hello", max_tokens=2).usage.completion_tokens


def test_a_stream_left_open_does_not_block_the_next_request(model: Model) -> None:
    unfinished = model.stream(HELLO, max_tokens=32)
    next(unfinished)
    assert model.chat("Hello", max_tokens=4).text
    # An engine that serves one stream at a time ended the first.
    assert bool(list(unfinished)) == model.engine.concurrent


def test_a_stream_that_is_closed_frees_the_engine_within_a_second(real: Model) -> None:
    def close_and_ask() -> None:
        stream.close()
        assert real.chat("Hello", max_tokens=1).usage.completion_tokens

    plain, took = seconds(lambda: real.chat("Hello", max_tokens=1)), []
    for _ in range(3):  # more than there are slots
        stream = real.stream("one two three", max_tokens=400)
        next(stream)
        took.append(seconds(close_and_ask))
    assert min(took) < 1 + 3 * plain, "one of three: the machine may be busy"


def test_interrupt_is_passed_on_and_the_model_stays_usable(model: Model) -> None:
    def interrupt_and_ask() -> None:
        with pytest.raises(KeyboardInterrupt):
            for _ in model.stream(HELLO, max_tokens=64):
                raise KeyboardInterrupt
        assert model.chat("Hello", max_tokens=4).text

    plain = seconds(lambda: model.chat("Hello", max_tokens=4))
    assert min(seconds(interrupt_and_ask) for _ in range(3)) < 1 + 3 * plain


def test_threads_may_ask_at_once(model: Model) -> None:
    def ask() -> None:
        replies.append(model.chat(HELLO, max_tokens=16).text)

    replies: list[str] = []
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(replies) == 4 and all(replies)
    # Batched with others, sums are taken in another order, and a near tie may fall the other way.
    assert model.engine.concurrent or len(set(replies)) == 1


def test_closing_twice_is_harmless_and_use_after_it_is_an_error(model: Model) -> None:
    # A second vLLM would take another minute to start.
    url = model.engine.url if model.engine.name in HEAVY else ""  # type: ignore[attr-defined]
    with running(model.engine.name, url) as (second, _):
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
    if not model.engine.embed:
        with pytest.raises(OptionInvalid):
            model.embed(["hello"])
    with pytest.raises(OptionInvalid):
        model.chat("hello", tool_choice="required")


@pytest.mark.parametrize("name", marked(SERVERS))
def test_a_server_killed_in_mid_stream_is_an_error_and_leaves_nothing_behind(name: str) -> None:
    with running(name) as (model, process):
        assert process
        server, guard = psutil.Process(process.pid), psutil.Process(process.pid).parent()
        long: dict[str, Any] = {"ignore_eos": True}
        long = {"schema": {"enum": ["word " * 400]}} if name == "ollama" else long
        stream = model.stream(HELLO, max_tokens=400, **long)
        with closing(stream):
            next(stream)
            os.kill(server.pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
            with pytest.raises(EngineFailed) as caught:
                list(stream)
        assert caught.value.fix
        with pytest.raises(LabkitError):
            model.chat("hi", max_tokens=1)
    assert guard and not server.is_running() and not guard.is_running()


@pytest.mark.parametrize("name", marked(SERVERS))
def test_a_server_ends_with_its_model(name: str) -> None:
    with running(name) as (model, process):
        assert process and math.isfinite(model.chat("hi", max_tokens=2).timing.ttft)
        server = psutil.Process(process.pid)
    assert not server.is_running()


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
