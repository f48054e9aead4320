"""vLLM's OpenAI server: started here in an environment of its own, or one that runs already, by its URL.

It batches continuously, keeps its KV cache in blocks (PagedAttention), and says at /metrics how it fares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from labkit.engines.environments import python_of, version_of
from labkit.engines.llamacpp_files import shipped_folder
from labkit.engines.openai import SERVED
from labkit.engines.own_server import OwnServer
from labkit.engines.process import ServerProcess, ServerSettings, free_port
from labkit.engines.prometheus import read_page
from labkit.engines.settings import require_seconds, settings_of
from labkit.engines.vllm_templates import VllmSettings
from labkit.errors import EngineFailed, ModelNotFound
from labkit.models.card import ModelCard
from labkit.models.catalog import catalog
from labkit.models.download import pulled_folder
from labkit.models.fit import check_fit
from labkit.models.hardware import free_cores, gpus
from labkit.types import Availability, require_whole

AUTO = "auto"
# The command `vllm` fails in the build for processors: it looks for a package of that very name.
SERVER = "vllm.entrypoints.openai.api_server"
LEAST_CACHE = 64 * 2**20
# Nothing leaves this machine, and nothing of labkit's own environment gets in.
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


@dataclass(frozen=True, slots=True)
class VllmOptions(VllmSettings):
    """Add to vLLM's settings how its server is started here. 0 threads means the cores that are free; times are s."""

    threads: int = 0
    timeout: float = 300.0
    start_timeout: float = 300.0

    def __post_init__(self) -> None:
        VllmSettings.__post_init__(self)
        require_whole("threads", self.threads, 0, 512)
        for name in ("timeout", "start_timeout"):
            require_seconds(name, getattr(self, name))


@dataclass(frozen=True, slots=True)
class VllmMetrics:
    """Read a server's /metrics: requests `running` and `waiting` now, the share of KV-cache blocks in use, and totals.

    Totals count tokens since the start: `prefix_queries` were looked up in the prefix cache, `prefix_hits` found there.
    Of a server with several engines (data parallel), they are sums, and of the cache the fullest.
    """

    running: float
    waiting: float
    kv_cache_usage: float
    prompt_tokens: float
    generation_tokens: float
    prefix_queries: float
    prefix_hits: float

    NAMES: ClassVar[Mapping[str, str]] = {
        "running": "vllm:num_requests_running",
        "waiting": "vllm:num_requests_waiting",
        "kv_cache_usage": "vllm:kv_cache_usage_perc",
        "prompt_tokens": "vllm:prompt_tokens_total",
        "generation_tokens": "vllm:generation_tokens_total",
        "prefix_queries": "vllm:prefix_cache_queries_total",
        "prefix_hits": "vllm:prefix_cache_hits_total",
    }

    def __str__(self) -> str:
        now = f"{self.running:.0f} running, {self.waiting:.0f} waiting, {self.kv_cache_usage:.0%} of the cache used"
        total = f"{self.prompt_tokens:,.0f} tokens read, {self.generation_tokens:,.0f} written"
        return f"{now}; {total}; prefix cache: {self.prefix_hits:,.0f} of {self.prefix_queries:,.0f}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Read Prometheus' text format; raise `EngineFailed` where a metric is missing."""
        found = read_page(text)
        try:
            return cls(**{field: found[name] for field, name in cls.NAMES.items()})
        except KeyError as exc:
            raise EngineFailed(f"these metrics lack {exc}", fix="ask vLLM, version 0.10 or later") from exc


class Vllm(OwnServer):
    """Serve a Hugging Face folder with vLLM. `variant` is the type it computes in; "auto" is the checkpoint's."""

    name = "vllm"
    longer = "load(…, max_model_len=…) with more tokens"

    @classmethod
    def available(cls) -> Availability:
        """Look for vLLM's environment."""
        found = version_of("vllm")
        fix = "labkit engines install vllm"
        return Availability(True, found) if found else Availability(False, "", "vllm is not installed", fix)

    @classmethod
    def default_variant(cls, card: ModelCard) -> str:
        """Return "auto": the checkpoint, or a running server, decides."""
        return AUTO

    @classmethod
    def load(cls, card: ModelCard, variant: str, options: Mapping[str, Any]) -> Self:
        """Start a server and wait until it answers, or, with `url=`, look the model up in one that runs."""
        if "url" in options:
            return super().load(card, SERVED if variant == AUTO else variant, options)
        chosen = settings_of(VllmOptions, cls.name, options)
        chosen = chosen if variant == AUTO else replace(chosen, dtype=variant)
        check_fit(card, None, chosen.max_model_len)
        process, url = start(model_folder(card), card, chosen)
        return cls.over(process, url, chosen.timeout, card.alias)

    def metrics(self) -> VllmMetrics:
        """Ask the server how it fares."""
        with self.vendor_errors():
            answer = self.http.get(f"{self.url.removesuffix('/v1')}/metrics")
            self.check(answer.status_code, answer.text)
            return VllmMetrics.read(answer.text)


def model_folder(card: ModelCard) -> Path:
    """Return the Hugging Face folder of a shipped or a pulled model."""
    ref = card.refs.get("vllm")
    if ref is None:
        raise ModelNotFound(f"{card.alias} has no files for vLLM", fix=f"labkit models info {card.alias}")
    return shipped_folder(ref) if ref.package else pulled_folder(card, "vllm")


def start(folder: Path, card: ModelCard, options: VllmOptions) -> tuple[ServerProcess, str]:
    """Start a server on a free port of this machine's loopback; return it with its URL."""
    draft = catalog().get(options.speculative_model or "")
    if draft:
        options = replace(options, speculative_model=str(model_folder(draft)))
    if not gpus():  # vLLM would take nearly all the memory there is, and minutes to compile
        room = 2 * card.kv_bytes(options.max_model_len * options.max_num_seqs)  # twice: float32
        room = options.kv_cache_memory_bytes or max(LEAST_CACHE, room)
        options = replace(options, kv_cache_memory_bytes=room, enforce_eager=True)
    port, threads = free_port(), str(options.threads or free_cores())
    place = ["--model", str(folder), "--served-model-name", card.alias]
    place += ["--host", "127.0.0.1", "--port", str(port)]
    command = (str(python_of("vllm")), "-I", "-m", SERVER, *place, *options.arguments())
    env = {**ENVIRONMENT, "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": threads}
    url = f"http://127.0.0.1:{port}"
    return ServerProcess(ServerSettings("vllm", command, f"{url}/health", env, options.start_timeout)), url
