"""The few llama.cpp calls the engine needs, as a class with Python's manners: errors raised, memory freed.

This module knows tokens and logits; it knows nothing of chat, templates or tools.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.errors import ContextOverflow, EngineFailed, EngineUnavailable, ModelFileInvalid, OptionInvalid
from labkit.models.hardware import free_cores
from labkit.types import require_whole

PREFILL_SLICE_S = 0.3
FIRST_SLICE = 64
ATTR_CONTROL, ATTR_USER_DEFINED = 1 << 3, 1 << 4  # llama.h, enum llama_token_attr


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Settle how a model is loaded. `context`, `batch` are tokens; 0 threads means the cores that are free.

    `draft` names a smaller model of the same family, which guesses `draft_tokens` at a time (`llamacpp_draft`).
    """

    context: int = 2048
    threads: int = 0
    batch: int = 512
    gpu_layers: int = 0
    memory_lock: bool = False
    numa: bool = False
    flash_attention: bool = True
    draft: str = ""
    draft_tokens: int = 4

    def __post_init__(self) -> None:
        limits = {"context": (16, 10**7), "threads": (0, 512), "batch": (1, 65_536)}
        limits |= {"gpu_layers": (-1, 10_000), "draft_tokens": (1, 64)}
        for name, (low, high) in limits.items():
            require_whole(name, getattr(self, name), low, high)
        for name in ("memory_lock", "numa", "flash_attention"):
            if not isinstance(getattr(self, name), bool):
                raise OptionInvalid.of(name, getattr(self, name), "True or False")
        if not isinstance(self.draft, str):
            raise OptionInvalid.of("draft", self.draft, 'the name of a model: "pico"')


class Log:
    """Keep llama.cpp's warnings and errors instead of letting it print them."""

    def __init__(self, library: Any) -> None:
        self.lines: list[str] = []

        def keep(level: int, text: bytes, _: object) -> None:
            if level in (3, 4):  # GGML_LOG_LEVEL_WARN, _ERROR
                self.lines = [*self.lines[-20:], text.decode("utf-8", "replace").strip()]

        self._keep = library.llama_log_callback(keep)  # must outlive the library's use of it
        library.llama_log_set(self._keep, None)

    def last(self) -> str:
        """Return the latest lines as one sentence."""
        return "; ".join(line for line in self.lines[-3:] if line) or "no reason given"


_library: Any = None
_log: Log | None = None


def library() -> tuple[Any, Log]:
    """Import llama_cpp once, silence it, and return it with its log."""
    global _library, _log
    if _library is None or _log is None:
        try:
            import llama_cpp
        except (ImportError, OSError, RuntimeError) as exc:
            raise EngineUnavailable(
                f"llama-cpp-python cannot be imported ({exc})", fix="pip install 'labkit[llamacpp]'"
            ) from exc
        _log = Log(llama_cpp)
        llama_cpp.llama_backend_init()
        _library = llama_cpp
    return _library, _log


