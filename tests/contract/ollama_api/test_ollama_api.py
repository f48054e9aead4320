"""What an Ollama daemon does, asked through its official client (and httpx for what that hides).

`OLLAMA_HOST=… make test-ollama` runs this against a daemon, `make test-ollama` against labkit's endpoint. Nothing
here asks for more than a daemon gives, so where versions of Ollama differ, either answer passes.
"""

import hashlib
import json
import math
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import mul
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

from labkit.engines.ollama_daemon import STOPS, TEMPLATE

MISSING = "labkit-suite-missing:none"
HELLO = [{"role": "user", "content": "Hello there, who are you?"}]
GREEDY = {"temperature": 0, "seed": 1, "num_predict": 12}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "The city"}},
            "required": ["city"],
        },
    },
}
DURATIONS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")


def lines(http: httpx.Client, path: str, **body: Any) -> list[dict[str, Any]]:
    with http.stream("POST", path, json=body) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        return [json.loads(line) for line in answer.read().splitlines()]


def loaded(client: ollama.Client) -> list[str]:
    return [str(model.name) for model in client.ps().models]


def until(true: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.1)
    return true()


def test_it_says_what_it_is(http: httpx.Client) -> None:
    assert http.get("/").text == "Ollama is running"
    assert http.head("/").status_code == 200
    assert re.match(r"\d+\.\d+", http.get("/api/version").json()["version"])


def test_a_created_model_is_listed(client: ollama.Client, model: str) -> None:
    (found,) = [entry for entry in client.list().models if entry.model == model]
    assert found.digest and re.fullmatch(r"[0-9a-f]{64}", found.digest)
    assert found.size and found.size > 1_000_000
    assert found.modified_at and abs(datetime.now(UTC) - found.modified_at) < timedelta(hours=1)
    assert found.details and (found.details.format, found.details.family) == ("gguf", "llama")


def test_show_tells_what_the_modelfile_said(client: ollama.Client, model: str, gguf: Path) -> None:
    shown = client.show(model)
    assert shown.template == TEMPLATE
    assert hashlib.sha256(gguf.read_bytes()).hexdigest() in (shown.modelfile or "")
    assert re.search(r"^FROM ", shown.modelfile or "", re.MULTILINE)
    assert re.search(rf'^stop\s+"{re.escape(STOPS[0])}"$', shown.parameters or "", re.MULTILINE)
    assert {"completion", "tools"} <= set(shown.capabilities or ())
    assert shown.details and shown.details.quantization_level in gguf.stem
    assert shown.modelinfo and shown.modelinfo["general.architecture"] == "llama"


def test_a_chat_streams_pieces_and_then_the_figures(http: httpx.Client, model: str) -> None:
    *pieces, last = lines(http, "/api/chat", model=model, messages=HELLO, options=GREEDY)
    assert len(pieces) > 1 and not any(piece["done"] for piece in pieces)
    assert {piece["message"]["role"] for piece in pieces} == {"assistant"}
    assert {piece["model"] for piece in (*pieces, last)} == {model}
    assert all(datetime.fromisoformat(re.sub(r"\.\d+", "", p["created_at"])) for p in pieces)
    assert "".join(piece["message"]["content"] for piece in pieces)
    assert last["done"] is True and last["done_reason"] in ("stop", "length")
    assert all(isinstance(last[name], int) and last[name] >= 0 for name in DURATIONS)
    assert last["total_duration"] >= last["eval_duration"] > 0
    assert last["prompt_eval_count"] > 0 and 0 < last["eval_count"] <= GREEDY["num_predict"]


def test_without_streaming_the_same_comes_at_once(client: ollama.Client, model: str) -> None:
    whole = client.chat(model, HELLO, options=GREEDY)
    pieces = list(client.chat(model, HELLO, options=GREEDY, stream=True))
    assert whole.message.content == "".join(piece.message.content or "" for piece in pieces)
    assert whole.done and whole.eval_count == pieces[-1].eval_count
    assert client.chat(model, HELLO, options=GREEDY).message.content == whole.message.content


