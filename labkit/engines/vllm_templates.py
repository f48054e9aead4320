"""How vLLM serves: its settings under its own names, the command they make, and five to start from.

Nothing is started here, and vLLM need not be installed.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, fields
from typing import Any

from labkit.errors import OptionInvalid
from labkit.types import require_whole

DTYPES = ("auto", "float32", "bfloat16", "float16")
SIZES = ("max_model_len", "max_num_seqs", "max_num_batched_tokens", "kv_cache_memory_bytes")
COUNTS = ("tensor_parallel_size", "pipeline_parallel_size", "num_speculative_tokens")
SWITCHES = ("enable_prefix_caching", "enable_chunked_prefill", "enforce_eager")
COMPACT = ("xgrammar", "guidance")
TEXTS = ("quantization", "speculative_model", "structured_outputs_backend", "tool_call_parser")


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """Settle how vLLM runs, in the words of its own flags; None leaves a choice to vLLM.

    `max_model_len` is the tokens of the longest conversation, `max_num_seqs` the most requests at a time,
    `max_num_batched_tokens` the most tokens of one step. `gpu_memory_utilization` is the share of each GPU's memory
    that vLLM takes; `kv_cache_memory_bytes` settles the cache itself, on a processor too. `quantization` names how the
    checkpoint is quantized already. `speculative_model` drafts `num_speculative_tokens` a step: a model with the same
    vocabulary, or "ngram" for words of the text itself.
    """

    dtype: str = "auto"
    max_model_len: int = 2048
    max_num_seqs: int = 32
    max_num_batched_tokens: int = 2048
    gpu_memory_utilization: float = 0.9
    kv_cache_memory_bytes: int | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    quantization: str | None = None
    enable_prefix_caching: bool = True
    enable_chunked_prefill: bool = True
    enforce_eager: bool = False
    speculative_model: str | None = None
    num_speculative_tokens: int = 4
    structured_outputs_backend: str = "xgrammar"
    tool_call_parser: str = "hermes"

    def __post_init__(self) -> None:
        for name in (*SIZES, *COUNTS):
            if getattr(self, name) is not None:
                require_whole(name, getattr(self, name), 1, 10**14)
        share = self.gpu_memory_utilization
        rules = {name: (isinstance(getattr(self, name), bool), "True or False") for name in SWITCHES}
        rules |= {name: (isinstance(getattr(self, name) or "", str), "a string") for name in TEXTS}
        rules["dtype"] = self.dtype in DTYPES, f"one of {', '.join(DTYPES)}"
        rules["gpu_memory_utilization"] = type(share) in (int, float) and 0 < share <= 1, "from 0 to 1"
        for name, (kept, want) in rules.items():
            if not kept:
                raise OptionInvalid.of(name, getattr(self, name), want)

    @property
    def gpus(self) -> int:
        """Return how many GPUs these settings need."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    def arguments(self) -> tuple[str, ...]:
        """Return vLLM's flags."""
        flags: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(VllmSettings)}
        draft, tokens = flags.pop("speculative_model"), flags.pop("num_speculative_tokens")
        if draft:
            kind = {"method": "ngram", "prompt_lookup_max": 4} if draft == "ngram" else {"model": draft}
            flags["speculative_config"] = {**kind, "num_speculative_tokens": tokens}
        backend = flags.pop("structured_outputs_backend")
        # Else a small model may write blanks between two tokens of JSON without end.
        compact = {"disable_any_whitespace": True} if backend in COMPACT else {}
        flags["structured_outputs_config"] = {"backend": backend, **compact}
        flags |= {"enable_auto_tool_choice": True, "enable_prompt_tokens_details": True}
        return tuple(word for name, value in flags.items() for word in _words(name, value))

    def command(self, model: str, host: str = "127.0.0.1", port: int = 8000) -> tuple[str, ...]:
        """Return the command that serves `model`, a folder or a name on the Hugging Face hub."""
        return ("vllm", "serve", model, "--host", host, "--port", str(port), *self.arguments())

    def shell(self, model: str) -> str:
        """Return the command to paste into a shell, one flag a line."""
        return shlex.join(self.command(model)).replace(" --", " \\\n  --")


def _words(name: str, value: Any) -> tuple[str, ...]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return (f"--{flag}",) if value else (() if name == "enforce_eager" else (f"--no-{flag}",))
    if value is None:
        return ()
    return f"--{flag}", json.dumps(value) if isinstance(value, dict) else str(value)


# After the five templates of Microsoft's "Edge AI for Beginners" (module 6). Changed: a draft that fits every model,
# none over a pipeline, where it did not start (vLLM's issue 57755); the server listens to its own machine only, runs no
# code from a checkpoint, and calls tools.
TEMPLATES = {
    "development": VllmSettings(
        gpu_memory_utilization=0.6, max_model_len=2048, max_num_seqs=32, max_num_batched_tokens=2048,
        enable_prefix_caching=False),
    "staging": VllmSettings(
        gpu_memory_utilization=0.8, max_model_len=4096, max_num_seqs=64, max_num_batched_tokens=4096,
        quantization="awq"),
    "production-low": VllmSettings(
        gpu_memory_utilization=0.85, max_model_len=4096, max_num_seqs=128, max_num_batched_tokens=8192,
        quantization="awq"),
    "production-high": VllmSettings(
        gpu_memory_utilization=0.9, max_model_len=8192, max_num_seqs=256, max_num_batched_tokens=16_384,
        quantization="awq", tensor_parallel_size=2, speculative_model="ngram"),
    "enterprise": VllmSettings(
        gpu_memory_utilization=0.95, max_model_len=16_384, max_num_seqs=512, max_num_batched_tokens=32_768,
        quantization="awq", tensor_parallel_size=4, pipeline_parallel_size=2, structured_outputs_backend="outlines"),
}  # fmt: skip
