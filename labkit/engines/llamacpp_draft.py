"""Speculative decoding: a small model guesses a few tokens, the large one checks them all in one batch.

The large model's own sampler picks every token from the large model's own scores, so it writes what it would write
alone: a wrong guess costs time, never quality. Guesses that turn out wrong are taken out of both KV caches again.
Method: Leviathan, Kalman and Matias, "Fast inference from transformers via speculative decoding" (2023),
https://arxiv.org/abs/2211.17192, with greedy guesses.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from labkit.engines.llamacpp_files import gguf_file, try_file
from labkit.engines.llamacpp_native import Context, LoadOptions
from labkit.engines.llamacpp_sampling import sampler
from labkit.errors import EngineFailed, OptionInvalid
from labkit.models.catalog import find
from labkit.types import GenerationOptions

PADDING = 128  # models of one family fill their vocabulary up to different sizes; llama.cpp allows as much


@dataclass(slots=True)
class Drafted:
    """Count what became of one reply's guesses: made, looked at, right; `checks` batches. Times in seconds.

    A check ends at its first wrong guess, so the guesses behind that one are never looked at.
    """

    checks: int = 0
    guessed: int = 0
    looked_at: int = 0
    accepted: int = 0
    guess_seconds: float = 0.0
    check_seconds: float = 0.0

    @property
    def acceptance(self) -> float:
        """Return α, the share of guesses that were right among those looked at (NaN for none)."""
        return self.accepted / self.looked_at if self.looked_at else math.nan


class Drafter:
    """Let a small model draft for a large one. `last` counts what happened in the latest reply."""

    def __init__(self, big: Context, options: LoadOptions) -> None:
        card = find(options.draft)
        path = gguf_file(card, card.default_variant, options.context)
        try_file(card, path)
        self.big, self.width, self.last = big, min(options.draft_tokens, options.batch - 1), Drafted()
        self.small = Context(path, replace(options, draft="", threads=big.threads))
        try:
            check_same_tokens(big, self.small)
            self._greedy = sampler(self.small, GenerationOptions(), ())
        except BaseException:
            self.small.free()
            raise

    def tokens(self, chain: Any, limit: int) -> Iterator[int]:
        """Yield up to `limit` tokens that the big model's sampler `chain` picks after what it has read."""
        self.last, big = Drafted(), self.big
        self.small.read(big.seen)  # so the first token waits for it, and those after it do not
        token = self._pick(chain, -1)
        yield token
        written = 1
        while written < limit:
            guesses = self._guess([*big.seen, token], min(self.width, limit - written - 1))
            self._check([token, *guesses])
            for at, guess in enumerate([*guesses, None]):
                token = self._pick(chain, at)
                written += 1
                if token != guess and at < len(guesses):
                    self._forget(len(big.seen) - len(guesses) + at)
                self._count(token == guess, at < len(guesses))
                yield token
                if token != guess:
                    break

    def _guess(self, ids: Sequence[int], count: int) -> list[int]:
        """Return what the small model would greedily write after `ids`."""
        began, guesses = time.perf_counter(), list[int]()
        for _ in range(count):
            if guesses:
                self.small.push(guesses[-1])
            else:
                self.small.read(ids)  # reads again only what the big model decided otherwise
            guess = self.small.lib.llama_sampler_sample(self._greedy, self.small.ctx, -1)
            if guess >= self.big.width:
                break
            guesses.append(guess)
        self.last.guessed += len(guesses)
        self.last.guess_seconds += time.perf_counter() - began
        return guesses

    def _check(self, tokens: Sequence[int]) -> None:
        began = time.perf_counter()
        self.big.push_all(tokens)
        self.big.lib.llama_synchronize(self.big.ctx)
        self.last.check_seconds += time.perf_counter() - began
        self.last.checks += 1

    def _pick(self, chain: Any, at: int) -> int:
        return int(self.big.lib.llama_sampler_sample(chain, self.big.ctx, at))

    def _count(self, right: bool, was_guess: bool) -> None:
        self.last.looked_at += was_guess
        self.last.accepted += right and was_guess

    def _forget(self, kept: int) -> None:
        if not self.big.forget(kept):
            raise EngineFailed(
                f"{self.big.path.name} cannot take tokens back (a recurrent model)",
                fix="load it without draft=",
            )

    def free(self) -> None:
        """Give the small model's memory back. Calling it twice is harmless."""
        greedy, self._greedy = self._greedy, None
        if greedy:
            self.small.lib.llama_sampler_free(greedy)
        self.small.free()


def check_same_tokens(big: Context, small: Context) -> None:
    """Raise `OptionInvalid` unless both models mean the same text by every token they share."""
    shared = range(min(big.width, small.width))
    same = abs(big.width - small.width) <= PADDING
    if not same or any(big.piece(i, special=True) != small.piece(i, special=True) for i in shared):
        raise OptionInvalid(
            f"{small.path.name} cannot draft for {big.path.name}: it has other tokens",
            fix="draft= with a smaller model of the same family, as pico is for nano",
        )
