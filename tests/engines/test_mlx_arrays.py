"""The stand-in for MLX's arrays is as lazy as they are; where MLX is installed, both are asked the same."""

from typing import Any

import numpy as np
import pytest

from labkit.engines import mlx_arrays
from labkit.engines.mlx_arrays import arrays, pending, rounded


@pytest.fixture(params=["stand-in", pytest.param("mlx", marks=pytest.mark.heavy)])
def mx(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "stand-in":
        monkeypatch.setattr(mlx_arrays, "HERE", False)
    elif not mlx_arrays.HERE:
        pytest.skip("needs mlx: pip install 'labkit[mlx]'")
    made, where = arrays()
    assert where.startswith("MLX") == (request.param == "mlx")
    return made


def test_nothing_is_computed_until_it_is_asked_for(mx: Any) -> None:
    x = mx.array([1.0, 2.0])
    y = mx.exp(x) + 1.0
    todo = pending(y * y)
    assert [op for op in todo if op != "Broadcast"] in (
        ["Exp", "Add", "Multiply"],
        ["Exp", "Add", "Exp", "Add", "Multiply"],
    )
    mx.eval(y)
    assert pending(y) == [] and pending(2.0 * y)
    assert np.array(y) == pytest.approx(np.exp([1, 2]) + 1)


def test_numpy_shares_its_memory(mx: Any) -> None:
    shared = mx.array([1.0, 2.0, 3.0])
    mx.eval(shared)
    np.array(shared, copy=False)[0] = 42
    assert np.array(shared).tolist() == [42, 2, 3] and "42" in repr(shared)


def test_products_and_single_numbers(mx: Any) -> None:
    m = mx.random.normal((8, 8)) * 0.5
    assert np.array(m @ m) == pytest.approx(np.array(m) @ np.array(m), abs=1e-4)
    assert (mx.array(20.0) + 22.0).item() == 42


@pytest.mark.usefixtures("mx")
def test_more_bits_and_smaller_groups_lose_less() -> None:
    weights = np.random.default_rng(0).normal(size=(64, 256)).astype(np.float32)
    error = {
        pair: np.linalg.norm(rounded(weights, *pair) - weights)
        for pair in ((8, 64), (4, 32), (4, 128), (2, 64))
    }
    assert error[8, 64] < error[4, 32] < error[4, 128] < error[2, 64]
