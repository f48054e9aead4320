"""The gateway's ways: OpenAI's routes over an engine of this kit, and what its answers look like."""

import json

import httpx
import pytest
from running_gateway import HELLO, Running


def events(response: httpx.Response) -> list[dict]:
    assert response.headers["content-type"].startswith("text/event-stream")
    data = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    assert data[-1] == "[DONE]"
    return [json.loads(one) for one in data[:-1]]


def test_a_chat(gateway: Running) -> None:
    answer = gateway.chat().json()
    assert answer["object"] == "chat.completion" and answer["model"] == "nano"
    choice = answer["choices"][0]
    assert choice["message"]["content"].strip() == "Say this back" and choice["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == 3


def test_a_stream_says_the_same(gateway: Running) -> None:
    asked = HELLO | {"stream": True, "stream_options": {"include_usage": True}, "temperature": 0.5}
    parts = events(gateway.http.post("/v1/chat/completions", json=asked))
    assert parts[0]["choices"][0]["delta"]["role"] == "assistant"
    text = "".join(part["choices"][0]["delta"].get("content", "") for part in parts if part["choices"])
    assert text.strip() == "Say this back"
    assert [p["choices"][0]["finish_reason"] for p in parts if p["choices"]][-1] == "stop"
    assert parts[-1]["choices"] == [] and parts[-1]["usage"]["completion_tokens"] == 3


def test_a_completion_and_the_list(gateway: Running) -> None:
    answer = gateway.http.post("/v1/completions", json={"model": "nano", "prompt": "one two"}).json()
    assert answer["object"] == "text_completion" and answer["choices"][0]["text"].strip() == "one two"
    assert [model["id"] for model in gateway.http.get("/v1/models").json()["data"]] == ["nano"]
    assert gateway.http.get("/v1/models/nano").json()["owned_by"] == "labkit"
    assert gateway.http.get("/v1/models/other").status_code == 404


def test_health_ready_and_metrics(gateway: Running) -> None:
    gateway.chat()
    assert gateway.http.get("/health").json() == {"status": "ok", "backends": {"echo": "up"}}
    assert gateway.http.get("/ready").status_code == 200
    page = gateway.http.get("/metrics").text
    assert 'labkit_requests_total{route="/v1/chat/completions",status="200",user_role="admin"}' in page


def test_an_unknown_path_and_method(gateway: Running) -> None:
    assert gateway.http.get("/v2/nothing").json()["error"]["code"] == "no_such_route"
    wrong = gateway.http.get("/v1/chat/completions")
    assert wrong.status_code == 405 and "POST" in wrong.headers["allow"]


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}]
)
def test_pages_of_other_sites_may_not_ask(gateway: Running, headers: dict[str, str]) -> None:
    assert gateway.http.post("/v1/chat/completions", json=HELLO, headers=headers).status_code == 403


def test_votes(gateway: Running) -> None:
    assert gateway.http.post("/v1/feedback", json={"vote": "up"}).status_code == 200
    assert gateway.http.post("/v1/feedback", json={"vote": "sideways"}).status_code == 400
    assert 'labkit_thumbs_total{vote="up"} 1.0' in gateway.http.get("/metrics").text
