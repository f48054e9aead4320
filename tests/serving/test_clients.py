"""The official openai and ollama clients, used as their own guides say, on the gateway with nano behind it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from running_gateway import Running, running

from labkit.engines.registry import engine_class

openai = pytest.importorskip("openai", reason="openai is not installed: pip install 'labkit[agents]'")
ollama = pytest.importorskip("ollama", reason="ollama is not installed: pip install 'labkit[ollama]'")

if not engine_class("llamaserver").available().installed:
    pytest.skip("llamaserver is not installed: pip install 'labkit[llamaserver]'", allow_module_level=True)

HELLO = [{"role": "user", "content": "Hello! Who are you?"}]
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
        },
    },
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    backend = "box=llamaserver;model=nano;threads=1;slots=2;embeddings=true;tasks=chat+tools+json+embed"
    with running(tmp_path_factory.mktemp("box"), backend, keys=True) as found:
        yield found


@pytest.fixture(scope="module")
def key(box: Running) -> str:
    return str(box.gateway.keys.add("a student", requests=100_000)[1])


@pytest.fixture(scope="module")
def gpt(box: Running, key: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{box.url}/v1", api_key=key, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def llama(box: Running, key: str) -> Iterator[Any]:
    with ollama.Client(box.url, headers={"Authorization": f"Bearer {key}"}) as client:
        yield client


def test_openai_lists_models(gpt: Any) -> None:
    assert [model.id for model in gpt.models.list()] == ["nano"] and gpt.models.retrieve("nano").id == "nano"


def test_openai_chats(gpt: Any) -> None:
    answer = gpt.chat.completions.create(model="nano", messages=HELLO, max_tokens=16, temperature=0, seed=1)
    choice = answer.choices[0]
    assert choice.message.content and choice.message.role == "assistant"
    assert choice.finish_reason in ("stop", "length")
    assert 0 < answer.usage.completion_tokens <= 16 and answer.usage.prompt_tokens > 0


def test_openai_streams_what_it_says_whole(gpt: Any) -> None:
    asked: dict[str, Any] = {"model": "nano", "messages": HELLO, "max_tokens": 24, "temperature": 0}
    whole = gpt.chat.completions.create(**asked).choices[0]
    chunks = list(gpt.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.finish_reason
    assert chunks[-1].usage.completion_tokens <= 24 and chunks[0].choices[0].delta.role == "assistant"


def test_openai_streams_by_its_helper(gpt: Any) -> None:
    with gpt.chat.completions.stream(model="nano", messages=HELLO, max_tokens=8) as stream:
        seen = [event.delta for event in stream if event.type == "content.delta"]
    assert "".join(seen) == stream.current_completion_snapshot.choices[0].message.content


def test_openai_calls_a_tool_and_reads_its_result(gpt: Any) -> None:
    turns: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    asked: dict[str, Any] = {"model": "nano", "tools": [WEATHER], "temperature": 0, "max_tokens": 64}
    message = gpt.chat.completions.create(messages=turns, tool_choice="required", **asked).choices[0].message
    call = message.tool_calls[0]
    assert call.function.name == "get_weather" and set(json.loads(call.function.arguments)) == {"city"}
    turns += [message, {"role": "tool", "tool_call_id": call.id, "content": '{"temperature": 18}'}]
    again = gpt.chat.completions.create(messages=turns, tool_choice="none", **asked).choices[0].message
    assert again.content and not again.tool_calls


def test_openai_streams_a_tool_call(gpt: Any) -> None:
    turns = [{"role": "user", "content": "What is the weather in Paris?"}]
    named = {"type": "function", "function": {"name": "get_weather"}}
    asked: dict[str, Any] = {"model": "nano", "messages": turns, "tools": [WEATHER], "max_tokens": 64}
    with gpt.chat.completions.stream(**asked, tool_choice=named, temperature=0) as stream:
        choice = stream.get_final_completion().choices[0]
    assert (
        choice.message.tool_calls[0].function.name == "get_weather" and choice.finish_reason == "tool_calls"
    )


def test_openai_keeps_to_a_schema(gpt: Any) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    turns = [{"role": "user", "content": "Anna is 31 years old."}]
    answer = gpt.chat.completions.create(model="nano", messages=turns, response_format=form, max_tokens=100)
    assert set(json.loads(answer.choices[0].message.content)) == {"name", "age"}


def test_openai_completes_and_embeds(gpt: Any) -> None:
    assert gpt.completions.create(model="nano", prompt="Hello", max_tokens=4).choices[0].text
    pieces = gpt.completions.create(model="nano", prompt="Hello", max_tokens=4, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices)
    found = gpt.embeddings.create(model="nano", input=["a cat", "a dog"])  # base64, the client's own default
    assert len(found.data) == 2 and len(found.data[0].embedding) == len(found.data[1].embedding) > 0
    plain = gpt.embeddings.create(model="nano", input="a cat", encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(found.data[0].embedding, rel=1e-3, abs=1e-4)


def test_openai_gets_its_own_errors(box: Running, gpt: Any) -> None:
    with pytest.raises(openai.NotFoundError, match="no model"):
        gpt.chat.completions.create(model="other", messages=HELLO)
    with pytest.raises(openai.BadRequestError, match="temperature"):
        gpt.chat.completions.create(model="nano", messages=HELLO, temperature=-1)
    with openai.OpenAI(base_url=f"{box.url}/v1", api_key="no-key", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError):
            stranger.chat.completions.create(model="nano", messages=HELLO)


@pytest.mark.parametrize("stream", [False, True])
def test_openai_async(box: Running, key: str, stream: bool) -> None:
    import asyncio

    async def ask() -> str:
        async with openai.AsyncOpenAI(base_url=f"{box.url}/v1", api_key=key) as client:
            answer = await client.chat.completions.create(
                model="nano", messages=HELLO, max_tokens=4, stream=stream
            )
            if not stream:
                return str(answer.choices[0].message.content)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in answer if chunk.choices])

    assert asyncio.run(ask())


def test_ollama_lists_and_shows(llama: Any) -> None:
    assert [model.model for model in llama.list().models] == ["nano:latest"]
    assert "completion" in llama.show("nano").capabilities and llama.ps().models == []


def test_ollama_chats(llama: Any) -> None:
    answer = llama.chat("nano", HELLO, options={"num_predict": 16, "temperature": 0})
    assert answer.message.content and answer.done and 0 < answer.eval_count <= 16
    pieces = list(llama.chat("nano", HELLO, options={"num_predict": 16, "temperature": 0}, stream=True))
    assert "".join(piece.message.content for piece in pieces) == answer.message.content
    assert pieces[-1].done and pieces[-1].eval_count == answer.eval_count


def test_ollama_generates(llama: Any) -> None:
    answer = llama.generate("nano", "Hello!", options={"num_predict": 8})
    assert answer.response and answer.done
    assert "".join(
        p.response for p in llama.generate("nano", "Hello!", options={"num_predict": 8}, stream=True)
    )


def test_ollama_offers_tools_and_a_format(llama: Any) -> None:
    def get_weather(city: str) -> str:
        """Get the weather in a city.

        Args:
          city: Its name.
        """
        return city

    answer = llama.chat(
        "nano", [{"role": "user", "content": "What is the weather in Paris?"}], tools=[get_weather]
    )
    assert answer.message.tool_calls or answer.message.content
    told = llama.chat("nano", [{"role": "user", "content": "Anna is 31 years old."}], format=PERSON)
    assert set(json.loads(told.message.content)) == {"name", "age"}


def test_ollama_embeds(llama: Any) -> None:
    found = llama.embed("nano", ["a cat", "a dog"]).embeddings
    assert len(found) == 2 and len(found[0]) == len(found[1]) > 0


def test_ollama_gets_its_own_errors(box: Running, llama: Any) -> None:
    with pytest.raises(ollama.ResponseError, match="not found") as caught:
        llama.chat("other", HELLO)
    assert caught.value.status_code == 404
    with ollama.Client(box.url, headers={"Authorization": "Bearer no-key"}) as stranger:
        with pytest.raises(ollama.ResponseError) as caught:
            stranger.chat("nano", HELLO)
    assert caught.value.status_code == 401


def test_a_notebook_loads_it_as_an_engine(box: Running, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from labkit import load

    monkeypatch.setenv("LABKIT_CLASS_KEY", key)
    with load("nano", engine="openai", url=f"{box.url}/v1", key_env="LABKIT_CLASS_KEY") as m:
        assert m.chat("Hello!", max_tokens=8).text
