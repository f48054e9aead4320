"""What labkit's Ollama endpoint does beyond the daemon's API: its limits, its refusals, and any engine behind it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

for package in ("fastapi", "uvicorn"):
    pytest.importorskip(package, reason="needs the extra serve: pip install 'labkit[serve]'")

from labkit.serving.endpoint import start_ollama_api  # noqa: E402
from labkit.serving.ollama_models import ApiError, Models, key_of  # noqa: E402
from labkit.serving.ollama_requests import Options, Request, in_order, parsed  # noqa: E402

HELLO = {"model": "nano", "messages": [{"role": "user", "content": "Say this back"}], "stream": False}


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    process, url = start_ollama_api(engine="echo", context=0)
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as http:
        yield http
    process.stop()


def test_any_engine_may_answer(http: httpx.Client) -> None:
    answer = http.post("/api/chat", json=HELLO).json()
    assert answer["message"]["content"].strip() == "Say this back"
    assert "labkit" in http.get("/api/version").json()["version"]
    assert {"nano:latest", "pico:latest"} <= {
        model["name"] for model in http.get("/api/tags").json()["models"]
    }


def test_pages_of_other_sites_may_not_ask(http: httpx.Client) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}):
        assert http.post("/api/chat", json=HELLO, headers=headers).status_code == 403
    assert http.post("/api/chat", json=HELLO, headers={"Origin": "http://localhost:8888"}).status_code == 200


def test_limits_hold(http: httpx.Client) -> None:
    large = HELLO | {"messages": [{"role": "user", "content": "x" * (9 * 2**20)}]}
    assert http.post("/api/chat", json=large).status_code == 413
    for name in ("../../etc/passwd", "a" * 300, "a:b:c", "a b", "/abs", "x/../y", ""):
        for path, body in (
            ("create", {"model": name, "from": "nano"}),
            ("copy", {"source": "nano", "destination": name}),
        ):
            assert http.post(f"/api/{path}", json={**body, "stream": False}).status_code == 400, name
    assert http.post("/api/show", json={"model": "../../etc/passwd"}).status_code == 404


def test_what_it_cannot_do_it_refuses(http: httpx.Client) -> None:
    for path, body in (
        ("create", {"from": "nano", "template": "{{ .Prompt }}"}),
        ("create", {"from": "nano", "parameters": {"temperature": "warm"}}),
        ("create", {"from": "nano", "quantize": "q4_0"}),
        ("create", {"files": {"a.gguf": f"sha256:{'0' * 64}"}}),
        ("generate", {"model": "nano", "prompt": "a", "raw": True}),
        ("generate", {"model": "nano", "prompt": "a", "context": [1, 2]}),
        ("chat", HELLO | {"options": {"temperature": 99}}),
        ("chat", HELLO | {"options": {"num_ctx": 512}}),
        ("chat", HELLO | {"keep_alive": "soon"}),
        ("chat", HELLO | {"format": "xml"}),
        ("chat", HELLO | {"messages": [{"role": "boss", "content": "x"}]}),
    ):
        answer = http.post(f"/api/{path}", json={"model": "child", "stream": False, **body})
        assert answer.status_code == 400 and answer.json()["error"], (path, body)


def test_a_shipped_model_that_was_deleted_comes_back_with_pull(http: httpx.Client) -> None:
    assert http.request("DELETE", "/api/delete", json={"model": "pico"}).status_code == 200
    assert http.post("/api/show", json={"model": "pico"}).status_code == 404
    steps = http.post("/api/pull", json={"model": "pico"}).text.splitlines()
    assert steps[-1] == '{"status": "success"}'
    assert http.post("/api/show", json={"name": "PICO:latest"}).status_code == 200


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, 300), (0, 0), ("0", 0), (7.5, 7.5), ("5m", 300), ("1h30m", 5400), ("1.5s", 1.5), ("100ms", 0.1)],
)
def test_keep_alive_is_read_as_go_reads_it(text: float | str | None, seconds: float) -> None:
    assert Request(model="nano", keep_alive=text).stays == pytest.approx(seconds)


@pytest.mark.parametrize("text", [-1, "-1s", "-1m", float("inf"), float("nan"), 1e300])
def test_a_negative_or_endless_keep_alive_is_for_ever(text: float | str) -> None:
    assert Request(model="nano", keep_alive=text).stays == float("inf")


@pytest.mark.parametrize("text", ["", "soon", "-1", "5", "5 m", "5m!", "m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ApiError, match="invalid duration"):
        _ = Request(model="nano", keep_alive=text).stays


def test_names_and_options_have_one_form() -> None:
    same = ("nano", "NANO:latest", "library/nano", "registry.ollama.ai/library/nano:latest")
    assert {key_of(name) for name in same} == {"nano:latest"}
    options = parsed(Options, {"stop": "x", "num_predict": 3, "unheard_of": 1}).generation(None, False)
    assert (options.stop, options.max_tokens, options.schema) == (("x",), 3, None)


def test_a_tools_schema_comes_in_the_order_that_models_know() -> None:
    tool = {
        "type": "function",
        "function": {"name": "a", "parameters": {"required": ["b"], "properties": {}}},
    }
    ordered = in_order(tool)
    assert ordered == tool and list(ordered["function"]["parameters"]) == ["properties", "required"]
    for odd in ({}, {"function": 7}, {"function": {"parameters": []}}, {"function": {"parameters": {}}}):
        assert in_order(odd) == odd


def test_uploads_of_an_endpoint_that_was_killed_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    (tmp_path / "uploads-999999999-x").mkdir()
    (tmp_path / f"uploads-{os.getpid()}-other").mkdir()
    models = Models("nano", "echo", {})
    assert len(list(tmp_path.glob("uploads-*"))) == 2
    models.close()
    assert [path.name for path in tmp_path.glob("uploads-*")] == [f"uploads-{os.getpid()}-other"]


def test_the_command_refuses_what_it_should_not_do(tmp_path: Path) -> None:
    for line, words in (
        (("--host", "0.0.0.0"), "open to others"),
        (("--api", "soap"), "--api cannot be"),
        (("--engine", "warp"), "there is no engine"),
        (("--model", "missing"), "there is no model"),
        (("--api", "ollama", "--host", "0.0.0.0"), "open to others"),
        (("--api", "ollama", "--engine", "echo", "--model", "qwen2.5-0.5b"), "labkit models pull"),
    ):
        command = [sys.executable, "-m", "labkit", "serve", "--port", "1", *line]
        env = {**os.environ, "LABKIT_HOME": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
        assert done.returncode == 1 and words in done.stderr, done.stderr