class Context:
    """A model and its KV cache: tokens go in, logits come out, and tokens read before are kept."""

    def __init__(self, path: Path, options: LoadOptions) -> None:
        self.lib, log = library()
        self.path, self.options = path, options
        self.threads = options.threads or free_cores()
        self.model = self.ctx = None
        if options.numa:
            self.lib.llama_numa_init(1)  # GGML_NUMA_STRATEGY_DISTRIBUTE
        self.model = self.lib.llama_model_load_from_file(str(path).encode(), self._model_params())
        if not self.model:
            raise ModelFileInvalid(
                f"llama.cpp cannot load {path.name}: {log.last()}", fix=f"delete {path} and load again"
            )
        self.ctx = self.lib.llama_init_from_model(self.model, self.context_params())
        if not self.ctx:
            self.free()
            raise EngineFailed(
                f"llama.cpp made no context of {options.context} tokens: {log.last()}",
                fix="a smaller context=",
            )
        self.vocab = self.lib.llama_model_get_vocab(self.model)
        # llama.cpp rounds a context up to a multiple of 256; a student gets what was asked for.
        self.size = min(int(self.lib.llama_n_ctx(self.ctx)), options.context)
        self.width = int(self.lib.llama_vocab_n_tokens(self.vocab))
        self.memory = self.lib.llama_get_memory(self.ctx)
        self.seen: list[int] = []
        self._one = (ctypes.c_int32 * 1)()
        self._batch_one = self.lib.llama_batch_get_one(self._one, 1)
        self._buffer = ctypes.create_string_buffer(512)
        self._pieces: dict[int, bytes] = {}

    def _model_params(self) -> Any:
        params = self.lib.llama_model_default_params()
        params.n_gpu_layers = self.options.gpu_layers
        # Compiled by GCC, llama.cpp's AMX code may kill the process (its issue 20824, pull request 26954).
        params.use_extra_bufts = not has_amx()
        if self.options.memory_lock and hasattr(params, "use_mlock"):  # as in 0.3.29, which conda-forge has
            params.use_mlock = True
        elif self.options.memory_lock:
            params.load_mode = self.lib.LLAMA_LOAD_MODE_MMAP_MLOCK
        return params

    def context_params(self) -> Any:
        """Return llama.cpp's settings of a context of this size."""
        params = self.lib.llama_context_default_params()
        params.n_ctx = self.options.context
        params.n_batch = params.n_ubatch = min(self.options.batch, self.options.context)
        params.n_threads = params.n_threads_batch = self.threads
        params.no_perf = True
        if not self.options.flash_attention:
            params.flash_attn_type = self.lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        return params

    @property
    def bos(self) -> str:
        """Return the text of the token that begins a sequence."""
        return self.piece(self.lib.llama_vocab_bos(self.vocab), special=True).decode("utf-8", "replace")

    @property
    def eos(self) -> str:
        """Return the text of the token that ends a sequence."""
        return self.piece(self.lib.llama_vocab_eos(self.vocab), special=True).decode("utf-8", "replace")

    def control_tokens(self, template: str) -> tuple[str, ...]:
        """Return the texts no user may forge: control tokens, and whole-word tokens that `template` writes."""
        found = []
        for token in range(self.width):
            attr = self.lib.llama_vocab_get_attr(self.vocab, token)
            if attr & (ATTR_CONTROL | ATTR_USER_DEFINED):
                text = self.piece(token, special=True).decode("utf-8", "replace")
                if text.strip() and (attr & ATTR_CONTROL or text in template):
                    found.append(text)
        return tuple(found)

    def tokenize(self, text: str, special: bool = True) -> list[int]:
        """Return token ids; control tokens in `text` become themselves if `special`, a missing BOS is added."""
        data = text.encode("utf-8")
        bos = self.bos
        add = self.lib.llama_vocab_get_add_bos(self.vocab) and not (bos and text.startswith(bos))
        out = (ctypes.c_int32 * (len(data) + 2))()
        count = self.lib.llama_tokenize(self.vocab, data, len(data), out, len(out), bool(add), special)
        if count < 0:
            raise EngineFailed(f"llama.cpp could not tokenize {len(data)} bytes")
        return list(out[:count])

    def piece(self, token: int, special: bool = False) -> bytes:
        """Return a token's bytes (often half a character); control tokens have none unless `special`."""
        if token < 0:
            return b""
        if not special and (known := self._pieces.get(token)) is not None:
            return known
        size = self.lib.llama_token_to_piece(self.vocab, token, self._buffer, len(self._buffer), 0, special)
        data = self._buffer.raw[: max(size, 0)]
        if not special:
            self._pieces[token] = data
        return data

    def read(self, ids: Sequence[int]) -> int:
        """Read a prompt, reusing what the cache already holds; return how many tokens were reused.

        The prompt goes in slices of about 0.3 s, so that Ctrl-C is seen between two of them.
        """
        kept = self._keep_prefix(ids)
        at, size = kept, FIRST_SLICE
        while at < len(ids):
            part = ids[at : at + min(size, self.options.batch)]
            began = time.perf_counter()
            tokens = (ctypes.c_int32 * len(part))(*part)  # the batch only points to it
            self._decode(self.lib.llama_batch_get_one(tokens, len(part)))
            self.seen.extend(part)
            at += len(part)
            size = max(8, int(len(part) * PREFILL_SLICE_S / (time.perf_counter() - began + 1e-9)))
        return kept

    def _keep_prefix(self, ids: Sequence[int]) -> int:
        """Forget everything behind the common prefix. The last token is always read again: it makes the logits."""
        kept = 0
        for old, new in zip(self.seen, ids[:-1], strict=False):
            if old != new:
                break
            kept += 1
        if not self.forget(kept):
            kept = 0
            self.lib.llama_memory_clear(self.memory, True)
            self.seen.clear()
        return kept

    def forget(self, kept: int) -> bool:
        """Take all but the first `kept` tokens out of the cache; return False for a model that cannot."""
        if not self.lib.llama_memory_seq_rm(self.memory, 0, kept, -1):
            return False  # a recurrent model has one state, not a row for each token
        del self.seen[kept:]
        return True

    @property
    def cache_bytes(self) -> int:
        """Return the size of what the cache holds now, as llama.cpp would save it."""
        return int(self.lib.llama_state_seq_get_size(self.ctx, 0))

    def tokens(self, chain: Any, limit: int) -> Iterator[int]:
        """Yield up to `limit` tokens that the sampler `chain` picks, reading each before the next is picked."""
        for left in reversed(range(limit)):
            token = self.lib.llama_sampler_sample(chain, self.ctx, -1)
            yield token
            if left:
                self.push(token)

    def push(self, token: int) -> None:
        """Read one more token."""
        self._one[0] = token
        self._decode(self._batch_one)
        self.seen.append(token)

    def push_all(self, tokens: Sequence[int]) -> None:
        """Read tokens in one batch; what follows each of them can then be sampled, at 0, 1, 2, …"""
        batch = self.lib.llama_batch_init(len(tokens), 0, 1)
        try:
            self._fill(batch, tokens, len(self.seen), len(self.seen))
            self._decode(batch)
        finally:
            self.lib.llama_batch_free(batch)
        self.seen.extend(tokens)

    def _decode(self, batch: Any) -> None:
        code = self.lib.llama_decode(self.ctx, batch)
        if code == 1:
            raise ContextOverflow(
                f"the context of {self.size} tokens is full", fix=f"context={self.size * 2}"
            )
        if code:
            raise EngineFailed(f"llama_decode returned {code}", fix="close() the model and load it again")

    def with_bos(self, ids: Sequence[int]) -> list[int]:
        """Put BOS in place of the first token, where the vocabulary begins texts with one."""
        add = self.lib.llama_vocab_get_add_bos(self.vocab)
        return [self.lib.llama_vocab_bos(self.vocab), *ids[1:]] if add else list(ids)

    def scores(self, ids: Sequence[int], first: int = 0) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Read `ids` afresh; yield (position, scores from it on, (N, V)) from `first` on, a batch at a time.

        The array shows llama.cpp's own memory: it is good until the next one.
        """
        self._keep_prefix([])
        width = self.options.batch
        batch = self.lib.llama_batch_init(width, 0, 1)
        try:
            for at in range(0, len(ids), width):
                part = ids[at : at + width]
                self._fill(batch, part, at, first)
                self._decode(batch)
                start = max(at, first)
                if (count := at + len(part) - start) > 0:
                    raw = self.lib.llama_get_logits(self.ctx)
                    yield start, np.ctypeslib.as_array(raw, (count, self.width))
        finally:
            self.lib.llama_batch_free(batch)
            self._keep_prefix([])

    def logprobs(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return ln p of every token after those before it, shape (len(ids),); the first is NaN."""
        result = np.full(len(ids), np.nan, dtype=np.float32)
        for at, raw in self.scores(ids):
            targets = ids[at + 1 : at + 1 + len(raw)]
            result[at + 1 : at + 1 + len(targets)] = log_softmax_at(raw[: len(targets)], targets)
        return result

    def _fill(self, batch: Any, ids: Sequence[int], start: int, first: int) -> None:
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i] = token, start + i
            batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, 0, start + i >= first

    def time_reading(self, count: int) -> float:
        """Return the seconds of reading `count` random tokens in whole batches (pp of llama-bench)."""
        tokens, width = (ctypes.c_int32 * count)(*self._random(count)), self.options.batch
        self._keep_prefix([])
        began = time.perf_counter()
        for at in range(0, count, width):
            part = (ctypes.c_int32 * min(width, count - at)).from_buffer(tokens, 4 * at)
            self._decode(self.lib.llama_batch_get_one(part, len(part)))
        return self._finish(began)

    def time_writing(self, count: int) -> float:
        """Return the seconds of reading `count` random tokens one by one (tg of llama-bench)."""
        tokens = self._random(count)
        self._keep_prefix([])
        began = time.perf_counter()
        for token in tokens:
            self._one[0] = token
            self._decode(self._batch_one)
        return self._finish(began)

    def _random(self, count: int) -> list[int]:
        return [int(token) for token in np.random.default_rng(count).integers(self.width, size=count)]

    def _finish(self, began: float) -> float:
        self.lib.llama_synchronize(self.ctx)  # a GPU may still be at work
        seconds = time.perf_counter() - began
        self.lib.llama_memory_clear(self.memory, True)
        return seconds

    def free(self) -> None:
        """Give the memory back. Calling it twice is harmless."""
        ctx, model, self.ctx, self.model = self.ctx, self.model, None, None
        if ctx:
            self.lib.llama_free(ctx)
        if model:
            self.lib.llama_model_free(model)


@cache
def has_amx() -> bool:
    """Return whether this processor has Intel's matrix extension (AMX) and would use it."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and " amx_int8" in cpuinfo.read_text("utf-8", "replace")


def log_softmax_at(logits: NDArray[np.float32], targets: Sequence[int]) -> NDArray[np.float32]:
    """Return the log-softmax of (N, V) logits at one target a row, shape (N,)."""
    top = logits.max(axis=1)
    total = np.log(np.exp(logits - top[:, None], dtype=np.float64).sum(axis=1))
    picked = logits[np.arange(len(targets)), np.asarray(targets, dtype=np.intp)]
    return np.asarray(picked - top - total, dtype=np.float32)
