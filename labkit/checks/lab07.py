"""Checks of lab 07, MLX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from labkit.checks.core import Exercises, Wrong, compare, require_function
from labkit.engines.mlx_arrays import Lazy, pending

LEAST_PENDING, VALUE = 5, 42.0
PAIRS = ((4, 64), (8, 64), (4, 32), (3, 128), (6, 32))
HALF = 2  # bytes of a float16
lab = Exercises("07")


def _lazy(array: Any) -> str:
    if not isinstance(array, Lazy) and not type(array).__module__.startswith("mlx."):
        raise Wrong(f"that is a {type(array).__name__}; begin with mx.array(…) and go on with + and *")
    todo = pending(array)
    if not todo:
        raise Wrong("nothing is pending: it was computed already. Printing an array computes it, too")
    if len(todo) < LEAST_PENDING:
        raise Wrong(f"{len(todo)} pending: {', '.join(todo)}; at least {LEAST_PENDING}")
    value = float(array.item())  # from here on it is computed
    if abs(value - VALUE) > 1e-3:
        raise Wrong(
            f"{len(todo)} were pending, but the value is {value:g}, not {VALUE:g}; make the array anew"
        )
    return f"{len(todo)} were pending ({', '.join(todo)}); the check computed {value:g}: {len(pending(array))} are left"


q1 = lab.add(
    _lazy,
    hints=(
        "mx.array(2.0) is a number in an array. Each + or * with another number adds one operation.",
        "2 + 1 + 4 + 7 + 10 + 18 is 42. Do not print the array: that would compute it.",
    ),
    code="lazy = mx.array(2.0) + 1.0 + 4.0 + 7.0 + 10.0 + 18.0",
)


def _bits(function: Callable[[int, int], float]) -> str:
    require_function(function, "bits_per_weight")
    for bits, group in PAIRS:
        given, right = float(function(bits, group)), bits + 32 / group
        reasons = {
            float(bits): "a group also has a scale and an offset",
            bits + 16 / group: "that counts the scale; the offset takes 16 bits, too",
            bits + 4 / group: "scale and offset take 4 bytes, which are 32 bits",
            bits + 32.0: "all weights of a group share the 32 bits: divide by the group's size",
            right / 8: "that is bytes a weight",
        }
        if not abs(given - right) < 1e-6:
            near = (why for value, why in reasons.items() if abs(given - value) < 1e-6)
            why = next(near, "codes, and a share in 16 + 16 bits")
            raise Wrong(f"{bits} bits in groups of {group}: {given:g} is not it; {why}")
    return "4 bits in groups of 64 take 4.5 bits a weight, in groups of 32 they take 5"


q2 = lab.add(
    _bits,
    hints=(
        "Scale and offset of a group are float16 each: 32 bits for the group.",
        "Every weight has its code, and one group-th of those 32 bits.",
    ),
    code="def bits_per_weight(bits: int, group: int) -> float:\n    return bits + 32 / group",
)


def _cache(config: Mapping[str, Any], answer: float) -> str:
    layers, heads, size = config["num_hidden_layers"], config["num_key_value_heads"], config["head_dim"]
    right = float(2 * layers * heads * size * HALF)
    reasons = {
        right / 2: "either keys or values are missing, or a number takes one byte here: float16 has two",
        right / layers: "that is one layer; every layer has a cache of its own",
        right * 2: "twice too much: float32 instead of float16, or all heads instead of the KV heads",
        right * 8: "that is bits: a byte has 8",
    }
    compare(answer, right, reasons, "2 × layers × KV heads × size of a head × 2 bytes", within=1e-9)
    return f"{right:,.0f} bytes a token: {right * 2048 / 1e6:.1f} MB for 2,048 tokens (estimated)"


q3 = lab.add(
    _cache,
    hints=(
        "Every layer keeps one key and one value for each KV head, and each of them has head_dim numbers.",
        "A float16 takes 2 bytes.",
    ),
    code='per_token = 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"] * 2',
)
