"""The fronts hand requests to a gateway (a stand-in here), stream what comes back, and hold no key."""

import base64
import json
import ssl
import subprocess
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_stand_in import KEY, Upstream

from labkit.deploy.render import nginx, render, write
from labkit.deploy.settings import Deployment
from labkit.engines.process import ServerProcess, ServerSettings, free_port

ROOT = Path(__file__).parents[2]
ASK = {"model": "nano", "messages": [{"role": "user", "content": "Grüße"}]}
CAPNP = """using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .front), (name = "internet", network = (allow = ["public", "private"]))],
  sockets = [(name = "http", address = "127.0.0.1:%d", http = (), service = "main")]);
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
    module = types.ModuleType("handler")
    exec(render(Deployment(), ("lambda",))["lambda/handler.py"], module.__dict__)
    return module.handler


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


def test_vercels_asgi_entry_streams(tmp_path: Path, upstream: Upstream) -> None:
    write(render(Deployment(), ("vercel",)), tmp_path)
    port, ready = free_port(), tmp_path / "vercel" / "api"
    entry = ready / "served.py"  # only for this test: a way to see that the server is up
    entry.write_text(
        "import index\n\n\nasync def app(scope, receive, send):\n"
        "    if scope.get('path') != '/up':\n        return await index.app(scope, receive, send)\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b''})\n"
    )
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(ready), "--port", str(port), "served:app"]
    url = f"http://127.0.0.1:{port}"
    with running("vercel", command, f"{url}/up", {"GATEWAY": upstream.url}):
        plain(url, upstream)
        unbuffered(url, upstream)


@pytest.mark.heavy
def test_the_worker_streams_in_workerd(tmp_path: Path, upstream: Upstream) -> None:
    home = ROOT / "build" / "workerd"
    if not (found := list(home.glob("node_modules/@cloudflare/workerd-*/bin/workerd"))):
        subprocess.run(["npm", "install", "--prefix", str(home), "workerd"], check=True, timeout=600)
        found = list(home.glob("node_modules/@cloudflare/workerd-*/bin/workerd"))
    write(render(Deployment(), ("worker",)), tmp_path)
    port = free_port()
    (tmp_path / "worker" / "config.capnp").write_text(CAPNP % (port, upstream.url))
    url, command = (
        f"http://127.0.0.1:{port}",
        [str(found[0]), "serve", str(tmp_path / "worker" / "config.capnp")],
    )
    with running("workerd", command, f"{url}/v1/models"):
        plain(url, upstream)
        unbuffered(url, upstream)


@pytest.mark.heavy
def test_nginx_passes_streams_unbuffered_over_tls(tmp_path: Path, upstream: Upstream) -> None:
    certificate = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext"
    names = ["subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "tls.key", "-out", "tls.crt"]
    subprocess.run([*certificate.split(), *names], cwd=tmp_path, check=True, capture_output=True)
    http, https = free_port(), free_port()
    places = {"http": f"127.0.0.1:{http}", "https": f"127.0.0.1:{https}", "tls": str(tmp_path)}
    address = upstream.url.removeprefix("http://")
    text = nginx(Deployment(), **places, run=str(tmp_path), upstream=address)
    command = ["nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-g", "daemon off;"]
    up = free_port()
    ready = f"server {{ listen 127.0.0.1:{up}; location /up {{ return 200; }} }}\n}}\n"
    (tmp_path / "nginx.conf").write_text(text.rstrip().removesuffix("}") + ready)
    trust = ssl.create_default_context(cafile=str(tmp_path / "tls.crt"))
    with running("nginx", command, f"http://127.0.0.1:{up}/up"):
        plain(f"https://localhost:{https}", upstream, verify=trust)
        unbuffered(f"https://localhost:{https}", upstream, verify=trust)
        moved = httpx.get(f"http://127.0.0.1:{http}/v1/models", trust_env=False)
        assert (moved.status_code, moved.headers["location"][:8]) == (308, "https://")
