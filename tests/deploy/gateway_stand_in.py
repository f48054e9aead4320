"""A stand-in for the gateway: it streams one event, and the rest only when the test has seen the first."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "lk-right"


class Upstream(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.first_seen = threading.Event()
        self.patience = 20.0
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    server: Upstream
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.tell(200, {"status": "ok"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append((self.path, json.dumps(body), headers))
        if headers.get("authorization") != f"Bearer {KEY}":
            return self.tell(401, {"error": {"code": "invalid_api_key"}})
        if body.get("busy"):
            return self.tell(429, {"error": {"code": "rate_limit_exceeded"}}, {"Retry-After": "7"})
        if not body.get("stream"):
            return self.tell(200, {"choices": [{"message": {"content": "Hello"}}]})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.event('data: {"n": 1}')
        held_back = not self.server.first_seen.wait(self.server.patience)
        self.event(f'data: {{"n": 2, "held_back": {json.dumps(held_back)}}}')
        self.event("data: [DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, text: str) -> None:
        data = f"{text}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def tell(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass
