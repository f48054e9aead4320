"""MLX's lazy arrays for a lesson: what is still to be computed, and what its rounding costs.

Where there is no MLX (Windows), a stand-in with numpy beneath is just as lazy. It is slower, and knows five functions.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.engines.mlx import Mlx

HERE = Mlx.available().installed


class Lazy:
    """Stand in for an array of MLX: keep what to compute, and compute it when somebody needs the value."""

    def __init__(
        self, value: Any, name: str = "", function: Callable[..., Any] | None = None, *inputs: Any
    ) -> None:
        self.value, self.name, self.function, self.inputs = value, name, function, inputs

    def __add__(self, other: Any) -> Lazy:
        return Lazy(None, "Add", np.add, self, other)

    def __mul__(self, other: Any) -> Lazy:
        return Lazy(None, "Multiply", np.multiply, self, other)

    def __matmul__(self, other: Any) -> Lazy:
        return Lazy(None, "Matmul", np.matmul, self, other)

    __radd__, __rmul__ = __add__, __mul__

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if self.function:
            done = [np.asarray(i) if isinstance(i, Lazy) else i for i in self.inputs]
            self.value, self.function, self.inputs = np.asarray(self.function(*done), np.float32), None, ()
        return np.asarray(self.value, dtype)

    def item(self) -> float:
        """Return the only number."""
        return float(np.asarray(self))

    def __repr__(self) -> str:
        return f"stand-in({np.asarray(self)})"


def arrays() -> tuple[Any, str]:
    """Return `mlx.core`, or the stand-in with the same functions, and what it is in words."""
    if HERE:
        import mlx.core as mx

        return (
            mx,
            f"MLX {mx.__version__} on {'the GPU (Metal)' if mx.default_device() == mx.gpu else 'the CPU'}",
        )
    numbers = np.random.default_rng(0)
    standin = SimpleNamespace(
        array=lambda value: Lazy(np.asarray(value, np.float32)),
        random=SimpleNamespace(normal=lambda shape: Lazy(np.asarray(numbers.normal(size=shape), np.float32))),
        exp=lambda array: Lazy(None, "Exp", np.exp, array),
        eval=lambda *many: [np.asarray(one) for one in many],
    )
    state = Mlx.available()
    return standin, f"no MLX here ({state.reason}; {state.fix}): a lazy stand-in with numpy beneath"


def pending(array: Any) -> list[str]:
    """Name the operations that are still to be done for an array, the first one first."""
    if isinstance(array, Lazy):
        before = [op for i in array.inputs if isinstance(i, Lazy) for op in pending(i)]
        return [*before, array.name] if array.function else []
    import mlx.core as mx

    text = io.StringIO()
    mx.export_to_dot(text, array)
    return re.findall(r'label ="(\w+)", shape=rectangle', text.getvalue())


def rounded(weights: NDArray[np.float32], bits: int, group: int) -> NDArray[np.float32]:
    """Return weights (rows, columns) after MLX's affine quantization: a scale and an offset for every `group` in a row.

    The stand-in spreads the codes from least to greatest; MLX also sees to it that 0 stays 0.
    """
    if HERE:
        import mlx.core as mx

        packed = mx.quantize(mx.array(weights), group_size=group, bits=bits)
        return np.array(mx.dequantize(*packed, group_size=group, bits=bits))
    rows = weights.reshape(-1, group)
    least = rows.min(axis=1, keepdims=True)
    step = (rows.max(axis=1, keepdims=True) - least) / (2**bits - 1)
    return np.asarray(np.rint((rows - least) / step) * step + least).reshape(weights.shape)
