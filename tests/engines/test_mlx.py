"""MLX in this process: the same weights as llama.cpp's, and what goes beyond the contract."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlx_lm", reason="needs mlx-lm: pip install 'labkit[mlx]'")

import in_process

from labkit import Model, load
from labkit.engines.hf_folder import chat_template
from labkit.errors import ModelFileInvalid, ModelNotFound, OptionInvalid
from labkit.models import store
from labkit.models.catalog import find


@pytest.fixture(scope="module")
def nano(own_home: Path) -> Iterator[Model]:
    with load("nano", engine="mlx") as model:
        yield model


def test_float16_weights_say_what_llama_cpp_says(own_home: Path, llamacpp_answers: list[str]) -> None:
    with load("nano", engine="mlx", variant="fp16") as model:
        in_process.assert_agrees(model, llamacpp_answers)


@pytest.mark.parametrize(("variant", "bits"), [("fp32", 32), ("bf16", 16), ("8bit", 8), ("4BIT", 4)])
def test_every_variant_has_its_size_and_answers(own_home: Path, variant: str, bits: int) -> None:
    with load("nano", engine="mlx", variant=variant) as model:
        assert model.chat("hi", max_tokens=2).usage.completion_tokens
        assert model.engine.file is not None
        size = model.engine.file.stat().st_size
    assert store.verified(model.engine.file, deep=True)
    # A group of 64 weights also has a scale and an offset of 16 bits each.
    weights = find("nano").params_b * 1e9
    assert size == pytest.approx(weights / 8 * (bits + (0.5 if bits <= 8 else 0)), rel=0.03)


def test_the_folder_is_one_that_mlx_itself_takes(nano: Model) -> None:
    from mlx_lm.utils import load_model

    assert nano.engine.file is not None
    _, config = load_model(nano.engine.file.parent)
    assert config["quantization"] == {"group_size": 64, "bits": 4}


def test_the_files_are_made_once_however_many_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    folders: list[Path | None] = []

    def make() -> None:
        with load("nano", engine="mlx", variant="fp16") as model:
            folders.append(model.engine.file)

    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert folders == [tmp_path / "models" / "nano" / "mlx-fp16" / "model.safetensors"] * 3
    assert not list(tmp_path.rglob("*.part"))


def test_files_of_older_weights_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    load("nano", engine="mlx", variant="fp16").close()
    path = store.path_of("nano", "mlx-fp16", "model.safetensors")
    path.write_bytes(b"older")
    store.seal(path, "labkit/models/nano 000000000000", "an older release")
    load("nano", engine="mlx", variant="fp16").close()
    assert path.stat().st_size > 1_000_000


def test_a_damaged_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    load("nano", engine="mlx", variant="fp16").close()
    config = store.path_of("nano", "mlx-fp16", "config.json")
    config.write_text(json.dumps({"model_type": "moon"}))
    with pytest.raises(ModelFileInvalid) as caught:
        load("nano", engine="mlx", variant="fp16")
    assert "labkit models rm nano" in caught.value.fix


def test_usage_is_the_tokenizers_count(nano: Model) -> None:
    messages = [{"role": "user", "content": "naïve 🙂"}]
    in_process.assert_counts_tokens(nano, chat_template(in_process.NANO, trusted=True).render(messages))


def test_stop_strings(nano: Model) -> None:
    in_process.assert_stops(nano)


def test_sampling(nano: Model) -> None:
    in_process.assert_samples(nano)
    assert nano.chat("hi", max_tokens=30, ignore_eos=True).usage.completion_tokens == 30
    plain = nano.chat(in_process.STORY, max_tokens=30, ignore_eos=True).text
    assert nano.chat(in_process.STORY, max_tokens=30, ignore_eos=True, repeat_penalty=1.8).text != plain
    assert nano.chat("hi", max_tokens=4, temperature=1.0, min_p=0.2).text


def test_half_a_character_waits_for_its_other_half(nano: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = nano.engine
    for text in ("naïve 🙂🙃 🏳️‍🌈", "北京的天气", "مرحبا بالعالم"):
        ids = engine.tokenizer.encode(text).ids
        monkeypatch.setattr(engine, "draw", lambda *_, ids=ids: iter(ids))
        pieces = [chunk.text for chunk in nano.stream("hi", max_tokens=100)]
        assert "".join(pieces) == text
        assert not any("\ufffd" in piece for piece in pieces)


def test_a_prompt_over_the_context_is_refused(nano: Model) -> None:
    in_process.assert_refuses_what_does_not_fit(nano)
    with load("nano", engine="mlx", context=64) as small:
        assert small.chat("hi", max_tokens=1000, ignore_eos=True).usage.total_tokens == 64


def test_cancel(nano: Model) -> None:
    in_process.assert_cancels(nano)


def test_tools_are_shown_unless_they_are_not_to_be_used(nano: Model) -> None:
    in_process.assert_hides_and_shows_tools(nano)


def test_a_users_text_cannot_forge_a_turn(nano: Model) -> None:
    in_process.assert_breaks_forged_turns(nano)


def test_two_models_at_once(nano: Model) -> None:
    in_process.assert_two_at_once(nano, load("nano", engine="mlx"))


def test_a_folder_that_was_pulled_runs_with_a_strangers_template_in_its_sandbox(
    nano: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert nano.engine.file is not None
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    in_process.make_look_pulled(tmp_path, "mlx", nano.engine.file.parent, names)
    with load("somebodys", engine="mlx") as model:
        assert model.variant == "model-mlx"
        assert model.chat("hi", max_tokens=8).message == nano.chat("hi", max_tokens=8).message
        engine: Any = model.engine
        assert not engine.template.trusted
    with pytest.raises(ModelNotFound):
        load("somebodys", engine="mlx", variant="4bit")


def test_what_is_not_there_is_named(own_home: Path) -> None:
    for name, variant, remedy in (
        ("nano", "Q8_0", "8bit"),
        ("phi-4-mini", None, "labkit models pull phi-4-mini --engine mlx"),
        ("random-0.5b", None, "labkit models info"),
    ):
        with pytest.raises(ModelNotFound) as caught:
            load(name, engine="mlx", variant=variant)
        assert remedy in caught.value.fix
    for bad in ({"threads": 1}, {"context": -1}):
        with pytest.raises(OptionInvalid):
            load("nano", engine="mlx", **bad)
