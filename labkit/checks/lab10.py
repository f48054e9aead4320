"""Checks of lab 10, vLLM."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from labkit.checks.core import Exercises, Wrong, compare
from labkit.engines.vllm import VllmMetrics
from labkit.engines.vllm_templates import TEMPLATES, VllmSettings
from labkit.metrics.records import Record
from labkit.models.sizes import SHAPES

TOKEN = 2 * SHAPES["7B"].layers * SHAPES["7B"].kv_heads * SHAPES["7B"].head_dim * 2
BLOCK, CACHE, LENGTH = 16, 15.1e9, 1000
ACCEPTED, COST = 0.7, 0.1
lab = Exercises("10")


def _blocks(blocks: float, conversations: float) -> str:
    all_blocks = int(CACHE // (BLOCK * TOKEN))
    each = -(-LENGTH // BLOCK)
    reasons = {
        int(CACHE // TOKEN): "that many tokens fit; a block has 16 of them",
        int(CACHE // (BLOCK * TOKEN / 2)): "a token has a key and a value in each layer: both count",
        int(CACHE // (BLOCK * TOKEN * 2)): "float16 takes 2 bytes a number, not 4",
    }
    compare(blocks, all_blocks, reasons, f"a block takes 16 tokens × {TOKEN:,} bytes", within=1 / all_blocks)
    if conversations == all_blocks * BLOCK // LENGTH:
        raise Wrong(f"a conversation takes whole blocks: {LENGTH} / {BLOCK} is rounded up")
    if conversations != int(blocks) // each:
        raise Wrong(f"{conversations:,.0f} is not it: each takes {each} blocks, and only whole ones fit")
    return f"{int(blocks):,} blocks, {each} for each, so {int(blocks) // each} conversations at once"


q1 = lab.add(
    _blocks,
    hints=(
        "A block of 16 tokens takes 16 * token bytes; // counts how many fit into 15.1e9.",
        "1000 tokens need 62.5 blocks, so 63: math.ceil(1000 / 16). Then divide the blocks by that.",
    ),
    code="blocks = int(15.1e9 // (16 * token))\nconversations = blocks // 63",
)


def _batching(runs: Mapping[int, Record], gain: float, slower: float) -> str:
    one, many = runs[min(runs)], runs[max(runs)]
    throughput = many.figures["throughput"] / one.figures["throughput"]
    tpot = median(many.samples["tpot"]) / median(one.samples["tpot"])
    for name, given, right in (("gain", gain, throughput), ("slower", slower, tpot)):
        if abs(float(given) * right - 1) < 0.01 < abs(right - 1):
            raise Wrong(f"{name} is turned over: {max(runs)} callers / 1 caller")
        if not abs(float(given) / right - 1) < 0.01:
            raise Wrong(
                f"{name} is {float(given):.3g}: divide what {max(runs)} callers got by what 1 caller got"
            )
    return f"{max(runs)} callers: {throughput:.2f} times the tokens, and {tpot:.2f} times the wait for each (measured)"


q2 = lab.add(
    _batching,
    hints=(
        'runs[8].figures["throughput"] is in tokens/s, and so is that of runs[1].',
        'runs[8].samples["tpot"] has one value a request: compare medians.',
    ),
    code='gain = runs[8].figures["throughput"] / runs[1].figures["throughput"]\n'
    'slower = median(runs[8].samples["tpot"]) / median(runs[1].samples["tpot"])',
)


def _cached(page: str, hit_rate: float, computed: float) -> str:
    seen = VllmMetrics.read(page)
    right, rest = seen.prefix_hits / seen.prefix_queries, seen.prompt_tokens - seen.prefix_hits
    if abs(hit_rate / 100 - right) < 0.005:
        raise Wrong("a share goes from 0 to 1, not to 100")
    if not abs(hit_rate - right) < 0.005:
        raise Wrong(f"hit_rate is {hit_rate:.3g}: divide prefix_hits by prefix_queries")
    if computed == seen.prefix_hits:
        raise Wrong("these came out of the cache: the others had to be computed")
    if not abs(computed - rest) <= 1:
        raise Wrong(f"computed is {computed:,.0f}: of all prompt_tokens, those that were no prefix_hits")
    return f"{right:.0%} of the tokens were found; {rest:,.0f} of {seen.prompt_tokens:,.0f} were computed"


q3 = lab.add(
    _cached,
    hints=(
        "A share is what was found / what was looked up.",
        "hit_rate is prefix_hits / prefix_queries; what was not found is prompt_tokens - prefix_hits.",
    ),
    code="hit_rate = seen.prefix_hits / seen.prefix_queries\n"
    "computed = seen.prompt_tokens - seen.prefix_hits",
)


def speedup(drafted: int) -> float:
    """Return tokens a round / its time, against 1 without a draft (Leviathan et al. 2023, theorem 3.8)."""
    return (1 - ACCEPTED ** (drafted + 1)) / (1 - ACCEPTED) / (1 + drafted * COST)


def _drafted(drafted: int) -> str:
    if type(drafted) is not int or not 1 <= drafted <= 16:
        raise Wrong(f"give a whole number of tokens from 1 to 16, not {drafted!r:.60}")
    best = max(range(1, 17), key=speedup)
    if drafted != best:
        side = "fewer" if drafted > best else "more"
        raise Wrong(f"{drafted} gives {speedup(drafted):.3f} times the speed; {side} give more")
    return f"{best} drafted tokens: {speedup(best):.2f} times the speed (estimated)"


q4 = lab.add(
    _drafted,
    hints=(
        "tokens a round: (1 - 0.7 ** (k + 1)) / (1 - 0.7); time a round: 1 + 0.1 * k.",
        "Divide them for k = 1 to 10, and take the k with the greatest quotient.",
    ),
    code="drafted = max(range(1, 11), key=lambda k: (1 - 0.7 ** (k + 1)) / 0.3 / (1 + 0.1 * k))",
)


def _template(answer: str | VllmSettings) -> str:
    named = [name for name, settings in TEMPLATES.items() if settings == answer]
    name = named[0] if named else str(answer).strip().lower().replace("_", "-")
    if name not in TEMPLATES:
        raise Wrong(f"give the name of a template, one of {', '.join(TEMPLATES)}; not {answer!r:.60}")
    chosen = TEMPLATES[name]
    if chosen.gpus > 2:
        raise Wrong(f"{name} needs {chosen.gpus} GPUs, and the clinic has two")
    if chosen.max_model_len < 6000:
        raise Wrong(f"{name} ends a conversation at {chosen.max_model_len:,} tokens, and theirs reach 6,000")
    return f"{name}: {chosen.gpus} GPUs, {chosen.max_model_len:,} tokens, {chosen.max_num_seqs} requests at a time"


q5 = lab.add(
    _template,
    hints=(
        "Two numbers decide: how many GPUs a template needs, and its max_model_len.",
        "tensor_parallel_size × pipeline_parallel_size is the number of GPUs.",
    ),
    code='choice = "production-high"',
)
