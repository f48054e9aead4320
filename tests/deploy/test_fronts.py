"""The fronts hand requests to a gateway (a stand-in here), stream what comes back, and hold no key."""

import base64
import json
import ssl
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_stand_in import KEY, Upstream

from labkit.deploy.render import nginx, render, write
from labkit.deploy.settings import Deployment
from labkit.engines.process import ServerProcess, ServerSettings, free_port
from labkit.serving.endpoint import start_gateway
from labkit.serving.keys import Keys

ASK = {"model": "nano", "messages": [{"role": "user", "content": "Grüße"}]}
CAPNP = """using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .front), (name = "up", worker = .up),
              (name = "internet", network = (allow = ["public", "private"]))],
  sockets = [(name = "http", address = "127.0.0.1:%d", http = (), service = "main"),
             (name = "up", address = "127.0.0.1:%d", http = (), service = "up")]);
const up :Workerd.Worker = (
  modules = [(name = "up.js", esModule = "export default { fetch() { return new Response() } }")],
  compatibilityDate = "2025-01-01");
const front :Workerd.Worker = (
  modules = [(name = "worker.js", esModule = embed "worker.js")],
  bindings = [(name = "GATEWAY", text = "%s")], compatibilityDate = "2025-01-01");
"""


class Clock:
    def get_remaining_time_in_millis(self) -> int:
        return 20_000


def event(version: str, path: str, body: str, coded: bool = False, key: str = KEY) -> dict[str, Any]:
    """Return an event as API Gateway sends it, payload 2.0 (HTTP API) or 1.0 (REST API)."""
    data = base64.b64encode(body.encode()).decode() if coded else body
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json", "host": "x.execute-api"}
    rest = {"headers": headers, "body": data, "isBase64Encoded": coded}
    if version == "2.0":
        http = {"method": "POST", "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1"}
        told = {"version": "2.0", "routeKey": "ANY /v1/{proxy+}", "rawPath": path, "rawQueryString": ""}
        return {**told, "requestContext": {"http": http, "stage": "$default"}, **rest}
    headers = {name.title(): value for name, value in headers.items()}
    told = {
        "resource": "/v1/{proxy+}",
        "path": path,
        "httpMethod": "POST",
        "requestContext": {"stage": "Prod"},
    }
    return {**told, **rest, "headers": headers}


