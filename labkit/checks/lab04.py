"""Checks of lab 04, quantization."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labkit.checks.core import Exercises, Wrong, compare
from labkit.metrics.levels import Level, LevelTable
from labkit.models.sizes import SHAPES, Shape, memory, weight_bytes

Array = NDArray[np.float32]
FREE = 8e9
CONTEXT = 8192
LEAST_SAME = 0.95
lab = Exercises("04")


def _largest(answer: str | Shape) -> str:
    named = [name for name, shape in SHAPES.items() if answer in (shape, name)]
    name = named[0] if named else str(answer).strip().upper()
    if name not in SHAPES:
        raise Wrong(f"give the name of a shape as a string, one of {', '.join(SHAPES)}; not {answer!r:.60}")
    need = {n: memory(shape, "Q4_K_M", CONTEXT).total for n, shape in SHAPES.items()}
    best = max((n for n in need if need[n] <= FREE), key=lambda n: need[n])
    if need[name] > FREE:
        raise Wrong(f"{name} needs {need[name] / 1e9:.1f} GB with a context of {CONTEXT:,}, and 8 are free")
    if name != best:
        raise Wrong(
            f"{name} needs {need[name] / 1e9:.1f} GB and fits, but there is a larger one that fits, too"
        )
    return f"{name}: about {need[name] / 1e9:.1f} GB (estimated), weights, KV cache and buffers together"


q1 = lab.add(
    _largest,
    hints=(
        'memory(SHAPES["3B"], "Q4_K_M", 8192).total is the estimate for one of them, in bytes.',
        "Go through SHAPES, keep the names whose total is at most 8e9, and take the last: SHAPES is sorted by size.",
    ),
    code='largest = [name for name in SHAPES if memory(SHAPES[name], "Q4_K_M", 8192).total <= 8e9][-1]',
)


def _block(block: Array, step: float, codes: Sequence[float] | Array) -> str:
    if np.size(step) != 1:
        raise Wrong(f"step is one number for the whole block, not {np.size(step)}")
    found, given = np.asarray(codes, dtype=np.float64).ravel(), float(np.asarray(step).item())
    right = float(np.abs(block).max()) / 127
    reasons = {
        float(block.max()) / 127: "the largest weight is not the one of largest size: take np.abs first",
        right * 127 / 128: "8 bits have the codes -128 to 127; Q8_0 uses -127 to 127, so divide by 127",
        float(block.max() - block.min()) / 255: "that spreads the codes from least to greatest; Q8_0 is "
        "symmetric: max |w| / 127",
        1 / right: "turned over: a step is a size of weights, max |w| / 127",
    }
    formula = "the step must take the weight of largest size to the code 127 or -127"
    compare(given, right, reasons, formula, within=0.002)  # float16 keeps 11 bits
    if found.shape != (32,):
        raise Wrong(f"a block has 32 codes, not {found.size}")
    if not np.array_equal(found, np.rint(found)):
        raise Wrong("codes are whole numbers: round block / step")
    exact = block / np.float32(right)
    if np.array_equal(found, np.trunc(exact)) and not np.array_equal(found, np.rint(exact)):
        raise Wrong("these codes are cut off, not rounded: np.round(block / step), then the type")
    if np.abs(found - exact).max() > 0.51:  # 0.01 for a step that was rounded to float16
        at = int(np.abs(found - exact).argmax())
        raise Wrong(f"code {at} is {found[at]:.0f}, but the weight is {exact[at]:.2f} steps")
    worst = float(np.abs(found * given - block).max())
    return f"no weight is off by more than {worst:.5f}; half a step is {right / 2:.5f}"


q2 = lab.add(
    _block,
    hints=(
        "The weight of largest size shall become the code 127 or -127: np.abs(block).max().",
        "A code says how many steps a weight is: np.round(block / step).",
    ),
    code="step = np.abs(block).max() / 127\ncodes = np.round(block / step).astype(int)",
)


def _choice(table: LevelTable, answer: str | Level) -> str:
    rows = {row.level: row for row in table.rows}
    name = answer.level if isinstance(answer, Level) else str(answer).strip().upper()
    if name not in rows:
        raise Wrong(f"give the name of a level as a string, one of {', '.join(rows)}; not {answer!r:.60}")
    good = [row for row in table.rows if row.same_top >= LEAST_SAME]
    best = min(good, key=lambda row: row.file_bytes)
    if rows[name] not in good:
        raise Wrong(f"{name} agrees with the base on {rows[name].same_top:.1%} of the tokens only")
    if rows[name].file_bytes > best.file_bytes:
        raise Wrong(f"{name} keeps enough, but a smaller file does so, too")
    error = best.errors["same_top"]
    sure = "more" if best.same_top - LEAST_SAME > 2 * error else "less"
    found = f"{best.same_top:.1%} ± {error:.1%} in {best.file_bytes / 1e6:.2f} MB"
    return f"{found}: {sure} than two standard errors above 95 %"


q3 = lab.add(
    _choice,
    hints=(
        "Keep the rows of table.rows whose same_top is at least 0.95.",
        "Of those, take the one with the least file_bytes: min(rows, key=lambda r: r.file_bytes).",
    ),
    code="choice = min((r for r in table.rows if r.same_top >= 0.95), key=lambda r: r.file_bytes).level",
)


def _bound(bytes_per_s: float, speed: float) -> str:
    given, right = float(speed), bytes_per_s / weight_bytes(SHAPES["7B"], "Q4_K_M")
    reasons = {
        1 / right: "that is seconds per token: turn it over",
        right / 8: "weight_bytes is in bytes already: there is no 8 in it",
        right * 8: "weight_bytes is in bytes already: there is no 8 in it",
        bytes_per_s / weight_bytes(SHAPES["7B"], "F16"): "that is the bound at F16",
    }
    if not 0.9 * right <= given <= 1.2 * right:  # with or without the embedding table
        near = (why for value, why in reasons.items() if abs(given - value) < 0.1 * value)
        raise Wrong(
            next(near, f"{given:,.4g} is not it: every token reads all weights once, so bytes/s / bytes")
        )
    return f"at most about {right:,.1f} tokens/s (estimated) for a 7B model at Q4_K_M on this machine"


q4 = lab.add(
    _bound,
    hints=(
        'The weights of a 7B model at Q4_K_M take weight_bytes(SHAPES["7B"], "Q4_K_M") bytes.',
        "If memory gives so many bytes a second, and a token needs all weights once, divide.",
    ),
    code='fastest = memory_speed.bytes_per_s / weight_bytes(SHAPES["7B"], "Q4_K_M")',
)


def _ratios(errors: tuple[Array, Array], x: Array, weight_ratio: float, output_ratio: float) -> str:
    plain, planned = errors
    weights, outputs = _ratio(planned, plain), _ratio(x @ planned.T, x @ plain.T)
    for name, given, right in (("weight", weight_ratio, weights), ("output", output_ratio, outputs)):
        if np.ndim(given) > 0:
            raise Wrong(
                f"{name}_ratio is an array of shape {np.shape(given)}: np.linalg.norm makes it one number"
            )
        if abs(float(given) * right - 1) < 0.01 < abs(right * right - 1):
            raise Wrong(f"{name}_ratio is turned over: GPTQ's error / plain rounding's")
        if abs(float(given) / right**2 - 1) < 0.01 < abs(right - 1):
            raise Wrong(f"{name}_ratio is of the squared errors: take the root, as np.linalg.norm does")
        if not abs(float(given) / right - 1) < 0.01:
            raise Wrong(f"{name}_ratio is {float(given):.3g}: divide GPTQ's error by plain rounding's")
    return f"GPTQ's weights are off by {weights:.2f} times as much, and its output by {outputs:.2f} times"


def _ratio(error: Array, other: Array) -> float:
    return float(np.linalg.norm(error) / np.linalg.norm(other))


q5 = lab.add(
    _ratios,
    hints=(
        "np.linalg.norm makes one number of a matrix of errors; divide GPTQ's by plain rounding's.",
        "The layer's output is x @ weights.T, so the error of its output is x @ planned.T.",
    ),
    code="norm = np.linalg.norm\n"
    "weight_ratio = norm(planned) / norm(plain)\n"
    "output_ratio = norm(x @ planned.T) / norm(x @ plain.T)",
)
