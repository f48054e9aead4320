"""llama.cpp's own server in a process of its own: many requests at once (continuous batching), and no compiler.

The package xllamacpp brings the server as a ready-built library; `llamaserver_main.py` runs it, and this module
starts that and speaks to it as to any OpenAI-compatible server.
"""

from __future__ import annotations

import json
import math
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from labkit.engines.base import installed
from labkit.engines.llamacpp_convert import can_quantize
from labkit.engines.llamacpp_embed import cut
from labkit.engines.llamacpp_files import gguf_file
from labkit.engines.own_server import OwnServer
from labkit.engines.process import ServerProcess, ServerSettings, free_port
from labkit.engines.settings import require_seconds, settings_of
from labkit.models.card import ModelCard
from labkit.models.hardware import free_cores
from labkit.types import Availability, TokenScore, require_whole

EVERY = 10**6  # more tokens than any vocabulary has


@dataclass(frozen=True, slots=True)
class LlamaServerOptions:
    """Settle how the server runs. `context` is tokens for each of `slots` requests at a time; `batch` is tokens.

    0 threads means the cores that are free; times are seconds. With `embeddings` it makes those, too.
    """

    context: int = 2048
    slots: int = 4
    threads: int = 0
    batch: int = 512
    embeddings: bool = False
    timeout: float = 300.0
    start_timeout: float = 120.0

    def __post_init__(self) -> None:
        limits = {"context": (16, 10**7), "slots": (1, 256), "threads": (0, 512), "batch": (1, 65_536)}
        for name, (low, high) in limits.items():
            require_whole(name, getattr(self, name), low, high)
        for name in ("timeout", "start_timeout"):
            require_seconds(name, getattr(self, name))


class LlamaServer(OwnServer):
    """Run a GGUF file in llama.cpp's server. `metrics_url` is where it tells Prometheus how it fares."""

    name = "llamaserver"
    embed = score = True
    longer = "load(…, context=…) with more tokens for each slot"
    settings: LlamaServerOptions
    embedding: threading.Lock
    metrics_url: str

    @classmethod
    def available(cls) -> Availability:
        """Look for the package without importing it."""
        return installed("xllamacpp", "pip install 'labkit[llamaserver]'")

    @classmethod
    def default_variant(cls, card: ModelCard) -> str:
        """Choose Q8_0 for a shipped model where nothing here can make the card's own choice."""
        return "Q8_0" if card.shipped and not can_quantize() else card.default_variant

    @classmethod
    def load(cls, card: ModelCard, variant: str, options: Mapping[str, Any]) -> Self:
        """Find or make the GGUF file, start the server, and wait until it answers."""
        chosen = settings_of(LlamaServerOptions, cls.name, options)
        path = gguf_file(card, variant, context=chosen.context * chosen.slots)
        process, url = start(path, card.alias, chosen)
        engine = cls.over(process, url, chosen.timeout, card.alias)
        engine.file, engine.metrics_url = path, f"{url}/metrics"
        engine.settings, engine.embedding = chosen, threading.Lock()
        return engine

    def embed_texts(self, texts: Sequence[str], truncate: bool) -> tuple[NDArray[np.float32], int]:
        """Return the mean of the last layer's states for each text, and the tokens read: one batch at most."""
        root, limit = self.url.removesuffix("/v1"), min(self.settings.batch, self.settings.context)
        # One by one: the server spoils the means of two texts of unlike length that share a batch.
        with self.vendor_errors(), self.embedding:
            split = [self.answer(f"{root}/tokenize", content=text)["tokens"] for text in texts]
            ids = cut(split, limit, truncate)
            told = [self.answer(f"{self.url}/embeddings", input=text)["data"][0] for text in ids]
        return np.array([row["embedding"] for row in told], np.float32), sum(map(len, ids))

    def score_text(self, text: str) -> list[TokenScore]:
        """Return each token's log-probability: one request a token, as the server tells of the next one only."""
        root, scores = self.url.removesuffix("/v1"), list[TokenScore]()
        with self.vendor_errors():
            pieces = self.answer(f"{root}/tokenize", content=text, with_pieces=True)["tokens"]
            ids = [piece["id"] for piece in pieces]
            for at, piece in enumerate(pieces):
                shown = piece["piece"]  # bytes, where they are no whole character
                said = shown if isinstance(shown, str) else bytes(shown).decode("utf-8", "replace")
                chance = self._next(root, ids[:at]).get(ids[at], -math.inf) if at else math.nan
                scores.append(TokenScore(ids[at], said, chance))
        return scores

    def _next(self, root: str, ids: Sequence[int]) -> dict[int, float]:
        told = self.answer(f"{root}/completion", prompt=ids, n_predict=1, n_probs=EVERY, cache_prompt=True)
        return {row["id"]: row["logprob"] for row in told["completion_probabilities"][0]["top_logprobs"]}

    def answer(self, url: str, **body: Any) -> Any:
        """Return what the server says to a request; raise the `LabkitError` its status means."""
        response = self.http.post(url, json=body)
        self.check(response.status_code, response.text)
        return response.json()


def start(path: Path, alias: str, options: LlamaServerOptions) -> tuple[ServerProcess, str]:
    """Start a server on a free port of this machine's loopback; return it with its URL."""
    port = free_port()
    told = asdict(options) | {"path": str(path), "alias": alias, "port": port}
    told["threads"] = options.threads or free_cores()
    command = (sys.executable, "-P", "-m", "labkit.engines.llamaserver_main", json.dumps(told))
    url = f"http://127.0.0.1:{port}"
    settings = ServerSettings("llamaserver", command, f"{url}/health", start_timeout=options.start_timeout)
    return ServerProcess(settings), url
