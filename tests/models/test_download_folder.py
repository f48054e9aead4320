"""Pulling a whole folder from a hub on this machine: all of it, or nothing that looks finished."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from hub import COMMIT

from labkit.errors import DownloadFailed, ModelNotFound
from labkit.models import store
from labkit.models.card import Ref
from labkit.models.catalog import find
from labkit.models.download import pull_folder, pulled_folder

FILES = {
    "cpu/int4/genai_config.json": b"{}",
    "cpu/int4/model.onnx": b"graph",
    "cpu/int4/model.onnx.data": b"weights" * 1000,
    "cpu/int4/parts/more.bin": b"more",
    "README.md": b"about all of them",
}
CARD = replace(find("phi-4-mini"), refs={"onnx": Ref("someone/phi", "cpu/int4"), "mlx": Ref("someone/phi")})


def quiet(done: int, total: int) -> None:
    """Show no progress."""


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """Serve a copy of `FILES` as a hub does; a test may take some away."""
    served = dict(FILES)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = unquote(self.path.partition("?")[0])
            if "/tree/" in path:
                folder = path.partition("/tree/main")[2].strip("/")
                data = json.dumps(
                    [
                        {"type": "file", "path": name, "size": len(FILES[name]), "oid": "0" * 40}
                        for name in FILES
                        if name.startswith(folder)
                    ]
                ).encode()
            else:
                data = served.get(path.partition("/resolve/")[2].partition("/")[2], b"")
            self.send_response(200 if data else 404)
            if not data:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if body:
                self.wfile.write(data)

    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        yield served
        from huggingface_hub.utils._http import close_session

        close_session()
        server.shutdown()
        thread.join()


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_folder_of_a_ref_comes_whole_and_once(files: dict[str, bytes]) -> None:
    folder = pull_folder(CARD, "onnx", quiet)
    found = contents(folder)
    for name in ("genai_config.json", "model.onnx", "model.onnx.data", "parts/more.bin"):
        assert found[name] == FILES[f"cpu/int4/{name}"]
        assert store.verified(folder / name, deep=True)
    assert "README.md" not in found
    files.clear()
    assert pull_folder(CARD, "onnx", quiet) == pulled_folder(CARD, "onnx") == folder


def test_a_ref_without_a_folder_is_the_whole_repository(files: dict[str, bytes]) -> None:
    assert (pull_folder(CARD, "mlx", quiet) / "README.md").read_bytes() == FILES["README.md"]


def test_half_a_folder_does_not_look_finished_and_is_gone_on_with(files: dict[str, bytes]) -> None:
    del files["cpu/int4/parts/more.bin"]
    with pytest.raises(ModelNotFound):
        pull_folder(CARD, "onnx", quiet)
    with pytest.raises(ModelNotFound) as caught:
        pulled_folder(CARD, "onnx")
    assert caught.value.fix == "labkit models pull phi-4-mini --engine onnx"
    files.clear()
    files["cpu/int4/parts/more.bin"] = FILES["cpu/int4/parts/more.bin"]
    assert (pull_folder(CARD, "onnx", quiet) / "parts" / "more.bin").is_file()


def test_what_cannot_be_pulled_is_named(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelNotFound):
        pull_folder(CARD, "foundry", quiet)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadFailed) as caught:
        pull_folder(CARD, "onnx", quiet)
    assert caught.value.fix == "unset HF_HUB_OFFLINE"