def test_a_prompt_is_generated_from(client: ollama.Client, http: httpx.Client, model: str) -> None:
    whole = client.generate(model, HELLO[0]["content"], options=GREEDY)
    *pieces, last = lines(http, "/api/generate", model=model, prompt=HELLO[0]["content"], options=GREEDY)
    assert whole.response == "".join(piece["response"] for piece in (*pieces, last))
    assert whole.response == client.chat(model, HELLO, options=GREEDY).message.content
    assert last["done"] and all(isinstance(last[name], int) for name in DURATIONS)
    assert all(isinstance(token, int) for token in last.get("context", ()))
    assert client.generate(model, "Hi", system="Be brief.", options=GREEDY).prompt_eval_count


def test_options_are_obeyed(client: ollama.Client, model: str) -> None:
    short = client.chat(model, HELLO, options=GREEDY | {"num_predict": 2})
    assert (short.eval_count, short.done_reason) == (2, "length")
    text = client.chat(model, HELLO, options=GREEDY).message.content or ""
    cut = client.chat(model, HELLO, options=GREEDY | {"stop": [text[3:5]]})
    assert (cut.message.content, cut.done_reason) == (text[: text.find(text[3:5])], "stop")

    def drawn(seed: int) -> str:
        options = {"temperature": 2.0, "top_k": 0, "top_p": 1.0, "seed": seed, "num_predict": 8}
        return client.chat(model, HELLO, options=options).message.content or ""

    assert len({drawn(seed) for seed in range(5)}) > 1
    wrong = {"temperature": "warm"}
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat(model, HELLO, options=wrong)
    assert caught.value.status_code in (400, 500)


def test_a_format_is_obeyed(client: ollama.Client, model: str) -> None:
    schema = {"type": "object", "properties": {"room": {"enum": ["hall"]}}, "required": ["room"]}
    answer = client.chat(model, HELLO, format=schema, options=GREEDY | {"num_predict": 128})
    assert json.loads(answer.message.content or "") == {"room": "hall"}
    answer = client.chat(model, HELLO, format="json", options=GREEDY | {"num_predict": 256})
    assert (answer.message.content or "").lstrip()[:1] in ("{", "[")


def test_a_tool_is_called_with_an_object_of_arguments(client: ollama.Client, model: str) -> None:
    question = {"role": "user", "content": "What is the weather in Paris?"}
    options = GREEDY | {"num_predict": 96}
    for answers in (
        [client.chat(model, [question], tools=[WEATHER], options=options)],
        list(client.chat(model, [question], tools=[WEATHER], options=options, stream=True)),
    ):
        calls = [call for answer in answers for call in answer.message.tool_calls or ()]
        assert calls and calls[0].function.name == "get_weather"
        assert isinstance(calls[0].function.arguments, dict)
        assert answers[-1].done and answers[-1].done_reason == "stop"
    asked = {"role": "assistant", "content": "", "tool_calls": [calls[0].model_dump()]}
    result = {"role": "tool", "tool_name": "get_weather", "content": '{"temperature": 12}'}
    final = client.chat(model, [question, asked, result], tools=[WEATHER], options=options)
    assert final.message.content and final.prompt_eval_count


def test_an_image_is_no_crash(client: ollama.Client, http: httpx.Client, model: str) -> None:
    message = {"role": "user", "content": "What is this?", "images": ["aGVsbG8="]}
    body = {"model": model, "messages": [message], "stream": False, "options": GREEDY}
    answer = http.post("/api/chat", json=body)
    assert answer.json()["done"] if answer.status_code == 200 else answer.json()["error"]
    assert client.chat(model, HELLO, options=GREEDY).message.content


def test_what_the_model_cannot_do_is_a_bad_request(
    client: ollama.Client, http: httpx.Client, model: str
) -> None:
    for words, path, body in (
        ("does not support insert", "/api/generate", {"prompt": "a", "suffix": "b"}),
        ("raw mode does not support", "/api/generate", {"prompt": "a", "raw": True, "system": "b"}),
        ("does not support thinking", "/api/chat", {"messages": HELLO, "think": True}),
    ):
        answer = http.post(path, json={"model": model, **body})
        assert answer.status_code == 400 and words in answer.json()["error"]


@pytest.fixture(scope="session")
def embed(client: ollama.Client, http: httpx.Client, model: str) -> Callable[..., ollama.EmbedResponse]:
    """Ollama's own daemon may refuse embeddings of a model that is made for chat; labkit's endpoint may not."""
    try:
        client.embed(model, "a text")
    except ollama.ResponseError as error:
        assert error.status_code >= 400 and error.error
        if "labkit" in http.get("/api/version").json()["version"]:
            raise
        pytest.skip(f"this daemon makes no embeddings of {model}: {error.error}")
    return partial(client.embed, model)


