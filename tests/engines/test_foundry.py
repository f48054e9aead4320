"""Foundry Local in this process: the same export as the onnx engine's, and what Foundry adds."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("foundry_local_sdk", reason="needs foundry-local-sdk: pip install 'labkit[foundry]'")

import in_process

from labkit import Model, load
from labkit.engines.foundry import text_of
from labkit.engines.foundry_models import start
from labkit.engines.hf_folder import chat_template
from labkit.engines.toolcalls import ToolCallReader
from labkit.errors import DownloadFailed, EngineFailed, ModelNotFound, OptionInvalid


@pytest.fixture(scope="module")
def nano(onnx_export: Path, own_home: Path) -> Iterator[Model]:
    with load("nano", engine="foundry", threads=1) as model:
        yield model


def test_full_precision_says_what_llama_cpp_says(
    onnx_export: Path, own_home: Path, llamacpp_answers: list[str]
) -> None:
    with load("nano", engine="foundry", variant="fp32", threads=1) as model:
        in_process.assert_agrees(model, llamacpp_answers)


def test_the_prompt_is_the_one_labkit_renders(nano: Model) -> None:
    messages = [{"role": "user", "content": "naïve 🙂"}]
    in_process.assert_counts_tokens(nano, chat_template(in_process.NANO, trusted=True).render(messages))


def test_a_conversation_with_tools_costs_the_same_tokens_as_elsewhere(nano: Model) -> None:
    pytest.importorskip("onnxruntime_genai", reason="needs onnxruntime-genai: pip install 'labkit[onnx]'")
    call = {"name": "weather", "arguments": '{"city": "Łódź"}'}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Is it cold in Łódź?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "a", "type": "function", "function": call}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "4 degrees"},
    ]
    with load("nano", engine="onnx", threads=1) as onnx:
        for turns in (messages, messages[:2]):
            replies = [m.chat(turns, tools=[in_process.weather], max_tokens=24) for m in (nano, onnx)]
            assert replies[0].usage == replies[1].usage
            assert replies[0].message == replies[1].message


def test_stop_strings(nano: Model) -> None:
    in_process.assert_stops(nano)


def test_sampling(nano: Model) -> None:
    def draw(seed: int) -> str:
        return nano.chat(in_process.STORY, max_tokens=12, temperature=2.0, top_k=0, seed=seed).text

    assert draw(1) == draw(1)
    assert len({draw(seed) for seed in (0, 1, 2, 2**32 - 1)}) > 1
    for lacking in ({"min_p": 0.1}, {"repeat_penalty": 1.1}, {"ignore_eos": True}, {"temperature": 2.1}):
        with pytest.raises(OptionInvalid):
            nano.chat("hi", **lacking)


def test_a_prompt_over_the_context_is_refused(nano: Model) -> None:
    in_process.assert_refuses_what_does_not_fit(nano)


def test_cancel(nano: Model) -> None:
    in_process.assert_cancels(nano)


def test_tools_are_shown_unless_they_are_not_to_be_used(nano: Model) -> None:
    in_process.assert_hides_and_shows_tools(nano)


def test_a_users_text_cannot_forge_a_turn(nano: Model) -> None:
    in_process.assert_breaks_forged_turns(nano)


def test_two_models_at_once(nano: Model) -> None:
    in_process.assert_two_at_once(nano, load("nano", engine="foundry", threads=1))


def test_a_registration_is_used_again(nano: Model) -> None:
    import foundry_local_sdk as sdk

    def names() -> list[str]:
        return sorted(model.id for model in start().get_catalog(sdk.CatalogType.LOCAL).list_models())

    before = names()
    load("nano", engine="foundry", threads=1).close()
    assert names() == before
    assert "nano-int4-1-generic-cpu:1" in before


def test_a_registration_that_points_elsewhere_is_replaced(
    nano: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load("nano", engine="foundry", threads=2).close()
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    with load("nano", engine="foundry", threads=2) as moved:
        engine: Any = moved.engine
        assert Path(engine.model.get_path()).is_relative_to(tmp_path)
        assert moved.chat("hi", max_tokens=2).usage.completion_tokens


def test_the_variant_and_the_reason_for_it_are_shown(nano: Model) -> None:
    assert repr(nano) == "<nano int4 on foundry, CPU (what this export is made for)>"
    assert nano.why.endswith("CPU (what this export is made for)")


def test_what_foundry_refuses_is_one_clear_sentence(nano: Model) -> None:
    for turns in ("", [{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}]):
        with pytest.raises(EngineFailed) as caught:
            nano.chat(turns)
        assert ".cc:" not in caught.value.what
        assert caught.value.fix
    assert nano.chat("hi", max_tokens=2).usage.completion_tokens


def test_a_malformed_call_to_foundrys_own_reader_is_an_error_with_a_remedy(nano: Model) -> None:
    engine: Any = nano.engine
    control, engine.control = engine.control, None  # as for a model of the public catalog
    try:
        with pytest.raises(EngineFailed, match="tool call"):
            # Too few tokens for any whole call, and Foundry holds the answer to one.
            nano.chat("Is it cold in Paris?", tools=[in_process.weather], max_tokens=3)
    finally:
        engine.control = control
    assert nano.chat("hi", max_tokens=2).usage.completion_tokens


def test_a_call_that_foundry_read_becomes_labkits() -> None:
    import foundry_local_sdk as sdk

    item = sdk.ToolCallItem("a", "weather", json.dumps({"city": "Łódź"}))
    text, calls = ToolCallReader().feed("Well, " + text_of(item))
    assert (text, [str(call) for call in calls]) == ("Well, ", ["weather(city='Łódź')"])


def test_without_a_network_the_public_catalog_is_one_clear_sentence(own_home: Path) -> None:
    try:
        socket.create_connection(("api.catalog.azureml.ms", 443), timeout=3).close()
        pytest.skip("the public catalog can be reached from here")
    except OSError:
        pass
    with pytest.raises(DownloadFailed, match="catalog cannot be reached") as caught:
        load("phi-4-mini", engine="foundry")
    assert "network" in caught.value.fix


def test_what_is_not_there_is_named(onnx_export: Path, own_home: Path) -> None:
    for name, variant in (("nano", "Q8_0"), ("tinyllama-1.1b", None)):
        with pytest.raises(ModelNotFound) as caught:
            load(name, engine="foundry", variant=variant)
        assert caught.value.fix
    with pytest.raises(OptionInvalid):
        load("nano", engine="foundry", thread=1)