@pytest.fixture
def handler(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("GATEWAY", upstream.url)
    return made(lambda text: text)


def made(change: Callable[[str], str]) -> Any:
    module = types.ModuleType("handler")
    exec(change(render(Deployment(), ("lambda",))["lambda/handler.py"]), module.__dict__)
    return module.handler


def slip(text: str, old: str, new: str) -> str:
    """Break a text in one place."""
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize("version", ["2.0", "1.0"])
@pytest.mark.parametrize("coded", [False, True])
def test_lambda_answers_events_of_api_gateway(
    handler: Any, upstream: Upstream, version: str, coded: bool
) -> None:
    answer = handler(event(version, "/v1/chat/completions", json.dumps(ASK), coded), Clock())
    assert (answer["statusCode"], "Hello" in answer["body"]) == (200, True)
    path, body, headers = upstream.seen[-1]
    assert (path, json.loads(body), headers["authorization"]) == (
        "/v1/chat/completions",
        ASK,
        f"Bearer {KEY}",
    )


def test_lambda_hands_on_refusals_and_refuses_what_is_not_for_it(handler: Any, upstream: Upstream) -> None:
    path = "/v1/chat/completions"
    assert handler(event("2.0", path, "{}", key="wrong"), None)["statusCode"] == 401
    busy = handler(event("2.0", path, '{"busy": 1}'), None)
    assert (busy["statusCode"], busy["headers"]["Retry-After"]) == (429, "7")
    for wrong in ("/admin/models", "/v1/../admin/models", "/metrics"):
        assert handler(event("2.0", wrong, "{}"), None)["statusCode"] == 404
    assert handler(event("2.0", path, "x" * 3 * 2**20), None)["statusCode"] == 413
    assert {path for path, *_ in upstream.seen} == {path}
    upstream.shutdown()
    upstream.server_close()
    assert handler(event("2.0", path, "{}"), Clock())["statusCode"] == 504


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('event.get("isBase64Encoded")', "False"),
        ('event.get("rawPath") or ', ""),
        ('not path.startswith("/v1/") or ', ""),
        ("answer(error.code, ", "answer(200, "),
        ("except OSError", "except ValueError"),
        ("len(data) > MOST", "False"),
    ],
)
def test_a_broken_lambda_is_found(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    monkeypatch.setenv("GATEWAY", upstream.url)
    wrong = made(lambda text: slip(text, old, new))
    with pytest.raises((AssertionError, KeyError, ValueError, OSError)):
        for version in ("2.0", "1.0"):
            test_lambda_answers_events_of_api_gateway(wrong, upstream, version, True)
        test_lambda_hands_on_refusals_and_refuses_what_is_not_for_it(wrong, upstream)


def unbuffered(url: str, upstream: Upstream, **more: Any) -> None:
    """Read a stream; the upstream writes on only when its first event has arrived here."""
    headers, got = {"Authorization": f"Bearer {KEY}"}, list[str]()
    with (
        httpx.Client(timeout=40, trust_env=False, **more) as client,
        client.stream(
            "POST", f"{url}/v1/chat/completions", json={**ASK, "stream": True}, headers=headers
        ) as r,
    ):
        assert (r.status_code, r.headers["content-type"]) == (200, "text/event-stream")
        for line in r.iter_lines():
            if line:
                got.append(line)
                upstream.first_seen.set()
    assert got == ['data: {"n": 1}', 'data: {"n": 2, "held_back": false}', "data: [DONE]"]


def plain(url: str, upstream: Upstream, **more: Any) -> None:
    """Ask for a whole answer, and for what must not be reached."""
    with httpx.Client(base_url=url, timeout=40, trust_env=False, **more) as client:
        assert client.post("/v1/chat/completions", json=ASK).status_code == 401
        right = {"Authorization": f"Bearer {KEY}"}
        assert "Hello" in client.post("/v1/chat/completions", json=ASK, headers=right).text
        busy = client.post("/v1/chat/completions", json={"busy": 1}, headers=right)
        assert (busy.status_code, busy.headers["retry-after"]) == (429, "7")
        before = len(upstream.seen)
        assert client.get("/metrics").status_code == client.post("/admin/models", json={}).status_code == 404
        assert len(upstream.seen) == before


@contextmanager
def running(name: str, command: list[str], ready: str, env: dict[str, str] | None = None) -> Iterator[None]:
    process = ServerProcess(ServerSettings(name, tuple(command), ready, env or {}, 90.0))
    try:
        yield
    finally:
        process.stop()


def everything(url: str, upstream: Upstream, **more: Any) -> None:
    """Ask a front all that it must do."""
    plain(url, upstream, **more)
    unbuffered(url, upstream, **more)


@contextmanager
def vercel(folder: Path, gateway: str, old: str = "", new: str = "") -> Iterator[str]:
    """Run the ASGI entry, broken in one place if asked for; yield its address."""
    write(render(Deployment(), ("vercel",)), folder)
    port, api = free_port(), folder / "vercel" / "api"
    (api / "index.py").write_text(slip((api / "index.py").read_text(), old, new))
    entry = api / "served.py"  # only for this test: a way to see that the server is up
    entry.write_text(
        "import index\n\n\nasync def app(scope, receive, send):\n"
        "    if scope.get('path') != '/up':\n        return await index.app(scope, receive, send)\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b''})\n"
    )
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(api), "--port", str(port), "served:app"]
    url = f"http://127.0.0.1:{port}"
    with running("vercel", command, f"{url}/up", {"GATEWAY": gateway}):
        yield url