def test_embeddings_are_unit_vectors_one_for_each_text(embed: Callable[..., ollama.EmbedResponse]) -> None:
    texts = ["Turn on the light", "Is it cold in Łódź? 🙂", "Hello"]
    together, alone = embed(texts), [embed(text) for text in texts]
    assert len(together.embeddings) == 3 and {len(vector) for vector in together.embeddings} == {256}
    for vector, answer in zip(together.embeddings, alone, strict=True):
        assert math.isclose(math.hypot(*vector), 1, rel_tol=1e-3)
        assert math.isclose(sum(map(mul, vector, answer.embeddings[0])), 1, rel_tol=1e-2)
    assert together.model and together.total_duration and (together.prompt_eval_count or 0) > 3


def test_embeddings_may_be_shortened(embed: Callable[..., ollama.EmbedResponse]) -> None:
    whole, short = embed("Hello").embeddings[0], embed("Hello", dimensions=8).embeddings[0]
    if len(short) == len(whole):
        pytest.skip("this daemon is older than `dimensions`")
    assert len(short) == 8 and math.isclose(math.hypot(*short), 1, rel_tol=1e-3)
    length = math.hypot(*whole[:8])
    assert all(math.isclose(a, b / length, abs_tol=1e-3) for a, b in zip(short, whole, strict=False))


def test_a_text_that_is_too_long_is_cut_unless_that_is_forbidden(
    embed: Callable[..., ollama.EmbedResponse],
) -> None:
    cut = embed("word " * 5_000, options={"num_ctx": 256})
    assert 0 < (cut.prompt_eval_count or 0) <= 5_000 and len(cut.embeddings) == 1
    with pytest.raises(ollama.ResponseError) as caught:
        embed("word " * 5_000, truncate=False, options={"num_ctx": 256})
    assert caught.value.status_code >= 400 and "context" in caught.value.error


def test_no_text_gives_no_embedding_and_a_wrong_one_is_refused(
    embed: Callable[..., ollama.EmbedResponse], http: httpx.Client, model: str
) -> None:
    assert list(embed([]).embeddings) == list(embed("").embeddings) == []
    assert http.post("/api/embed", json={"model": model, "input": {"a": 1}}).status_code == 400


def test_a_prompt_over_the_context_is_refused_or_cut(http: httpx.Client, model: str) -> None:
    message = {"role": "user", "content": "word " * 500}
    body = {"model": model, "messages": [message], "stream": False}
    answer = http.post("/api/chat", json=body | {"options": GREEDY | {"num_ctx": 128}})
    if answer.status_code == 200:
        assert answer.json()["prompt_eval_count"] <= 128
    else:
        assert answer.status_code in (400, 500) and answer.json()["error"]


def test_keep_alive_decides_how_long_a_model_stays(client: ollama.Client, model: str) -> None:
    assert client.chat(model, [], keep_alive=-1).done_reason == "load"
    (found,) = [entry for entry in client.ps().models if entry.name == model]
    assert found.expires_at and found.expires_at - datetime.now(UTC) > timedelta(days=365)
    assert found.size and found.digest and found.details
    assert client.generate(model, "", keep_alive="5m").done_reason == "load"
    (found,) = [entry for entry in client.ps().models if entry.name == model]
    assert found.expires_at and timedelta(0) < found.expires_at - datetime.now(UTC) <= timedelta(minutes=5)
    assert client.chat(model, [], keep_alive=0).done_reason == "unload"
    assert until(lambda: model not in loaded(client))
    client.chat(model, HELLO, options=GREEDY, keep_alive="1s")
    assert until(lambda: model not in loaded(client), 15)


def test_a_name_means_its_latest(client: ollama.Client, model: str) -> None:
    client.copy(model, "labkit-suite-copy")
    try:
        assert "labkit-suite-copy:latest" in {entry.model for entry in client.list().models}
        for name in ("labkit-suite-copy", "labkit-suite-copy:latest"):
            assert client.chat(name, HELLO, options=GREEDY).model == name
    finally:
        client.delete("labkit-suite-copy")
    assert "labkit-suite-copy:latest" not in {entry.model for entry in client.list().models}


