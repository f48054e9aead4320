"""ONNX Runtime GenAI in this process: the same weights as llama.cpp's, and what goes beyond the contract."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("onnxruntime_genai", reason="needs onnxruntime-genai: pip install 'labkit[onnx]'")

import in_process

from labkit import Model, load
from labkit.engines import onnx_files
from labkit.engines.hf_folder import chat_template
from labkit.engines.onnx import choose_provider
from labkit.errors import EngineUnavailable, ModelFileInvalid, ModelNotFound, OptionInvalid


@pytest.fixture(scope="module")
def nano(onnx_export: Path) -> Iterator[Model]:
    with load("nano", engine="onnx", threads=1) as model:
        yield model


def test_full_precision_says_what_llama_cpp_says(onnx_export: Path, llamacpp_answers: list[str]) -> None:
    with load("nano", engine="onnx", variant="fp32", threads=1) as model:
        in_process.assert_agrees(model, llamacpp_answers)


def test_usage_is_the_tokenizers_count(nano: Model) -> None:
    messages = [{"role": "user", "content": "naïve 🙂"}]
    in_process.assert_counts_tokens(nano, chat_template(in_process.NANO, trusted=True).render(messages))


def test_stop_strings(nano: Model) -> None:
    in_process.assert_stops(nano)


def test_sampling(nano: Model) -> None:
    in_process.assert_samples(nano)
    assert nano.chat("hi", max_tokens=40, ignore_eos=True).usage.completion_tokens == 40
    with pytest.raises(OptionInvalid):
        nano.chat("hi", min_p=0.1)


def test_half_a_character_waits_for_its_other_half(nano: Model) -> None:
    engine: Any = nano.engine
    for text in ("naïve 🙂🙃 🏳️‍🌈", "北京的天气", "مرحبا بالعالم"):
        stream = engine.tokenizer.create_stream()
        pieces = [stream.decode(token) for token in engine.tokenizer.encode(text)]
        assert "".join(pieces) == text
        assert not any("\ufffd" in piece for piece in pieces)


def test_a_prompt_over_the_context_is_refused(nano: Model, onnx_export: Path) -> None:
    in_process.assert_refuses_what_does_not_fit(nano)
    with load("nano", engine="onnx", threads=1, context=64) as small:
        assert small.chat("hi", max_tokens=1000, ignore_eos=True).usage.total_tokens == 64


def test_cancel(nano: Model) -> None:
    in_process.assert_cancels(nano)


def test_tools_are_shown_unless_they_are_not_to_be_used(nano: Model) -> None:
    in_process.assert_hides_and_shows_tools(nano)


def test_a_users_text_cannot_forge_a_turn(nano: Model) -> None:
    in_process.assert_breaks_forged_turns(nano)


def test_two_models_at_once(nano: Model) -> None:
    in_process.assert_two_at_once(nano, load("nano", engine="onnx", threads=1))


def test_closing_gives_the_memory_back(onnx_export: Path) -> None:
    used = []
    for _ in range(6):
        load("nano", engine="onnx", variant="fp32", threads=1).close()
        used.append(psutil.Process().memory_info().rss)
    assert used[-1] - used[1] < 30e6  # one copy of the weights; five were loaded since


def test_the_provider_and_the_reason_for_it_are_shown(nano: Model) -> None:
    assert repr(nano) == "<nano int4 on onnx, cpu (what this export is made for)>"
    assert nano.why.endswith("cpu (what this export is made for)")
    made_for_cuda = {"session_options": {"provider_options": [{"cuda": {}}]}}
    assert choose_provider(made_for_cuda, "auto")[0] == "cuda"


def test_a_provider_that_is_not_there_is_named(onnx_export: Path) -> None:
    with pytest.raises(EngineUnavailable, match="martian") as caught:
        load("nano", engine="onnx", threads=1, provider="martian")
    assert "provider='cpu'" in caught.value.fix
    load("nano", engine="onnx", threads=1, provider="cpu").close()


@pytest.mark.parametrize(
    "bad", [{"threads": -1}, {"context": "much"}, {"provider": 7}, {"thread": 1}, {"context": 1e9}]
)
def test_bad_load_options_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(OptionInvalid) as caught:
        load("nano", engine="onnx", **bad)
    assert caught.value.fix


def test_what_is_not_there_is_named(own_home: Path) -> None:
    for name, variant, remedy in (
        ("nano", "Q8_0", "int4, fp32"),
        ("phi-4-mini", None, "labkit models pull phi-4-mini --engine onnx"),
        ("tinyllama-1.1b", None, "labkit models info"),
    ):
        with pytest.raises(ModelNotFound) as caught:
            load(name, engine="onnx", variant=variant)
        assert remedy in caught.value.fix


def test_an_export_of_other_weights_is_refused(
    onnx_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "nano"
    shutil.copytree(onnx_export, folder)
    monkeypatch.setattr(onnx_files, "shipped_folder", lambda ref: folder)
    load("nano", engine="onnx", threads=1).close()
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"trained once more")
    with pytest.raises(ModelNotFound) as caught:
        load("nano", engine="onnx", threads=1)
    assert "python -m labkit.training.export_onnx nano" in caught.value.fix


def test_a_folder_that_was_pulled_runs_with_a_strangers_template_in_its_sandbox(
    nano: Model, onnx_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    names = ("genai_config.json", "tokenizer.json", "tokenizer_config.json", "onnx/int4.onnx")
    in_process.make_look_pulled(tmp_path, "onnx", onnx_export, names)
    config = tmp_path / "models" / "somebodys" / "onnx" / "genai_config.json"
    config.write_text(config.read_text().replace("onnx/int4.onnx", "int4.onnx"))
    with load("somebodys", engine="onnx", threads=1) as model:
        assert model.variant == "model-onnx"
        assert model.chat("hi", max_tokens=8).message == nano.chat("hi", max_tokens=8).message
        engine: Any = model.engine
        assert not engine.template.trusted
    with pytest.raises(ModelNotFound):
        load("somebodys", engine="onnx", variant="Q8_0")


@pytest.mark.parametrize("name", ["genai_config.json", "tokenizer.json", "onnx/int4.onnx"])
def test_a_damaged_export_is_refused(
    onnx_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / "nano"
    shutil.copytree(onnx_export, folder)
    monkeypatch.setattr(onnx_files, "shipped_folder", lambda ref: folder)
    monkeypatch.setattr(onnx_files, "check_source", lambda folder: None)
    (folder / name).write_bytes((folder / name).read_bytes()[:1000])
    with pytest.raises(ModelFileInvalid):
        load("nano", engine="onnx", threads=1)


@pytest.mark.heavy
def test_an_export_is_the_same_every_time(onnx_export: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'labkit[train]'")
    from labkit.training.export_onnx import export

    # Both made here: another processor or another version of a package may round or write otherwise.
    first, second = tmp_path / "first" / "nano", tmp_path / "second" / "nano"
    for folder in (first, second):
        shutil.copytree(onnx_export, folder, ignore=shutil.ignore_patterns("onnx", "genai_config.json"))
        export(folder)
    for path in sorted(p for p in first.rglob("*") if p.is_file()):
        assert path.read_bytes() == (second / path.relative_to(first)).read_bytes(), path.name
    assert sum(p.stat().st_size for p in (first / "onnx").iterdir()) < 25e6