def test_vercels_asgi_entry_streams(tmp_path: Path, upstream: Upstream) -> None:
    with vercel(tmp_path, upstream.url) as url:
        everything(url, upstream)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('not scope["path"].startswith("/v1/") or ', ""),
        ('"status": response.status_code', '"status": 200'),
        ("async for piece in response.aiter_raw():", "for piece in [await response.aread()]:"),
    ],
)
def test_a_broken_asgi_entry_is_found(tmp_path: Path, upstream: Upstream, old: str, new: str) -> None:
    upstream.patience = 3.0
    with vercel(tmp_path, upstream.url, old, new) as url, pytest.raises(AssertionError):
        everything(url, upstream)


@contextmanager
def worker(folder: Path, npm: Path, gateway: str, old: str = "", new: str = "") -> Iterator[str]:
    """Run the Worker in workerd, broken in one place if asked for; yield its address."""
    (workerd,) = npm.glob("@cloudflare/workerd-*/bin/workerd")
    write(render(Deployment(), ("worker",)), folder)
    port, up, script = free_port(), free_port(), folder / "worker" / "worker.js"
    script.write_text(slip(script.read_text(), old, new))
    (folder / "worker" / "config.capnp").write_text(CAPNP % (port, up, gateway))
    url, command = (
        f"http://127.0.0.1:{port}",
        [str(workerd), "serve", str(folder / "worker" / "config.capnp")],
    )
    with running("workerd", command, f"http://127.0.0.1:{up}"):
        yield url


@pytest.mark.heavy
def test_the_worker_streams_in_workerd(tmp_path: Path, npm: Path, upstream: Upstream) -> None:
    with worker(tmp_path, npm, upstream.url) as url:
        everything(url, upstream)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('!pathname.startsWith("/v1/")', "false"),
        ("{ status: answer.status, headers: back }", "{ headers: back }"),
        ("new Response(answer.body", "new Response(await answer.text()"),
    ],
)
def test_a_broken_worker_is_found(tmp_path: Path, npm: Path, upstream: Upstream, old: str, new: str) -> None:
    upstream.patience = 3.0
    with worker(tmp_path, npm, upstream.url, old, new) as url, pytest.raises(AssertionError):
        everything(url, upstream)


@contextmanager
def behind_nginx(
    tmp_path: Path, gateway: str, old: str = "", new: str = ""
) -> Iterator[tuple[str, ssl.SSLContext]]:
    """Put nginx with the rendered settings, broken in one place if asked for, in front of a gateway."""
    certificate = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext"
    names = ["subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "tls.key", "-out", "tls.crt"]
    subprocess.run([*certificate.split(), *names], cwd=tmp_path, check=True, capture_output=True)
    http, https = free_port(), free_port()
    places = {"http": f"127.0.0.1:{http}", "https": f"127.0.0.1:{https}", "tls": str(tmp_path)}
    address = gateway.removeprefix("http://")
    text = slip(nginx(Deployment(), **places, run=str(tmp_path), upstream=address), old, new)
    command = ["nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-g", "daemon off;"]
    up = free_port()
    ready = f"server {{ listen 127.0.0.1:{up}; location /up {{ return 200; }} }}\n}}\n"
    (tmp_path / "nginx.conf").write_text(text.rstrip().removesuffix("}") + ready)
    trust = ssl.create_default_context(cafile=str(tmp_path / "tls.crt"))
    with running("nginx", command, f"http://127.0.0.1:{up}/up"):
        yield f"https://localhost:{https}", trust
        moved = httpx.get(f"http://127.0.0.1:{http}/v1/models", trust_env=False)
        assert (moved.status_code, moved.headers["location"][:8]) == (308, "https://")


@pytest.mark.heavy
def test_nginx_passes_streams_unbuffered_over_tls(tmp_path: Path, upstream: Upstream) -> None:
    with behind_nginx(tmp_path, upstream.url) as (url, trust):
        everything(url, upstream, verify=trust)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("old", "new"),
    [("proxy_buffering off", "proxy_buffering on"), ("location = /metrics { return 404; }", "")],
)
def test_a_broken_nginx_is_found(tmp_path: Path, upstream: Upstream, old: str, new: str) -> None:
    upstream.patience = 3.0
    with behind_nginx(tmp_path, upstream.url, old, new) as (url, trust), pytest.raises(AssertionError):
        everything(url, upstream, verify=trust)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, str]]:
    """Return the address of a real gateway that wants keys and says a word each 0.1 s, a student's key, an admin's."""
    state = tmp_path_factory.mktemp("gateway")
    keys = Keys(state / "keys.sqlite")
    (_, key), (_, admin) = keys.add("Mira"), keys.add("Ada", "admin")
    process, url = start_gateway("nano=echo;delay=0.1", profile="prod", state=state, cache="off")
    yield url, key, admin
    process.stop()


