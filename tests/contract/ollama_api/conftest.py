"""What answers: the daemon at OLLAMA_HOST, or labkit's endpoint, started here. The tests cannot tell the two apart."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from labkit.engines.llamacpp_files import gguf_file
from labkit.engines.llamaserver import LlamaServer
from labkit.engines.ollama_daemon import STOPS, TEMPLATE, address
from labkit.models.catalog import find

ollama = pytest.importorskip("ollama", reason="needs Ollama's client: pip install 'labkit[ollama]'")
MODEL = "labkit-suite:nano"


@pytest.fixture(scope="session")
def host() -> Iterator[str]:
    if os.environ.get("OLLAMA_HOST"):
        yield address(None)
        return
    for package in ("fastapi", "uvicorn", "xllamacpp"):
        if not os.environ.get("CI"):
            pytest.importorskip(package, reason="labkit's endpoint needs labkit[serve,llamaserver]")
    from labkit.serving.endpoint import start_ollama_api

    process, url = start_ollama_api(engine="llamaserver", threads=1)
    yield url
    process.stop()


@pytest.fixture(scope="session")
def client(host: str) -> Iterator["ollama.Client"]:
    with ollama.Client(host, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture(scope="session")
def http(host: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=host, timeout=60, trust_env=False) as http:
        yield http


@pytest.fixture(scope="session")
def gguf() -> Path:
    """The small model that the suite brings along."""
    card = find("nano")
    return gguf_file(card, LlamaServer.default_variant(card), 16)


@pytest.fixture(scope="session")
def model(client: "ollama.Client", gguf: Path) -> Iterator[str]:
    files = {gguf.name: client.create_blob(gguf)}
    steps = client.create(MODEL, files=files, template=TEMPLATE, parameters={"stop": STOPS}, stream=True)
    assert [step.status for step in steps][-1] == "success"
    yield MODEL
    with suppress(ollama.ResponseError):
        client.delete(MODEL)
