"""The catalog, the user's additions to it, and cards made from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.errors import ModelFileInvalid, ModelNotFound, OptionInvalid
from labkit.models.catalog import catalog, find
from labkit.models.cloud import cloud_models

MINE = """
[mine]
title = "Mine"
params_b = 1.0
license = "MIT"
context = 4096
capabilities = ["completion"]
variants = { Q8_0 = 1000 }
sha256 = { Q8_0 = "ab" }
refs = { llamacpp = { repo = "me/mine-GGUF", file = "mine-{quant}.gguf", revision = "v1" } }
"""


def write(home: Path, text: str) -> None:
    home.mkdir(exist_ok=True)
    (home / "catalog.toml").write_text(text)


def test_every_card_is_complete() -> None:
    cards = catalog()
    assert "nano" in cards and len(cards) >= 8
    for alias, card in cards.items():
        assert card.alias == alias and card.title and card.license and card.source
        assert card.layers > 0 and card.kv_width > 0 and card.vocab > 0 and card.context > 0
        assert card.capabilities <= {"completion", "tools", "vision", "thinking", "embedding"}
        assert card.variant().quant == ("F16" if "embedding" in card.capabilities else "Q4_K_M")
        weights = [v.file_bytes for v in card.variants]
        assert all(w > 0 for w in weights) and len({v.quant for v in card.variants}) == len(weights)
        assert all(2 < v.bits < 17 for v in card.variants)
        assert all(ref.repo or ref.package for ref in card.refs.values())
        assert all(
            "{quant}" in ref.file for name, ref in card.refs.items() if name == "llamacpp" and ref.repo
        )


def test_nano_and_pico_are_shipped_for_every_engine_and_nobody_claims_more_than_was_run() -> None:
    for name in ("nano", "pico"):
        card = find(name)
        assert card.shipped and {ref.package for ref in card.refs.values()} == {name}
        assert card.capabilities == {"completion", "tools"} and card.context == 2048
    others = [card for alias, card in catalog().items() if alias not in ("nano", "pico")]
    assert not any(card.shipped for card in others)
    assert [card.alias for card in others if card.verified] == ["random-0.5b"], "made here, and run"
    assert not any(v.sha256 for card in others for v in card.variants)


# Each model the course speaks of, by the name that an engine's users know it by: a tag, an alias or a repository.
NAMED = {
    "phi-4": "foundry", "phi-4-mini": "foundry", "phi3.5": "ollama", "microsoft/Phi-3.5-mini-instruct": "vllm",
    "qwen2.5-0.5b": "foundry", "qwen2.5:0.5b": "ollama", "Qwen/Qwen2.5-0.5B-Instruct": "vllm",
    "Qwen/Qwen2.5-1.5B-Instruct": "vllm", "qwen2.5:7b": "ollama", "qwen2.5-coder-0.5b": "foundry",
    "llama3.1:8b": "ollama", "llama3.2:1b": "ollama", "llama3.2:3b": "ollama", "tinyllama": "ollama",
    "codellama:7b-code": "ollama", "codegemma:7b-code": "ollama",
}  # fmt: skip


@pytest.mark.parametrize(("name", "engine"), NAMED.items())
def test_every_model_the_course_names_is_here(name: str, engine: str) -> None:
    assert [
        card.alias for card in catalog().values() if engine in card.refs and card.refs[engine].repo == name
    ]


def test_cloud_models_are_price_references_and_no_more() -> None:
    clouds = cloud_models()
    assert set(clouds) == {"gpt-4o", "gpt-4o-mini", "gpt-3.5-turbo"} and not set(clouds) & set(catalog())
    for model in clouds.values():
        assert 0 < model.input_usd < model.output_usd and model.context > 0 and not model.verified
        assert model.source.startswith("https://") and len(model.as_of) == 7
    assert clouds["gpt-4o"].cost(1_000_000, 500_000) == pytest.approx(2.5 + 5)


def test_a_name_in_any_case() -> None:
    assert find("NANO") is find("nano")
    assert find("Qwen2.5-0.5B").alias == "qwen2.5-0.5b"


@pytest.mark.parametrize(
    ("name", "near"), [("nanno", "nano"), ("qwen-7b", "qwen2.5-7b"), ("phi4mini", "phi-4-mini")]
)
def test_an_unknown_name_gets_the_closest(name: str, near: str) -> None:
    with pytest.raises(ModelNotFound, match="labkit models") as caught:
        find(name)
    assert near in caught.value.fix and caught.value.fix.count(",") == 2


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "x" * 100_000, "nano\0"])
def test_an_odd_name_is_unknown_and_nothing_else(name: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        find(name)
    assert len(str(caught.value)) < 400


def test_a_file_is_a_model(tiny_gguf: Path) -> None:
    card = find(str(tiny_gguf))
    assert (card.alias, card.title, card.default_variant) == ("tiny", "tiny", "F16")
    assert (card.layers, card.kv_width, card.vocab, card.context) == (1, 32, 200, 256)
    assert card.variant().file_bytes == tiny_gguf.stat().st_size
    assert card.refs["llamacpp"].file == str(tiny_gguf) and not card.verified


def test_a_file_that_is_missing_or_broken(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no file"):
        find(str(tmp_path / "none.gguf"))
    with pytest.raises(ModelNotFound, match="no file"):
        find("nul\0.gguf")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelFileInvalid):
        find(str(tmp_path / "bad.gguf"))


def test_a_users_file_adds_and_replaces(labkit_home: Path) -> None:
    write(labkit_home, MINE + MINE.replace("[mine]", "[nano]"))
    card = find("mine")
    assert card.default_variant == "Q8_0" and card.variant().bits == 8.0 and card.variant().sha256 == "ab"
    assert card.refs["llamacpp"].revision == "v1"
    assert find("nano").title == "Mine"
    write(labkit_home, "")
    assert "mine" not in catalog() and find("nano").title != "Mine"


@pytest.mark.parametrize(
    "text",
    [
        "not toml",
        "mine = 1",
        "[mine]\ntitle = 'x'",
        MINE.replace("params_b = 1.0", "params_b = 0"),
        MINE.replace("params_b = 1.0", "params_b = 'many'"),
        MINE.replace("{ Q8_0 = 1000 }", "{}"),
        MINE.replace("{ Q8_0 = 1000 }", "[1, 2]"),
        MINE.replace('file = "', 'flie = "'),
        MINE.replace("title", "tilte"),
        MINE.replace("4096", "'long'"),
        MINE.replace("[mine]", '["../mine"]'),
    ],
)
def test_a_users_mistake_is_named_with_the_file(text: str, labkit_home: Path) -> None:
    write(labkit_home, text)
    with pytest.raises(OptionInvalid) as caught:
        catalog()
    assert str(labkit_home / "catalog.toml") in str(caught.value)