def test_a_model_is_made_from_another(client: ollama.Client, http: httpx.Client, model: str) -> None:
    name, system = "labkit-suite-child:x", "You speak like a pirate."
    settings: dict[str, Any] = {"system": system, "parameters": {"num_predict": 3, "temperature": 0}}
    steps = [step.status for step in client.create(name, from_=model, **settings, stream=True)]
    try:
        assert steps[-2:] == ["writing manifest", "success"]
        shown = http.post("/api/show", json={"model": name}).json()
        assert shown["system"] == system and shown["template"] == TEMPLATE
        assert re.search(r"^num_predict\s+3$", shown["parameters"], re.MULTILINE)
        answer, plain = client.chat(name, HELLO), client.chat(model, HELLO, options=GREEDY)
        assert answer.eval_count and answer.eval_count <= 3
        assert (answer.prompt_eval_count or 0) > (plain.prompt_eval_count or 0)
        assert client.create(name, from_=model).status == "success"
    finally:
        client.delete(name)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {"messages": HELLO}),
        ("/api/generate", {"prompt": "a"}),
        ("/api/embed", {"input": "a"}),
        ("/api/show", {}),
    ],
    ids=str,
)
def test_an_unknown_model_is_not_found(http: httpx.Client, path: str, body: dict[str, Any]) -> None:
    answer = http.post(path, json={"model": MISSING, **body})
    assert answer.status_code == 404
    assert re.search(rf"model ['\"]{MISSING}['\"] not found", answer.json()["error"])


def test_what_is_not_there_is_neither_copied_nor_deleted_nor_pulled(client: ollama.Client) -> None:
    for action in (lambda: client.delete(MISSING), lambda: client.copy(MISSING, "labkit-suite-copy")):
        with pytest.raises(ollama.ResponseError) as caught:
            action()
        assert caught.value.status_code == 404 and "not found" in caught.value.error
    steps = []
    with pytest.raises(ollama.ResponseError):
        for step in client.pull(MISSING, stream=True):
            steps.append(step.status)
    assert steps == ["pulling manifest"]
    for source in ({"from_": MISSING}, {}):
        with pytest.raises(ollama.ResponseError):
            client.create("labkit-suite-child", **source)  # type: ignore[arg-type]


def test_a_blob_is_what_its_digest_says(http: httpx.Client) -> None:
    content = b"a blob of the suite"
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    wrong = f"sha256:{'0' * 64}"
    assert http.head(f"/api/blobs/{wrong}").status_code == 404
    refused = http.post(f"/api/blobs/{wrong}", content=content)
    assert refused.status_code == 400 and "digest mismatch" in refused.json()["error"]
    assert http.head(f"/api/blobs/{wrong}").status_code == 404
    assert http.post(f"/api/blobs/{digest}", content=content).status_code in (200, 201)
    assert http.head(f"/api/blobs/{digest}").status_code == 200
    for bad in ("sha256:xyz", "md5:0", "sha256:..%2F..%2Fetc%2Fpasswd"):
        assert http.post(f"/api/blobs/{bad}", content=content).status_code in (400, 404)


@pytest.mark.parametrize("name", ["chat", "generate", "embed", "show", "create", "copy", "pull"])
def test_bad_json_is_a_bad_request(http: httpx.Client, name: str) -> None:
    for content in (
        b"",
        b"{",
        b"no json",
        b'{"model": 7}' if name != "copy" else b'{"source": 7}',
        b"[" * 100_000,
    ):
        answer = http.post(f"/api/{name}", content=content)
        assert answer.status_code == 400 and isinstance(answer.json()["error"], str), content[:20]


def test_no_such_place_and_no_such_method(http: httpx.Client) -> None:
    assert http.get("/api/nothing").status_code == 404
    assert http.get("/api/chat").status_code == 405


def test_who_hangs_up_leaves_room_for_the_next(client: ollama.Client, model: str) -> None:
    for _ in range(6):
        stream = client.chat(model, HELLO, options={"num_predict": -1}, stream=True)
        next(iter(stream))
        stream.close()  # type: ignore[attr-defined]
    assert client.chat(model, HELLO, options=GREEDY).message.content


def test_many_may_ask_at_once(client: ollama.Client, model: str) -> None:
    def ask() -> None:
        texts.append(client.chat(model, HELLO, options=GREEDY).message.content or "")

    texts: list[str] = []
    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(texts) == 6 and all(texts)
