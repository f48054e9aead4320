"""What labkit adds to llama.cpp: streaming through `Model` against the barest loop on the same library.

    make bench, or: pytest tests/bench/test_llamacpp_streaming.py -s

Both write the same number of tokens from the same prompt, in turn and in random order, one thread: nano, whose
tokens are short, so that every microsecond shows, and random weights in the shape of a 0.5B model (drawn at the
first run: 1 GB of disk, about a minute), as students run them. Prints; gates nothing.
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

PROMPT = "Tell me about the sea."


def raw(model: Model, options: GenerationOptions) -> list[float]:
    """Decode and sample, nothing else; return a stamp for each token."""
    engine = model.engine
    context: Context = engine.context  # type: ignore[attr-defined]
    context.read(engine.prompt([{"role": "user", "content": PROMPT}], []))  # type: ignore[attr-defined]
    chain, stamps = sampler(context, options, []), []
    sample, decode, lib = context.lib.llama_sampler_sample, context.lib.llama_decode, context.lib
    one, batch, ctx = context._one, context._batch_one, context.ctx
    for _ in range(options.max_tokens):
        one[0] = sample(chain, ctx, -1)
        stamps.append(time.perf_counter())
        decode(ctx, batch)
    lib.llama_sampler_free(chain)
    return stamps


def through_labkit(model: Model, options: GenerationOptions) -> list[float]:
    """Stream as a student does; return a stamp for each chunk as the caller sees it."""
    return [time.perf_counter() for chunk in model.stream(PROMPT, options=options) if chunk.tokens]


def speed(stamps: list[float]) -> float:
    return (len(stamps) - 1) / (stamps[-1] - stamps[0])


def growth(stamps: list[float]) -> float:
    """Return ITL at two thirds of the answer (token 512 of 768) over ITL near its start; medians of 33 gaps."""
    gaps = [b - a for a, b in zip(stamps, stamps[1:], strict=False)]
    late = 2 * len(stamps) // 3 - 16
    return statistics.median(gaps[late : late + 33]) / statistics.median(gaps[48:81])


@pytest.mark.parametrize("name", ["nano", "random-0.5b"])
@pytest.mark.parametrize("variant", ["F16", "Q4_K_M"])
def test_streaming_against_the_raw_loop(name: str, variant: str) -> None:
    tokens, rounds = (768, 10) if name == "nano" else (128, 3)
    options = GenerationOptions(max_tokens=tokens, ignore_eos=True)
    with load(name, engine="llamacpp", variant=variant, threads=1) as model:
        runs: dict[str, list[list[float]]] = {"raw": [], "labkit": []}
        for _ in range(rounds + 1):
            order = [("raw", raw), ("labkit", through_labkit)]
            random.shuffle(order)
            for way, run in order:
                runs[way].append(run(model, options))
    speeds = {way: [speed(s) for s in many[1:]] for way, many in runs.items()}
    growths = {way: statistics.median(map(growth, many[1:])) for way, many in runs.items()}
    share = statistics.median(b / a for a, b in zip(speeds["raw"], speeds["labkit"], strict=True))
    print(f"\n{name} {variant}: {rounds} runs of {tokens} tokens each, one thread")
    for way in runs:
        low, middle, high = min(speeds[way]), statistics.median(speeds[way]), max(speeds[way])
        print(
            f"  {way:7} {middle:7.0f} tokens/s ({low:.0f} to {high:.0f}), ITL late/early {growths[way]:.3f}"
        )
    met = "" if name == "nano" else f" (Reach ≥ 0.98: {'met' if share >= 0.98 else 'NOT MET'})"
    print(f"  labkit / raw: speed {share:.3f}{met}, growth {growths['labkit'] / growths['raw']:.3f}")
