"""Simulated rounding, on nano's real weights and the activations that meet them."""

import numpy as np
import pytest

pytest.importorskip("safetensors", reason="needs safetensors: pip install 'labkit[llamacpp]'")

from labkit.errors import OptionInvalid
from labkit.metrics.quality import ppl, token_nll
from labkit.models.numpy_llama import NumpyLlama, nano_folder
from labkit.models.quantize_simulated import (
    METHODS,
    activations_of,
    awq,
    fp8_e4m3,
    gptq,
    round_int4,
    simulate,
)

IDS = [int(id) for id in np.random.default_rng(0).integers(9, 4096, 320)]
NAMES = [f"model.layers.{at}.{part}.weight" for at, part in ((0, "self_attn.k_proj"), (3, "mlp.down_proj"))]


@pytest.fixture(scope="module")
def nano() -> NumpyLlama:
    return NumpyLlama.read(nano_folder())


@pytest.fixture(scope="module")
def seen(nano: NumpyLlama) -> dict[str, np.ndarray]:
    return activations_of(nano, [IDS[:160], IDS[160:]])


def test_fp8_numbers_stay_and_others_go_to_the_nearest() -> None:
    numbers = [(1 + m / 8) * 2.0**e for e in range(-6, 9) for m in range(8)]
    numbers = np.float32([*(m * 2.0**-9 for m in range(8)), *numbers])[:-1]  # 480 is the code of NaN
    assert numbers.max() == 448 and len(numbers) == 127
    assert np.array_equal(fp8_e4m3(numbers), numbers)
    values = np.float32(np.random.default_rng(1).normal(scale=3, size=2000))
    best = np.abs(np.abs(values)[:, None] - numbers).min(axis=1)
    assert np.array_equal(np.abs(fp8_e4m3(values) - values), best)
    assert fp8_e4m3(np.float32([1e9, -1e9])).tolist() == [448, -448]


def test_fp8_is_that_of_torch() -> None:
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'labkit[train]'")
    values = np.float32(np.random.default_rng(2).normal(size=(6, 500)) * np.logspace(-4, 2, 6)[:, None])
    theirs = torch.from_numpy(values).to(torch.float8_e4m3fn).float().numpy()
    assert np.array_equal(fp8_e4m3(values), theirs)


def test_int4_keeps_sixteen_values_a_group(nano: NumpyLlama) -> None:
    weight = nano.weights[NAMES[1]]
    groups = round_int4(weight).reshape(len(weight), -1, 128)
    assert max(len(np.unique(row)) for group in groups for row in group) <= 16
    span = np.ptp(weight.reshape(groups.shape), axis=-1, keepdims=True)
    assert (np.abs(groups - weight.reshape(groups.shape)) <= span / 15 * 1.01).all()
    assert not round_int4(np.zeros((2, 256), np.float32)).any()


@pytest.mark.parametrize("name", NAMES)
def test_gptq_and_awq_change_a_layers_output_less(
    nano: NumpyLlama, seen: dict[str, np.ndarray], name: str
) -> None:
    weight, x = nano.weights[name], seen[name]
    assert x.shape == (320, weight.shape[1])

    def error(rounded: np.ndarray) -> float:
        return float(np.linalg.norm((rounded - weight) @ x.T) / np.linalg.norm(weight @ x.T))

    plain, compensated = error(round_int4(weight)), gptq(weight, x)
    assert 0 < error(compensated) < plain / 1.2
    assert error(awq(weight, x)) <= plain  # a scale of 1 is one of those it tries
    groups = compensated.reshape(len(weight), -1, 128)
    assert max(len(np.unique(row)) for group in groups for row in group) <= 16


def test_activations_that_say_nothing_leave_gptq_at_plain_rounding(nano: NumpyLlama) -> None:
    weight = nano.weights[NAMES[0]]
    same = np.eye(weight.shape[1], dtype=np.float32)  # columns that never meet: nothing to make up for
    assert np.allclose(gptq(weight, same), round_int4(weight), atol=1e-6)


def test_a_simulated_model_has_a_perplexity(nano: NumpyLlama) -> None:
    before = nano.weights[NAMES[0]].copy()
    rounded = simulate(nano, "FP8", [IDS[:64]])
    assert np.array_equal(nano.weights[NAMES[0]], before) and nano.watch is None
    changed = {name for name in nano.weights if rounded.weights[name] is not nano.weights[name]}
    assert len(changed) == 7 * nano.config["num_hidden_layers"] and "model.embed_tokens.weight" not in changed
    values = [ppl(token_nll(model.window_logits, IDS, window=64))[0] for model in (nano, rounded)]
    assert values[1] != values[0] and values[1] == pytest.approx(values[0], rel=0.5)


def test_an_unknown_method_is_refused(nano: NumpyLlama) -> None:
    assert list(METHODS) == ["FP8", "int4", "GPTQ", "AWQ"]
    with pytest.raises(OptionInvalid, match="choose from: FP8"):
        simulate(nano, "int3", [IDS])
