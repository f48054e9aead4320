"""What labkit adds to llama.cpp: streaming through `Model` against the barest loop on the same library.

    make bench, or: pytest tests/bench/test_llamacpp_streaming.py -s

Both write 768 tokens from the same prompt, in turn and in random order, one thread. Prints; gates nothing.
"""

import random
import statistics
import time

import pytest

pytest.importorskip("llama_cpp")

from labkit import Model, load
from labkit.engines.llamacpp_native import Context
from labkit.engines.llamacpp_sampling import sampler
from labkit.types import GenerationOptions

PROMPT, TOKENS, ROUNDS = "Tell me about the sea.", 768, 10
OPTIONS = GenerationOptions(max_tokens=TOKENS, ignore_eos=True)


def raw(model: Model) -> list[float]:
    """Decode and sample, nothing else; return a stamp for each token."""
    engine = model.engine
    context: Context = engine.context  # type: ignore[attr-defined]
    context.read(engine.prompt([{"role": "user", "content": PROMPT}], []))  # type: ignore[attr-defined]
    chain, stamps = sampler(context, OPTIONS, []), []
    sample, decode, lib = context.lib.llama_sampler_sample, context.lib.llama_decode, context.lib
    one, batch, ctx = context._one, context._batch_one, context.ctx
    for _ in range(TOKENS):
        one[0] = sample(chain, ctx, -1)
        stamps.append(time.perf_counter())
        decode(ctx, batch)
    lib.llama_sampler_free(chain)
    return stamps


def through_labkit(model: Model) -> list[float]:
    """Stream as a student does; return a stamp for each chunk as the caller sees it."""
    return [time.perf_counter() for chunk in model.stream(PROMPT, options=OPTIONS) if chunk.tokens]


def speed(stamps: list[float]) -> float:
    return (len(stamps) - 1) / (stamps[-1] - stamps[0])


def growth(stamps: list[float]) -> float:
    """Return ITL around token 512 over ITL around token 64 (medians of 33 gaps)."""
    gaps = [b - a for a, b in zip(stamps, stamps[1:], strict=False)]
    return statistics.median(gaps[496:529]) / statistics.median(gaps[48:81])


@pytest.mark.parametrize("variant", ["F16", "Q4_K_M"])
def test_streaming_against_the_raw_loop(variant: str) -> None:
    with load("nano", engine="llamacpp", variant=variant, threads=1) as model:
        runs: dict[str, list[list[float]]] = {"raw": [], "labkit": []}
        for _ in range(ROUNDS + 1):
            order = [("raw", raw), ("labkit", through_labkit)]
            random.shuffle(order)
            for name, run in order:
                runs[name].append(run(model))
    speeds = {name: [speed(s) for s in many[1:]] for name, many in runs.items()}
    growths = {name: statistics.median(map(growth, many[1:])) for name, many in runs.items()}
    share = statistics.median(b / a for a, b in zip(speeds["raw"], speeds["labkit"], strict=True))
    print(f"\n{variant}: {ROUNDS} runs of {TOKENS} tokens each, one thread")
    for name in runs:
        low, middle, high = min(speeds[name]), statistics.median(speeds[name]), max(speeds[name])
        print(
            f"  {name:7} {middle:7.0f} tokens/s ({low:.0f} to {high:.0f}), ITL(512)/ITL(64) {growths[name]:.3f}"
        )
    print(f"  labkit / raw: speed {share:.3f}, growth {growths['labkit'] / growths['raw']:.3f}")
