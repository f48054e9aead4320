"""A small Hugging Face hub on this machine: HEAD and GET of `resolve`, ranges, and ways to fail."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Hold what the server serves and what it saw.

    `cuts` are byte counts: each GET in turn breaks off after so many. `status` and `error_code` answer every
    request with an error. `send` is what GET sends, when that differs from `content`.
    """

    content: bytes = b""
    etag: str = ""
    send: bytes | None = None
    cuts: list[int] = field(default_factory=list)
    status: int = 200
    error_code: str = ""
    ranges: bool = True
    plain: bool = False
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    url: str = ""


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.reply(b"", len(hub.content))

        def do_GET(self) -> None:
            data = hub.content if hub.send is None else hub.send
            first = int(self.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0])
            first = first if hub.ranges else 0
            self.reply(data[first:], len(data) - first, partial=hub.ranges)

        def reply(self, body: bytes, length: int, partial: bool = False) -> None:
            if "/resolve/" in self.path:  # the hub library asks for other things too
                hub.requests.append((self.command, self.path, self.headers.get("Range", "")))
            if hub.status != 200:
                self.send_response(hub.status)
                self.send_header("X-Error-Code", hub.error_code)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if partial else 200)
            self.send_header("Content-Length", str(length))
            if not hub.plain:
                self.send_header("ETag", f'"{hub.etag or hashlib.sha256(hub.content).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if body and hub.cuts:
                body = body[: hub.cuts.pop(0)]
                self.close_connection = True
            self.wfile.write(body)
            if len(body) != length:
                self.close_connection = True

    return Handler


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Run the hub on a free port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(hub)) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
