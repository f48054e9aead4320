"""Checks of lab 05, llama.cpp from the inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.checks.core import Exercises, Wrong, compare
from labkit.engines.base import Model
from labkit.engines.llamacpp_sampling import admits, kept_tokens
from labkit.models.gguf import GGUFInfo
from labkit.types import GenerationOptions

lab = Exercises("05")


def _per_token(info: GGUFInfo, answer: float) -> str:
    layers, heads = info.number("llama.block_count"), info.number("llama.attention.head_count_kv")
    right = 2 * layers * heads * info.number("llama.attention.key_length") * 2
    reasons = {
        right / 2: "half of it is missing: keys and values, and a float16 takes 2 bytes",
        right / layers: "that is one layer's: each layer has a cache of its own",
        right
        / heads
        * info.number("llama.attention.head_count"): "only the KV heads are kept: head_count_kv",
    }
    compare(answer, right, reasons, "2 × layers × KV heads × length of a key, each of 2 bytes", within=1e-9)
    return f"{right:,} bytes, so 2,048 tokens take {2048 * right / 1e6:.1f} MB"


q1 = lab.add(
    _per_token,
    hints=(
        "One layer keeps, for each KV head, a key and a value: 2 × head_count_kv × key_length numbers.",
        "Times the number of layers, times 2 bytes for a float16.",
    ),
    code='bytes_per_token = 2 * shape["llama.block_count"] * shape["llama.attention.head_count_kv"]\n'
    'bytes_per_token *= 2 * shape["llama.attention.key_length"]',
)


def _reused(m: Model, reused: Callable[[list[int], list[int]], int]) -> str:
    last = "the last token of a prompt is always read again"
    for before, now, right, why in (
        ([5, 6, 7], [5, 6, 8, 9], 2, "the first two are the same"),
        ([1, 2, 3], [9, 2, 3], 0, "behind the first difference nothing can be used"),
        ([1, 2], [1, 2, 3], 2, "the cache ends before the prompt does"),
        ([4, 4, 4], [4, 4, 4], 2, last),
        ([4, 4, 4], [4, 4], 1, last),
        ([], [4, 4], 0, "the cache is empty"),
    ):
        if (found := reused(list(before), list(now))) != right:
            raise Wrong(f"reused({before}, {now}) should be {right}, since {why}; it is {found!r:.40}")
    asked = [[{"role": "user", "content": text}] for text in ("Where is the lamp?", "Where is Ada?")]
    told = [m.chat(prompt, max_tokens=1).usage.cached_tokens for prompt in asked][1]
    found = reused(*(m.engine.prompt(prompt, []) for prompt in asked))
    return f"you say {found} for two real prompts, and llama.cpp reused {told}"


q2 = lab.add(
    _reused,
    hints=(
        "Count from the front while both lists have the same token, and stop at the first difference.",
        "Never count the last token of now: compare before with now[:-1].",
    ),
    code="def reused(before, now):\n    count = 0\n"
    "    while count < min(len(before), len(now) - 1) and before[count] == now[count]:\n"
    "        count += 1\n    return count",
)


def _filters(m: Model, scores: NDArray[np.float32], by_top_p: Any, by_min_p: Any) -> str:
    p = np.exp(scores.astype(np.float64) - scores.max())
    p /= p.sum()
    best = np.argsort(-p, kind="stable")
    exact_top = best[: int(np.searchsorted(np.cumsum(p[best]), 0.5)) + 1]
    near = {
        "top_p": {"one token too few: the one that reaches 0.5 is kept, too": best[: len(exact_top) - 1],
                  "these are places in best: best[…] at them are token ids": np.arange(len(exact_top))},
        "min_p": {"the limit is 0.1 times the best token's probability, not 0.1": np.flatnonzero(p >= 0.1)},
    }  # fmt: skip
    exact = {"top_p": exact_top, "min_p": np.flatnonzero(p >= 0.1 * p.max())}
    sizes = []
    for name, value, answer in (("top_p", 0.5, by_top_p), ("min_p", 0.1, by_min_p)):
        options = GenerationOptions.of(None, temperature=1.0, top_k=0, **{name: value})
        kept, found = set(kept_tokens(m.engine.context, scores, options)), _ids(answer)  # type: ignore[attr-defined]
        # llama.cpp adds in float32: a token at the very edge may fall on either side.
        if found not in (kept, _ids(exact[name])):
            counts = f"{len(found - kept)} of these do not belong there, {len(kept - found)} are missing"
            raise Wrong(
                f"by_{name}: {next((why for why, ids in near[name].items() if found == _ids(ids)), counts)}"
            )
        sizes.append(len(kept))
    return f"llama.cpp keeps the same tokens: {sizes[0]} by top_p, {sizes[1]} by min_p"


def _ids(answer: Any) -> set[int]:
    array = np.asarray(sorted(answer) if isinstance(answer, set) else answer)
    return {int(token) for token in (np.flatnonzero(array) if array.dtype == bool else array)}


q3 = lab.add(
    _filters,
    hints=(
        "np.cumsum(p[best]) grows towards 1. Keep up to and with the first place where it is at least 0.5.",
        "min_p is relative: p >= 0.1 * p.max(). np.flatnonzero gives the ids where that is true.",
    ),
    code="by_top_p = best[: np.searchsorted(np.cumsum(p[best]), 0.5) + 1]\n"
    "by_min_p = np.flatnonzero(p >= 0.1 * p.max())",
)

TIMES = [f"{hour}:{minute}" for hour in ("00", "09", "10", "19", "20", "23") for minute in ("00", "37", "59")]
NO_TIMES = ("24:00", "30:00", "12:60", "7:30", "07:5", "0730", "07:300", "")


def _clock(m: Model, grammar: str) -> str:
    for wanted, texts in ((True, TIMES), (False, NO_TIMES)):
        for text in texts:
            if admits(m.engine.context, grammar, text) != wanted:  # type: ignore[attr-defined]
                raise Wrong(f"it {'refuses' if wanted else 'admits'} {text!r}")
    wrote = {m.chat("When?", grammar=grammar, temperature=2.0, top_k=0, seed=seed).text for seed in range(4)}
    return f"at temperature 2, nano can write nothing but times: {', '.join(sorted(wrote))}"


q4 = lab.add(
    _clock,
    hints=(
        "A minute is [0-5] [0-9]. For the hour there are two cases.",
        'Hours begin with 0 or 1 and any digit, or with 2 and a digit up to 3: [01] [0-9] | "2" [0-3].',
    ),
    code='clock = \'root ::= ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9]\'',
)


def _speed_up(speed_up: Callable[[float, int, float], float], alpha: float, c: float) -> str:
    for a, gamma, cost in ((0.8, 4, 0.05), (0.5, 1, 0.5), (0.9, 8, 0.1), (0.0, 4, 0.25)):
        tokens, steps = sum(a**i for i in range(gamma + 1)), gamma * cost + 1
        right = tokens / steps
        reasons = {
            tokens: "these are the tokens of a check: divide by the steps, γc + 1",
            (tokens - a**gamma) / steps: "the check itself brings a token, too: the exponent is γ + 1",
            tokens / (cost + 1): "γ guesses take γ times c steps",
            tokens / (gamma * cost): "the check itself takes a step, too: γc + 1",
            1 / right: "that is steps / tokens: turn it over",
        }
        formula = f"for α = {a}, γ = {gamma}, c = {cost} it should be {right:.3f}"
        compare(speed_up(a, gamma, cost), right, reasons, formula, within=0.001)
    if not alpha < 1:
        return "every guess was right: as far as that holds, longer drafts only gain"
    best = max(range(1, 17), key=lambda gamma: speed_up(alpha, gamma, c))
    return f"α = {alpha:.2f} and c = {c:.2f} promise most, {speed_up(alpha, best, c):.2f} times as fast, for γ = {best}"


q5 = lab.add(
    _speed_up,
    hints=(
        "Tokens of a check: (1 - alpha ** (gamma + 1)) / (1 - alpha).",
        "Divide by its steps: gamma * c for the guesses, 1 for the check.",
    ),
    code="def speed_up(alpha, gamma, c):\n"
    "    return (1 - alpha ** (gamma + 1)) / (1 - alpha) / (gamma * c + 1)",
)
