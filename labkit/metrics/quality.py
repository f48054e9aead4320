"""How well a model guesses the next token of a text, and how far quantization moves its guesses.

Definitions are those of llama.cpp's `llama-perplexity` (tools/perplexity) and of its `--kl-divergence` (pull request
5076). One window at a time is in memory, and nothing is kept on disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.engines.base import Model
from labkit.errors import EngineFailed, OptionInvalid
from labkit.metrics.records import Record, about
from labkit.types import require_whole

WINDOW = 512
LEAST_WINDOW = 16
ROWS = 64  # rows of scores turned into probabilities at once: 80 MB for a vocabulary of 152,000

Floats = NDArray[np.float64]
Scores = Callable[[Sequence[int], int], NDArray[np.float32]]
Progress = Callable[[int, int], object]


def perplexity(
    model: Model,
    text: str,
    *,
    window: int = WINDOW,
    special: bool = True,
    progress: Progress | None = None,
) -> Record:
    """Measure exp(mean -ln p) over the second half of every window of `window` tokens, with its standard error.

    The text is tokenized once, and what does not fill a last window is left out. `special` reads control tokens in
    it as such, which conversations need; `llama-perplexity` does not, and agrees with special=False. `progress` is
    called with (windows done, windows in all). Raises `OptionInvalid` for a text shorter than a window or an engine
    without scores, and `EngineFailed` for scores that are no numbers.
    """
    ids = model.tokenize(text, special)
    nll = token_nll(model.window_logits, ids, window, progress)
    settings = _settings(text, ids, window, special, len(nll))
    return Record("perplexity", about(model, **settings), {"nll": nll.tolist()}, _pair("ppl", ppl(nll)))


def divergence(
    base: Model,
    quantized: Model,
    text: str,
    *,
    window: int = WINDOW,
    special: bool = True,
    progress: Progress | None = None,
) -> Record:
    """Measure KL(base ‖ quantized) and the change Δp of the right token's probability at every scored token.

    Both models read each window in turn; arguments and errors are those of `perplexity`, and vocabularies that
    differ raise `OptionInvalid`. llama.cpp stores the base's ln p in 16 bits and leaves out p < e^-16; here
    everything counts.
    """
    ids = base.tokenize(text, special)
    if quantized.tokenize(text, special) != ids:
        raise _unlike(base, quantized)
    found: dict[str, list[Floats]] = {name: [] for name in ("kl", "dp", "same", "nll", "nll_base")}
    pairs = zip(
        _log_probabilities(base.window_logits, ids, window, None),
        _log_probabilities(quantized.window_logits, ids, window, progress),
        strict=True,
    )
    for (p, right), (q, _) in pairs:
        if p.shape != q.shape:
            raise _unlike(base, quantized)
        rows = np.arange(len(right))
        found["kl"].append((np.exp(p) * (p - q)).sum(axis=1))
        found["dp"].append(np.exp(q[rows, right]) - np.exp(p[rows, right]))
        found["same"].append((p.argmax(axis=1) == q.argmax(axis=1)).astype(np.float64))
        found["nll"].append(-q[rows, right])
        found["nll_base"].append(-p[rows, right])
    every = {name: np.concatenate(parts) for name, parts in found.items()}
    named = {"base": f"{base.card.alias} {base.variant}"}
    settings = named | _settings(text, ids, window, special, len(every["kl"]))
    samples = {name: every[name].tolist() for name in ("nll", "kl", "dp")}
    return Record("kl", about(quantized, **settings), samples, _divergence_figures(every))


def token_nll(
    scores: Scores, ids: Sequence[int], window: int = WINDOW, progress: Progress | None = None
) -> Floats:
    """Return -ln p of every scored token of `ids`, shape (N,), from any function that gives scores.

    `scores(ids, first)` is `Model.window_logits`, or that of `NumpyLlama` where weights are simulated.
    """
    parts = [
        -logp[np.arange(len(right)), right]
        for logp, right in _log_probabilities(scores, ids, window, progress)
    ]
    return np.concatenate(parts)


def ppl(nll: Floats) -> tuple[float, float]:
    """Return exp(mean) and its standard error, exp(mean) × sd / √n, as llama-perplexity prints them."""
    mean, error = _mean(nll)
    return float(np.exp(mean)), float(np.exp(mean) * error)


def _windows(ids: Sequence[int], window: int) -> list[Sequence[int]]:
    require_whole("window", window, LEAST_WINDOW, 10**7)
    if len(ids) < window:
        smaller = [2**n for n in range(20, 3, -1) if LEAST_WINDOW <= 2**n <= len(ids)]
        raise OptionInvalid(
            f"the text has {len(ids)} tokens, a window {window}",
            fix=f"take a longer text{f', or window={smaller[0]}' if smaller else ''}",
        )
    return [ids[at : at + window] for at in range(0, len(ids) - window + 1, window)]


def _log_probabilities(
    scores: Scores, ids: Sequence[int], window: int, progress: Progress | None
) -> Iterator[tuple[Floats, NDArray[np.intp]]]:
    """Yield ln p (N, V) of all tokens and the right ones (N,), some rows of a window at a time."""
    parts, first = _windows(ids, window), window // 2
    for done, part in enumerate(parts, 1):
        raw = scores(part[:-1], first)
        if not np.isfinite(raw).all():
            raise EngineFailed(
                f"window {done} of {len(parts)} has scores that are no finite numbers",
                fix="load the model again; if that does not help, its file is damaged",
            )
        right = np.asarray(part[first + 1 :], dtype=np.intp)
        for at in range(0, len(right), ROWS):
            yield log_softmax(raw[at : at + ROWS]), right[at : at + ROWS]
        if progress:
            progress(done, len(parts))


def log_softmax(scores: NDArray[np.float32]) -> Floats:
    """Return ln p for rows of scores (N, V): float32 exponentials, summed in float64, as llama.cpp does it."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True, dtype=np.float64)
    return np.asarray(shifted - np.log(total))


def _divergence_figures(every: dict[str, Floats]) -> dict[str, float]:
    kl, dp = every["kl"], every["dp"]
    square, square_error = _mean(dp * dp)
    rms = float(np.sqrt(square))
    return {
        **_pair("ppl", ppl(every["nll"])),
        "ppl_base": ppl(every["nll_base"])[0],
        **_pair("ppl_ratio", ppl(every["nll"] - every["nll_base"])),
        **_pair("kl_mean", _mean(kl)),
        "kl_median": float(np.median(kl)),
        "kl_p999": float(np.quantile(kl, 0.999)),
        "kl_max": float(kl.max()),
        **_pair("dp_mean", _mean(dp)),
        **_pair("dp_rms", (rms, square_error / (2 * rms) if rms else 0.0)),
        **_pair("same_top", _mean(every["same"])),
    }


def _pair(name: str, found: tuple[float, float]) -> dict[str, float]:
    return {name: found[0], f"{name}_error": found[1]}


def _mean(values: Floats) -> tuple[float, float]:
    """Return the mean and its standard error, sd / √n."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def _settings(text: str, ids: Sequence[int], window: int, special: bool, scored: int) -> dict[str, Any]:
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    return {"window": window, "special": special, "tokens": len(ids), "scored": scored, "text_sha256": digest}


def _unlike(base: Model, quantized: Model) -> OptionInvalid:
    return OptionInvalid(
        f"{base!r} and {quantized!r} have different vocabularies", fix="compare levels of one model"
    )