def asked(url: str, key: str, **more: Any) -> None:
    """Ask for ten words in a stream, and see that they come one after the other; without a key there are none."""
    body = {"model": "nano", "messages": [{"role": "user", "content": "a b c d e f g h i j"}], "stream": True}
    with httpx.Client(base_url=url, timeout=40, trust_env=False, **more) as client:
        assert client.post("/v1/chat/completions", json=body).status_code == 401
        headers, times, words = {"Authorization": f"Bearer {key}"}, list[float](), ""
        with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    times.append(time.monotonic())
                    choices = json.loads(line[6:])["choices"]
                    words += (choices[0]["delta"].get("content") or "") if choices else ""
    assert line == "" and words.split() == list("abcdefghij")
    assert times[-1] - times[0] > 0.25  # 0.9 s of words; held back, they would come at once


@pytest.mark.heavy
def test_the_gateway_itself_is_served_by_every_front(
    tmp_path: Path, npm: Path, gateway: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, key, _ = gateway
    for name in "vwn":
        (tmp_path / name).mkdir()
    with vercel(tmp_path / "v", url) as front:
        asked(front, key)
    with worker(tmp_path / "w", npm, url) as front:
        asked(front, key)
    with behind_nginx(tmp_path / "n", url) as (front, trust):
        asked(front, key, verify=trust)
    monkeypatch.setenv("GATEWAY", url)
    body = json.dumps({"model": "nano", "messages": [{"role": "user", "content": "Hello"}]})
    told = made(lambda text: text)(event("2.0", "/v1/chat/completions", body, key=key), Clock())
    assert (told["statusCode"], json.loads(told["body"])["choices"][0]["message"]["content"]) == (
        200,
        "Hello",
    )


@pytest.mark.heavy
def test_prometheus_reads_the_gateway_with_the_rendered_settings(
    tmp_path: Path, gateway: tuple[str, str, str]
) -> None:
    url, _, admin = gateway
    write(render(Deployment(), ("compose",)), tmp_path)
    (tmp_path / "key").write_text(admin)
    file, port = tmp_path / "prometheus.yml", free_port()
    text = (
        file.read_text()
        .replace("/run/secrets/metrics_key", str(tmp_path / "key"))
        .replace("_interval: 5s", "_interval: 1s")
    )
    file.write_text(text.replace("gateway:8000", url.removeprefix("http://")))
    at = f"127.0.0.1:{port}"
    folder = f"--storage.tsdb.path={tmp_path / 'data'}"
    command = ["prometheus", f"--config.file={file}", f"--web.listen-address={at}", folder]

    def query(words: str) -> list[str]:
        told = httpx.get(f"http://{at}/api/v1/query", params={"query": words}, trust_env=False).json()
        return [row["value"][1] for row in told["data"]["result"]]

    with running("prometheus", command, f"http://{at}/-/ready"):
        until = time.monotonic() + 40
        while query('up{job="labkit"}') != ["1"] and time.monotonic() < until:
            time.sleep(0.5)
        assert query('up{job="labkit"}') == ["1"] and query("labkit_backend_up") == ["1"]
        rules = httpx.get(f"http://{at}/api/v1/rules", trust_env=False).json()["data"]["groups"][0]["rules"]
        assert len(rules) > 5 and all(rule["health"] in ("ok", "unknown") for rule in rules)
        sent = httpx.get(f"http://{at}/api/v1/alertmanagers", trust_env=False).json()["data"]
        assert [one["url"] for one in sent["activeAlertmanagers"]] == [f"{url}/api/v2/alerts"]
