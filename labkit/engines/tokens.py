"""From token ids to chunks, for engines whose library hands over one id after another: room, ends, stops, usage."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

from labkit.engines.stops import StopReader
from labkit.errors import ContextOverflow, LabkitError
from labkit.types import Chunk, FinishReason, GenerationOptions, Usage

# Where in a vendor's C++ an error was raised: file, line, and the function's signature.
PLACE = re.compile(r"^\w+\.cc:\d+ .*?\) (?:const )?", re.DOTALL)


def room(prompt: int, context: int, wanted: int) -> int:
    """Return how many tokens may be written after the prompt; raise `ContextOverflow` if there is room for none."""
    if prompt >= context:
        raise ContextOverflow(
            f"the prompt has {prompt} tokens, the context {context}",
            fix="shorten it, or load(…, context=…) with more if the model has more",
        )
    return min(wanted, context - prompt)


def chunks_of(
    tokens: Iterable[int],
    decode: Callable[[int], str],
    ends: Collection[int],
    options: GenerationOptions,
    prompt: int,
    limit: int,
) -> Iterator[Chunk]:
    """Yield a chunk for each token, `limit` at most, then the last one; `prompt` is the number of tokens read."""
    stops = StopReader(options.stop)
    reason: FinishReason = "length"
    end: tuple[int, ...] = ()
    written, stopped = 0, False
    for token in tokens:
        if token in ends and not options.ignore_eos:
            reason, end = "stop", (token,)
            break
        written += 1
        shown, stopped = stops.feed(decode(token))
        yield Chunk(shown, 1, ids=(token,))
        if stopped or written == limit:
            break
    tail, reason = ("", "stop") if stopped else (stops.held, reason)
    yield Chunk(tail, 0, finish_reason=reason, usage=Usage(prompt, written), ids=end)


@contextmanager
def vendor_errors(kind: type[LabkitError], what: str, fix: str) -> Iterator[None]:
    """Turn any exception of a vendor's library into one of labkit's, with the first line of its reason."""
    try:
        yield
    except LabkitError:
        raise
    except Exception as exc:  # these libraries raise plain RuntimeErrors, and whatever Python meets in them
        reason = (PLACE.sub("", str(exc)).strip().splitlines() or [type(exc).__name__])[0]
        raise kind(f"{what}: {reason[:300]}", fix=fix) from exc
