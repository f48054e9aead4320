"""The picker offers what runs here, says in words why the rest does not, and loads what was chosen."""

import json
import sys
from pathlib import Path

import pytest
from ipywidgets.embed import dependency_state

from labkit.engines import choice
from labkit.engines.registry import load
from labkit.errors import OptionInvalid
from labkit.widgets import ModelPicker

sys.path.append(str(Path(__file__).parents[1] / "models"))
from hub import Hub, serve  # noqa: E402

ENTRY = """
[tiny]
title = "tiny"
params_b = 0.004
license = "<img src=x onerror=alert(1)>"
context = 2048
capabilities = ["completion", "tools"]
layers = 4
kv_width = 128
vocab = 4096
variants = { Q8_0 = 4.59 }
refs = { llamacpp = { repo = "someone/tiny-GGUF", file = "tiny-{quant}.gguf" } }
"""
LABELS = {"Engine", "Model", "Level"}


def press(picker: ModelPicker, name: str) -> None:
    row = next(child for child in picker.children if type(child).__name__ == "HBox")
    next(button for button in row.children if button.description == name).click()


def labels(control: object) -> dict[str, str]:
    return {value: label for label, value in control.options}  # type: ignore[attr-defined]


def test_nano_is_picked_loaded_and_answers() -> None:
    picker = ModelPicker("llamacpp", threads=1)
    assert (picker.engines.value, picker.models.value, picker.levels.value) == ("llamacpp", "nano", "Q4_K_M")
    with pytest.raises(OptionInvalid, match="no model is loaded yet"):
        _ = picker.model
    press(picker, "Load")
    picker.wait()
    with picker.model as model:
        assert repr(model) in picker.said
        assert model.chat("Hello!", max_tokens=4).usage.completion_tokens


def test_another_load_closes_the_model_before() -> None:
    picker = ModelPicker("echo", script=["one"])
    models = []
    for level in ("Q8_0", "Q4_0"):
        picker.levels.value = level
        press(picker, "Load")
        picker.wait()
        models.append(picker.model)
    assert "(closed)" in repr(models[0]) and "(closed)" not in repr(models[1])
    assert models[1].variant == "Q4_0"


def test_every_engine_is_offered_and_what_is_not_installed_says_so() -> None:
    picker = ModelPicker()
    for name, label in labels(picker.engines).items():
        state = choice.availability(name)
        assert label == (name if state.installed else f"{name} ({state.reason})")
    assert not any(name in labels(picker.engines) for name in ("echo", "openai"))


def test_an_engine_offers_its_own_levels_and_refuses_other_models() -> None:
    picker = ModelPicker("llamacpp")
    assert len(picker.levels.options) > 5
    picker.engines.value = "onnx"
    assert [value for _, value in picker.levels.options] == ["int4"]
    assert labels(picker.models)["random-0.5b"] == "random-0.5b (there are no files of random-0.5b for onnx)"


def test_what_does_not_fit_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "memory", lambda: (10**9, 90_000_000))
    picker = ModelPicker("llamacpp")
    assert labels(picker.levels)["Q4_K_M"] == "Q4_K_M"
    picker.models.value = "qwen2.5-7b"
    assert "verdict" in repr(picker) and "cannot be loaded: even Q2_K needs" in repr(picker)
    press(picker, "Load")
    assert picker.said.startswith("cannot be loaded: even Q2_K needs")
    assert not picker.busy


def test_an_engine_that_is_not_installed_says_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))  # where vLLM's own environment would be
    picker = ModelPicker("vllm")
    assert picker.engines.options[-1] == ("vllm (vllm is not installed)", "vllm")
    press(picker, "Load")
    assert picker.said == "cannot be loaded: vllm is not installed: labkit engines install vllm"


def test_a_download_shows_how_far_it_is_stops_when_told_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with load("nano", "llamacpp", "Q8_0", threads=1) as nano:
        content = Path(str(nano.engine.file)).read_bytes()
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    (tmp_path / "catalog.toml").write_text(ENTRY)
    with serve(Hub(content)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        picker = ModelPicker("llamacpp", "tiny", threads=1)
        assert picker.choice.facts["file"] == "4.6 MB; to be fetched: 4.6 MB"
        bars: list[str] = []
        picker.bar.observe(lambda change: bars.append(change["new"]), "value")
        picker.bar.observe(lambda _: picker.stop(), "value")
        press(picker, "Load")
        picker.wait()
        assert picker.said.startswith("stopped at") and "Load goes on from there" in picker.said
        assert bars[0].startswith("<progress ") and " of 4.6 MB" in bars[0]
        picker.bar.unobserve_all()
        press(picker, "Load")
        picker.wait()
        assert hub.requests[-1][2] != "bytes=0-", "the second download goes on from the first"
        with picker.model as model:
            assert model.card.alias == "tiny"
        assert picker.choice.facts["file"].endswith("here, or made here when it is loaded")
        assert "<img" not in picker.facts.value and "&lt;img src=x" in picker.facts.value


def test_a_picker_is_text_without_a_front_end_small_and_every_control_has_a_name() -> None:
    picker = ModelPicker("llamacpp")
    bundle = picker._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "Pick a model" in bundle["text/plain"] and " free" in bundle["text/plain"]
    assert "can be loaded" in bundle["text/html"] and "<script" not in bundle["text/html"]
    assert {control.description for control in (picker.engines, picker.models, picker.levels)} == LABELS
    state = dependency_state([picker], drop_defaults=True)
    assert len(json.dumps(state)) + len(json.dumps(bundle)) < 16_000
