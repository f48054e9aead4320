"""Several backends at once: routing, canaries, hot start, stop and replacement, memory, idle models, cache, batches."""

import os
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from running_gateway import Running, running, wait_for
from upstream import WORDS, Upstream

from labkit.engines.ports import look
from labkit.engines.process import free_port

Start = Callable[..., Running]


def change(running: Running, action: str, backend: str) -> int:
    return running.http.post("/admin/models", json={"action": action, "backend": backend}).status_code


def test_models_start_stop_and_are_replaced_while_others_are_asked(start: Start) -> None:
    with Upstream("b", "other") as b:
        running = start()
        assert running.chat(model="other").status_code == 404
        assert change(running, "start", b.backend) == 200
        assert running.chat(model="other").json()["choices"][0]["message"]["content"] == "".join(WORDS)
        assert change(running, "start", b.backend) == 409 and change(running, "stop", "nobody") == 404
        assert change(running, "replace", "b=echo;model=nano") == 200
        assert running.chat(model="other").status_code == 404 and running.chat().status_code == 200
        assert change(running, "stop", "echo") == 200 and running.chat().status_code == 200
        assert change(running, "stop", "b") == 200 and running.chat().status_code == 404
        assert change(running, "start", "echo=echo") == 200 and running.chat().status_code == 200
        assert change(running, "dance", "echo") == 400 and change(running, "start", "echo") == 400


def test_students_change_no_models(start: Start) -> None:
    running = start(keys=True)
    _, key = running.gateway.keys.add("Ada")
    headers = {"Authorization": f"Bearer {key}"}
    body = {"action": "stop", "backend": "echo"}
    assert running.http.post("/admin/models", json=body, headers=headers).status_code == 403
    assert running.http.get("/metrics", headers=headers).status_code == 403
    assert running.http.get("/metrics").status_code == 401
    assert running.chat(key=key).status_code == 200


def test_a_task_goes_to_the_backend_made_for_it(start: Start) -> None:
    with Upstream("tools", do="tool") as tools, Upstream("plain") as plain:
        running = start(f"{tools.backend};tasks=tools", plain.backend)
        tool = {"type": "function", "function": {"name": "light", "parameters": {"type": "object"}}}
        for _ in range(4):
            assert running.chat(temperature=0.5).status_code == 200
            answer = running.chat(temperature=0.5, tools=[tool]).json()["choices"][0]
            assert answer["message"]["tool_calls"][0]["function"]["name"] == "light"
            assert answer["finish_reason"] == "tool_calls"
        assert all("tools" in body for body in tools.asked[1:]) and not any("tools" in b for b in plain.asked)
        assert 'labkit_tool_calls_total{outcome="ok"} 4.0' in running.http.get("/metrics").text


def test_a_canary_gets_its_share(start: Start) -> None:
    with Upstream("old") as old, Upstream("new") as new:
        running = start(old.backend, f"{new.backend};weight=0.1")
        router = running.gateway.router
        router.random = random.Random(1)
        nodes = router.able("nano", "chat")
        drawn = Counter(router.pick(nodes, set()).spec.name for _ in range(5000))
        assert 0.06 < drawn["new"] / 5000 < 0.13
        nodes[0].active = 9  # the old one is loaded: the canary takes more
        drawn = Counter(router.pick(nodes, set()).spec.name for _ in range(2000))
        nodes[0].active = 0
        assert drawn["new"] > drawn["old"]


def test_a_budget_refuses_what_does_not_fit(start: Start) -> None:
    running = start(memory_gb=0.001)
    answer = running.http.post("/admin/models", json={"action": "start", "backend": "big=llamaserver"})
    assert answer.status_code == 507 and "budget" in answer.json()["error"]["message"]
    assert running.chat().status_code == 200


def test_a_gateway_without_a_backend_that_can_answer_is_not_ready(tmp_path: Path) -> None:
    """A model that cannot be loaded and a server that is not there: `/ready` says so, until one of them is mended."""
    later = Upstream("later")
    later.port = free_port()
    backends = ("broken=llamaserver;colour=blue", later.backend)
    with running(tmp_path / "state", *backends, ready=503) as box:
        wait_for(lambda: "broken" in box.http.get("/ready").text and "later" in box.http.get("/ready").text)
        answer = box.http.get("/ready")
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
        assert "nothing answers" in answer.json()["error"]["message"]
        assert box.http.get("/health").json()["backends"] == {"broken": "failed", "later": "failed"}
        broken_state, later_state = box.http.get("/admin/models").json()["backends"]
        assert "colour" in broken_state["why"] and later_state["state"] == "failed"
        wait_for(lambda: 'labkit_backend_up{backend="later"} 0.0' in box.http.get("/metrics").text)
        assert box.chat().status_code == 503  # not 400: it is not the student's option that is wrong
        with later:
            wait_for(lambda: box.http.get("/ready").status_code == 200)
            assert box.http.get("/health").json()["backends"] == {"broken": "failed", "later": "up"}
            assert box.chat().status_code == 200


def test_the_last_backend_that_fails_makes_the_gateway_unready_until_it_answers(start: Start) -> None:
    with Upstream("a") as a:
        running = start(a.backend)
        a.do = "500"
        wait_for(lambda: running.chat(temperature=0.5).status_code == 502 and not_ready(running))
        assert "a: a answered 500" in running.http.get("/ready").json()["error"]["message"]
        assert not running.gateway.router.breakers["a"].open  # it is asked all the same
        a.do = ""  # and nobody asks: a probe finds out
        wait_for(lambda: running.http.get("/ready").status_code == 200)


