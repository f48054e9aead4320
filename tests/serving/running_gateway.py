"""A gateway that really runs: uvicorn on a free port of this machine, in a thread, so that tests see its parts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from labkit.engines.process import free_port

HELLO: dict[str, Any] = {"model": "nano", "messages": [{"role": "user", "content": "Say this back"}]}


class Running:
    """A running gateway: `url`, `gateway` (its parts, in the same process), `http` (a client), `state` (folder)."""

    def __init__(self, url: str, gateway: Any, state: Path, verify: Any = True) -> None:
        self.url, self.gateway, self.state = url, gateway, state
        self.http = httpx.Client(base_url=url, timeout=30, trust_env=False, verify=verify)

    def chat(self, text: str = "Say this back", **more: Any) -> httpx.Response:
        """Ask without streaming, unless told."""
        headers = {"Authorization": f"Bearer {more.pop('key')}"} if "key" in more else {}
        body = HELLO | {"messages": [{"role": "user", "content": text}]} | more
        return self.http.post("/v1/chat/completions", json=body, headers=headers)


@contextmanager
def running(state: Path, *backends: str, ready: int = 200, **changes: Any) -> Iterator[Running]:
    """Start a gateway with backends in their text form; wait until it is ready, or says that it is not."""
    from labkit.serving.app import Server
    from labkit.serving.settings import Backend, Settings

    specs = tuple(map(Backend.parse, backends or ("echo=echo",)))
    settings = Settings(
        **{"port": free_port(), "state": str(state), "backends": specs, "grace": 5.0, **changes}
    )
    server = Server(settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    scheme = "https" if settings.tls_cert else "http"
    verify: Any = settings.tls_cert or True
    if settings.tls_cert:
        import ssl

        verify = ssl.create_default_context(cafile=settings.tls_cert)
    found = Running(f"{scheme}://127.0.0.1:{settings.port}", server.gateway_app.state.gateway, state, verify)
    try:
        wait_for(lambda: is_ready(found.http, ready))
        yield found
    finally:
        found.http.close()
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def is_ready(http: httpx.Client, status: int = 200) -> bool:
    try:
        return http.get("/ready").status_code == status
    except httpx.TransportError:
        return False


def wait_for(truth: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Return what is true at last; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (found := truth()):
        assert time.monotonic() < deadline, f"not true within {seconds:g} s"
        time.sleep(0.02)
    return found
