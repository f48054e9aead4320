"""What runs now, in figures: replies as they stream, a server's /metrics page, and this machine.

Each `look()` adds a point to a window of the last ones. Figures are defined in `records.METRICS`.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Any

from labkit.engines.base import Model, close_source
from labkit.engines.prometheus import read_page
from labkit.errors import EngineUnavailable
from labkit.metrics.probes import Rate, readers
from labkit.metrics.records import Record, about
from labkit.types import Chunk

GAPS = 2_000
SCRAPE_S = 1.0  # a page of metrics costs its server some work, so it is not asked at every look
TIMEOUT_S = 2.0
# What vLLM, llama.cpp's server and labkit's gateway call it.
GAUGES = {
    "running": ("vllm:num_requests_running", "llamacpp:requests_processing", "labkit_requests_running"),
    "waiting": ("vllm:num_requests_waiting", "llamacpp:requests_deferred", "labkit_queue_depth"),
    "kv_cache_usage": ("vllm:kv_cache_usage_perc", "llamacpp:kv_cache_usage_ratio"),
}
WRITTEN = ("vllm:generation_tokens_total", "llamacpp:tokens_predicted_total", "labkit_output_tokens_sum")
TIMES = {
    "server_ttft": ("vllm:time_to_first_token_seconds", "labkit_ttft_seconds"),
    "server_itl": ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
}


class Live:
    """Keep the last `points` values of each figure, and the last gaps between outputs (`itl`): `window()`.

    `url` is the address of a server's metrics. `trouble` says why it gives none now, and is "" while it does.
    """

    def __init__(self, url: str = "", points: int = 200) -> None:
        self.url = url if not url or url.endswith("/metrics") else f"{url.rstrip('/')}/metrics"
        self.model: Model | None = None
        self._watched: object = None
        self.points, self.trouble = points, ""
        self._series: dict[str, deque[float]] = {}
        self._lock, self._readers = threading.Lock(), readers()
        self._written = self._waiting = self._running = 0
        self._rate, self._page, self._scraped = Rate("token_rate", 1), dict[str, float](), -math.inf

    def window(self) -> dict[str, list[float]]:
        """Return the values that are kept, by figure."""
        with self._lock:
            return {name: list(values) for name, values in self._series.items()}

    def record(self, **settings: Any) -> Record:
        """Return the window as a record."""
        return Record("live", about(self.model or self.url or "this machine", **settings), self.window(), {})

    def attach(self, model: Model) -> None:
        """Watch every reply of a model from now on, until `detach()`, or until another takes its place."""

        def watched(*arguments: Any, **keywords: Any) -> Iterator[Chunk]:
            return self.watch(type(model).stream(model, *arguments, **keywords))

        # Only this one object is changed, so a model that nobody watches is as quick as before.
        vars(model)["stream"] = self._watched = watched
        self.model = model

    @property
    def attached(self) -> bool:
        """Return whether the model is (still) watched from here, where there is one."""
        return self.model is None or vars(self.model).get("stream") is self._watched

    def detach(self) -> None:
        """Leave the model alone."""
        if self.model and self.attached:
            del vars(self.model)["stream"]

    def watch(self, stream: Iterator[Chunk]) -> Iterator[Chunk]:
        """Pass a stream on, and note when its outputs come."""
        self._count(waiting=1)
        last = math.nan
        try:
            for chunk in stream:
                if chunk.tokens:
                    self._count(-1, 1, chunk.tokens) if math.isnan(last) else self._count(0, 0, chunk.tokens)
                    self._add({"ttft": chunk.at} if math.isnan(last) else {"itl": chunk.at - last})
                    last = chunk.at
                if chunk.usage:
                    self._add({"kv_tokens": chunk.usage.total_tokens})
                yield chunk
        finally:
            close_source(stream)
            self._count(-1, 0) if math.isnan(last) else self._count(0, -1)

    def look(self) -> None:
        """Add a point for all that can be seen now."""
        figures = {name: value for read in self._readers for name, value in read().items()}
        if self.model:
            figures |= {"running": self._running, "waiting": self._waiting, **self._rate(self._written)}
        if self.url and time.monotonic() - self._scraped >= SCRAPE_S:
            self._scraped, self.trouble = time.monotonic(), ""
            try:
                figures |= self.scrape()
            except EngineUnavailable as error:  # it may come back
                self.trouble = error.what
        self._add(figures)

    def scrape(self) -> dict[str, float]:
        """Ask the server how it fares; raise `EngineUnavailable` where none answers, or none that is known."""
        import httpx

        try:
            answer = httpx.get(self.url, timeout=TIMEOUT_S).raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            why = f"{self.url:.200} gives no metrics: {error!s:.200}"
            raise EngineUnavailable(why, fix="start the server, with its metrics on") from error
        return self.figures(read_page(answer.text))

    def figures(self, page: dict[str, float]) -> dict[str, float]:
        """Return gauges as they are, and rates and means since the page before."""
        if not page.keys() & {*WRITTEN, *chain(*GAUGES.values())}:
            raise EngineUnavailable(
                f"{self.url:.200} has no metrics of vLLM or llama.cpp, nor a gateway's", fix="ask another"
            )
        before, self._page = self._page, page
        found = {k: page[n] for k, names in GAUGES.items() for n in names if n in page}
        found |= next((self._rate(page[name]) for name in WRITTEN if name in page), {})
        for key, names in TIMES.items():
            for name in names:
                grown = [page.get(n, 0.0) - before.get(n, math.inf) for n in (f"{name}_sum", f"{name}_count")]
                found |= {key: grown[0] / grown[1]} if grown[1] > 0 else {}
        return found

    def _count(self, waiting: int, running: int = 0, written: int = 0) -> None:
        with self._lock:
            self._waiting += waiting
            self._running += running
            self._written += written

    def _add(self, figures: dict[str, float]) -> None:
        with self._lock:
            for name, value in figures.items():
                kept = GAPS if name == "itl" else self.points
                self._series.setdefault(name, deque(maxlen=kept)).append(value)
