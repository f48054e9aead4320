"""llama.cpp's server in its own process: what goes beyond the contract every engine keeps."""

import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("xllamacpp", reason="needs xllamacpp: pip install 'labkit[llamaserver]'")

import numpy as np
from gguf import GGUFReader, GGUFWriter

from labkit import Model, load
from labkit.engines import llamacpp_convert, llamaserver
from labkit.engines.llamacpp import LlamaCpp
from labkit.engines.llamaserver import LlamaServer
from labkit.engines.registry import choose
from labkit.errors import (
    ContextOverflow,
    EngineFailed,
    EngineUnavailable,
    LabkitError,
    NotEnoughMemory,
    OptionInvalid,
)
from labkit.models import store
from labkit.models.catalog import find
from labkit.types import Availability


@pytest.fixture(scope="module")
def nano() -> Iterator[Model]:
    with load("nano", engine="llamaserver", threads=1, slots=2, context=256) as model:
        yield model


def server(model: Model) -> LlamaServer:
    assert isinstance(model.engine, LlamaServer)
    return model.engine


def metric(model: Model, name: str) -> float:
    with urllib.request.urlopen(server(model).metrics_url) as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(f"llamacpp:{name}")))


def soon(true: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not (done := true()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return done


def test_two_streams_run_side_by_side(nano: Model) -> None:
    with (
        closing(nano.stream("one", max_tokens=100, ignore_eos=True)) as one,
        closing(nano.stream("two", max_tokens=100, ignore_eos=True)) as two,
    ):
        for _ in range(5):
            assert next(one).tokens and next(two).tokens


def test_hanging_up_frees_the_slot_within_a_second(nano: Model) -> None:
    assert soon(lambda: metric(nano, "requests_processing") == 0)
    with closing(nano.stream("one", max_tokens=10_000, ignore_eos=True)) as stream:
        next(stream)
    assert soon(lambda: metric(nano, "requests_processing") == 0, seconds=1)


def test_the_server_counts_what_it_did(nano: Model) -> None:
    before = metric(nano, "tokens_predicted_total")
    nano.chat("hi", max_tokens=3, ignore_eos=True)
    assert soon(lambda: metric(nano, "tokens_predicted_total") == before + 3)


def test_each_slot_has_the_whole_context(nano: Model) -> None:
    with closing(nano.stream("word " * 100, max_tokens=100, ignore_eos=True)) as other:
        next(other)
        reply = nano.chat("word " * 100, max_tokens=100, ignore_eos=True)
    assert reply.usage.total_tokens > 200
    with pytest.raises(ContextOverflow, match="256") as caught:
        nano.chat("word " * 300)
    assert "context=" in caught.value.fix


def test_the_file_it_runs_is_known(nano: Model) -> None:
    assert server(nano).file == store.file_of("nano", nano.variant)


@pytest.mark.parametrize(
    "bad",
    [
        {"context": 1},
        {"slots": 0},
        {"slots": 1e3},
        {"threads": -1},
        {"batch": True},
        {"timeout": -1},
        {"n_ctx": 5},
    ],
    ids=str,
)
def test_bad_load_options_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(OptionInvalid) as caught:
        load("nano", engine="llamaserver", **bad)
    assert caught.value.fix


def test_slots_that_cannot_fit_are_refused() -> None:
    with pytest.raises(NotEnoughMemory):
        load("nano", engine="llamaserver", context=10_000_000, slots=4)


def test_a_file_that_the_server_cannot_load_tells_why(tmp_path: Path) -> None:
    path = tmp_path / "odd.gguf"
    with closing(GGUFWriter(path, "nonsense")) as writer:
        writer.add_tensor("x.weight", np.zeros(4, dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    with pytest.raises(EngineFailed, match="unknown model architecture.*nonsense") as caught:
        load(str(path), engine="llamaserver", threads=1)
    assert ".log" in caught.value.fix
    with pytest.raises(LabkitError):
        load(str(tmp_path / "absent.gguf"), engine="llamaserver")


def test_without_llamacpp_it_is_the_choice_of_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Availability(False, reason="llama-cpp-python is not installed")
    monkeypatch.setattr(LlamaCpp, "available", classmethod(lambda cls: absent))
    name, reason = choose()
    assert name == "llamaserver" and "llamacpp not installed" in reason


def test_without_a_quantizer_a_shipped_model_still_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    for module in (llamacpp_convert, llamaserver):
        monkeypatch.setattr(module, "can_quantize", lambda: False)
    with load("nano", engine="llamaserver", threads=1, slots=1, context=64) as model:
        assert model.variant == "Q8_0"
        assert model.chat("hi", max_tokens=2).usage.completion_tokens == 2
    with pytest.raises(EngineUnavailable, match="Q4_K_M") as caught:
        load("nano", engine="llamaserver", variant="Q4_K_M")
    assert "Q8_0" in caught.value.fix and "labkit[llamacpp]" in caught.value.fix


def test_q8_0_is_what_llamacpp_itself_makes(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    half = llamacpp_half()
    ours, theirs = tmp_path / "ours.gguf", tmp_path / "theirs.gguf"
    llamacpp_convert.write_q8_0(half, ours)
    llamacpp_convert.quantize(half, theirs, "Q8_0", 1)
    left, right = GGUFReader(ours), GGUFReader(theirs)
    assert {k: f.contents() for k, f in left.fields.items()} == {
        k: f.contents() for k, f in right.fields.items()
    }
    others = {tensor.name: tensor for tensor in right.tensors}
    assert {tensor.name for tensor in left.tensors} == set(others)
    for tensor in left.tensors:
        assert tensor.tensor_type == others[tensor.name].tensor_type
        assert np.array_equal(tensor.data, others[tensor.name].data)


def llamacpp_half() -> Path:
    return llamaserver.gguf_file(find("nano"), "F16", context=64)
