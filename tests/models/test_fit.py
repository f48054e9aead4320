"""Memory estimates, and advice that really fits."""

from __future__ import annotations

import re

import pytest

from labkit.errors import NotEnoughMemory
from labkit.models.catalog import catalog, find
from labkit.models.fit import check_fit, fits, needs

QWEN = "qwen2.5-7b"


def test_the_parts_of_an_estimate() -> None:
    need = needs(find(QWEN), "Q4_K_M", 8192)
    assert need.weights == 4_680_000_000
    assert need.kv == 2 * 28 * 512 * 8192 * 2
    assert need.overhead == 512 * 152_064 * 4 + 64_000_000
    assert need.total == need.weights + need.kv + need.overhead
    assert "estimate" in str(need)


def test_the_context_is_the_models_when_that_is_short() -> None:
    assert needs(find("nano")).kv == find("nano").kv_bytes(2048)
    assert needs(find(QWEN)).kv == find(QWEN).kv_bytes(4096)


def test_what_fits_is_let_through() -> None:
    assert check_fit(find("nano")).total < 200_000_000
    assert check_fit(find(QWEN), available=10**12).total > 4 * 10**9


@pytest.mark.parametrize("alias", [a for a in catalog() if a != "nano"])
@pytest.mark.parametrize("share", [0.9, 0.7, 0.5])
@pytest.mark.parametrize("context", [None, 8192])
def test_the_advice_fits(alias: str, share: float, context: int | None) -> None:
    card = find(alias)
    free = int(needs(card, None, context).total * share)
    with pytest.raises(NotEnoughMemory) as caught:
        check_fit(card, None, context, free)
    assert re.search(r"needs [\d.]+ [GM]B, [\d.]+ [GM]B free", caught.value.what)
    advice = caught.value.fix
    pair = re.search(r"variant (\S+) with context=(\d+)", advice)
    if pair:
        check_fit(card, pair[1], int(pair[2]), free)
    elif "try a smaller model" not in advice:
        for quant in re.findall(r"variant (\S+)", advice):
            check_fit(card, quant, context, free)
        for tokens in re.findall(r"context=(\d+)", advice):
            check_fit(card, None, int(tokens), free)


def test_nothing_fits() -> None:
    with pytest.raises(NotEnoughMemory, match="smaller model"):
        check_fit(find(QWEN), available=1_000_000)


def test_every_variant_is_judged_with_a_reason_in_words() -> None:
    card = find(QWEN)
    judged = fits(card, available=5_000_000_000)
    assert [f.variant for f in judged] == list(card.variants)
    assert {f.fits for f in judged} == {True, False}
    assert all(re.fullmatch(r"needs [\d.]+ GB, 5.0 GB free", f.reason) for f in judged)