def test_with_keys_ready_tells_strangers_no_more_than_names(start: Start, tmp_path: Path) -> None:
    running = start("gone=http://127.0.0.1:9/v1;model=nano", "echo=echo;model=pico", keys=True)
    wait_for(lambda: running.http.get("/health").json()["backends"]["gone"] == "failed")
    running.gateway.pool.nodes["echo"].wanted = False
    assert "(gone)" in (said := running.http.get("/ready").json()["error"]["message"])
    assert "127.0.0.1" not in said


def not_ready(running: Running) -> bool:
    return running.http.get("/ready").status_code == 503


def test_an_idle_model_is_unloaded_and_comes_back(start: Start) -> None:
    running = start(idle=0.3)
    node = running.gateway.pool.nodes["echo"]
    wait_for(lambda: not node.loaded)
    assert running.http.get("/ready").status_code == 200
    assert running.chat().status_code == 200 and running.http.get("/metrics").status_code == 200


def test_the_cache_answers_the_same_question(start: Start) -> None:
    with Upstream("a") as a:
        running = start(a.backend)
        first, second = running.chat().json(), running.chat().json()
        assert first["choices"] == second["choices"] and first["usage"] == second["usage"]
        assert len(a.asked) == 1
        running.chat(temperature=0.7)
        assert len(a.asked) == 2
        assert 'labkit_cache_hits_total{kind="exact"} 1.0' in running.http.get("/metrics").text


def test_the_semantic_cache_answers_nearly_the_same_question(start: Start) -> None:
    with Upstream("a") as a:
        running = start(
            a.backend, f"e={a.url};model=vectors;tasks=embed", cache="semantic", cache_threshold=0.85
        )
        running.chat("what is the weather in Paris today")
        asked = len(a.asked)
        running.chat("what is the weather in Paris now")
        assert len(a.asked) == asked
        running.chat("tell me a story of two dogs")
        assert len(a.asked) == asked + 1
        vectors = running.http.post("/v1/embeddings", json={"model": "vectors", "input": ["a b", "c"]}).json()
        assert [len(row["embedding"]) for row in vectors["data"]] == [64, 64]
        assert vectors["usage"]["prompt_tokens"] == 3


def test_a_batch_is_answered_in_order_a_few_at_a_time(start: Start) -> None:
    with Upstream("a") as a:
        running = start(a.backend, batch=2)
        a.pause, most = 0.02, 0
        bodies = [{"model": "nano", "messages": [{"role": "user", "content": f"{i}"}]} for i in range(6)]
        items = [{"custom_id": i, "body": body} for i, body in enumerate(bodies)]
        items[3]["body"] = {"model": "nano"}
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(running.http.post, "/v1/batch", json={"requests": items})
            while not answer.done():
                most = max(most, a.active)
                time.sleep(0.005)
        results = answer.result().json()["results"]
        assert [r["custom_id"] for r in results] == list(range(6)) and 1 <= most <= 2
        assert [r["status"] for r in results] == [200, 200, 200, 400, 200, 200]
        assert running.http.post("/v1/batch", json={"requests": []}).status_code == 400


def test_filters_work_on_prompts_and_on_answers(start: Start) -> None:
    running = start(deny="forbidden", mask=r"\d{3}-\d{4}", audit_text=True)
    assert running.chat("a FORBIDDEN thing").status_code == 400
    said = running.chat("call 555-1234 or ada@example.org now").json()["choices"][0]["message"]["content"]
    assert said.strip() == "call […] or ada@example.org now"
    running.gateway.audit.flush()
    log = (running.state / "audit.jsonl").read_text()
    assert "555-1234" not in log and "ada@example.org" not in log and "call" in log


def test_ollamas_clients_are_answered(start: Start) -> None:
    running = start()
    body = {"model": "nano", "messages": [{"role": "user", "content": "one two"}]}
    lines = running.http.post("/api/chat", json=body).text.splitlines()
    assert '"done": true' in lines[-1] and len(lines) == 3
    whole = running.http.post(
        "/api/generate", json={"model": "nano:latest", "prompt": "x y", "stream": False}
    )
    assert whole.json()["response"].strip() == "x y" and whole.json()["eval_count"] == 2
    assert running.http.get("/api/tags").json()["models"][0]["name"] == "nano:latest"
    assert running.http.post("/api/show", json={"model": "nano"}).json()["capabilities"]
    assert running.http.post("/api/chat", json=body | {"model": "no"}).json()["error"]
    assert running.http.post("/api/chat", json={}).status_code == 400


def test_tls(start: Start, tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificate")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    running = start(tls_cert=str(cert), tls_key=str(key))
    assert running.url.startswith("https") and running.chat().status_code == 200


@pytest.mark.heavy
def test_redis_keeps_the_cache_of_several_gateways(start: Start, tmp_path: Path) -> None:
    server = shutil.which("redis-server")
    assert server or not os.environ.get("CI"), "CI installs redis-server"
    if not server:
        pytest.skip("Debian: apt install redis-server")
    port = free_port()
    process = subprocess.Popen(
        [server, "--port", str(port), "--save", "", "--bind", "127.0.0.1"], cwd=tmp_path
    )
    try:
        wait_for(lambda: look(port).taken)
        url = f"redis://127.0.0.1:{port}"
        with Upstream("a") as a:
            one = start(a.backend, cache_url=url, state=tmp_path / "one")
            two = start(a.backend, cache_url=url, state=tmp_path / "two")
            assert one.chat().status_code == 200 and two.chat().status_code == 200
            assert sum(body["max_tokens"] > 1 for body in a.asked) == 1
            process.kill()
            process.wait()
            assert two.chat().status_code == 200  # a cache that is away is an empty one
    finally:
        process.kill()
        process.wait()
