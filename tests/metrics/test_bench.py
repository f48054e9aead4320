"""The bench on nano and on echo: what is counted, not how fast it was."""

import math
from pathlib import Path

import pytest

import labkit
from labkit.errors import ContextOverflow, OptionInvalid
from labkit.metrics.bench import bench, bench_all, read_per_token, table
from labkit.metrics.records import compare, read, write
from labkit.models.catalog import find

SMALL = {"prompt": 48, "generate": 8}


def test_an_engine_that_only_streams_is_timed_as_a_client_sees_it() -> None:
    steps: list[int] = []
    record = bench(engine="echo", delay=0.01, repeat=3, progress=lambda: steps.append(1), **SMALL)
    assert len(steps) == 4, "three turns and the warm-up"
    assert set(record.samples) == {"ttft", "tpot", "itl", "e2el", "input_tokens", "output_tokens"}
    assert set(record.figures) == {"load_time"}
    assert record.samples["output_tokens"] == [8.0] * 3 and len(record.samples["itl"]) == 3 * 7
    assert min(record.samples["ttft"] + record.samples["tpot"]) >= 0.01
    assert all(
        e2el == pytest.approx(ttft + 7 * tpot)
        for ttft, tpot, e2el in zip(*(record.samples[n] for n in ("ttft", "tpot", "e2el")), strict=True)
    )
    assert record.about["settings"] == {**SMALL, "repeat": 3, "seed": 0, "delay": 0.01}


@pytest.mark.parametrize(
    "wrong", [{"prompt": 0}, {"generate": 1}, {"repeat": 0}, {"repeat": 2.5}, {"generate": 10**9}]
)
def test_numbers_out_of_range_are_refused_before_anything_is_loaded(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionInvalid):
        bench(name="no such model", engine="echo", **wrong)


def test_variants_of_nano_take_turns_and_each_has_a_record(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    variants = ["F16", "Q5_1"]
    records = bench_all("nano", "llamacpp", variants, repeat=2, threads=1, **SMALL)
    assert [r.about["variant"] for r in records] == variants
    for record in records:
        assert all(len(record.samples[name]) == 2 for name in ("pp", "tg", "ttft", "tpot", "e2el"))
        assert record.samples["output_tokens"] == [8.0, 8.0]
        assert 10e6 < record.figures["peak_memory"] < 500e6
        assert len(record.about["weights"]) == 64
        used = record.figures
        per_token = used["weight_bytes"] + find("nano").kv_bytes(8) / 2
        tg = sum(record.samples["tg"]) / 2
        assert used["memory_bound"] == pytest.approx(tg * per_token / used["bandwidth"])
    big, small = (record.figures for record in records)
    assert big["weight_bytes"] / small["weight_bytes"] == pytest.approx(16 / 6, rel=0.05)
    assert big["peak_memory"] > small["peak_memory"]
    write(tmp_path / "a.jsonl", records)
    notes = compare(*read(tmp_path / "a.jsonl"))[0].notes
    assert any(note.startswith("variant F16 → Q5_1") for note in notes)
    text = table(records)
    assert text.splitlines()[2].split() == variants and "pp 48" in text and "±" in text
    assert all(formula in text for formula in records[0].formulas.values())


def test_raw_speed_leaves_the_model_as_it_was() -> None:
    pytest.importorskip("llama_cpp")
    with labkit.load("nano", engine="llamacpp", variant="F16", threads=1, context=256) as model:
        before = model.chat("What can you do?", max_tokens=16)
        assert all(seconds > 0 for seconds in model.engine.time_raw(256, 8))
        after = model.chat("What can you do?", max_tokens=16)
        assert after.text == before.text and after.usage.cached_tokens == 0
        with pytest.raises(ContextOverflow, match="257 tokens, the context 256"):
            model.engine.time_raw(257, 8)
        with pytest.raises(ContextOverflow):
            model.engine.time_raw(8, 257)
    with labkit.load("nano", engine="echo") as model:
        with pytest.raises(OptionInvalid, match="echo cannot time raw speed"):
            model.engine.time_raw(8, 8)
        with pytest.raises(OptionInvalid, match="has no file"):
            read_per_token(model)


def test_reading_more_takes_longer() -> None:
    pytest.importorskip("llama_cpp")
    with labkit.load("nano", engine="llamacpp", variant="F16", threads=1) as model:
        times = [model.engine.time_raw(*n) for n in ((8, 4), (512, 80), (8, 4), (512, 80))]
    for kind in (0, 1):
        few, many = min(t[kind] for t in times[::2]), min(t[kind] for t in times[1::2])
        assert many > 3 * few


def test_a_prompt_longer_than_the_context_is_cut_to_it_or_refused() -> None:
    pytest.importorskip("llama_cpp")
    record = bench("nano", "llamacpp", "F16", context=128, threads=1, repeat=1, generate=4)
    assert record.about["settings"]["prompt"] == 128 and "pp 128" in table([record])
    with pytest.raises(ContextOverflow, match="context 2048"):
        bench("nano", "llamacpp", "F16", prompt=3000, threads=1, repeat=1)


def test_random_weights_load_and_write_noise_the_same_every_time(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    from labkit.engines.llamacpp_convert import quantize
    from labkit.engines.llamacpp_files import shipped_folder, shipped_template
    from labkit.engines.llamacpp_random import SHAPE, shapes, write_random
    from labkit.models.gguf import inspect

    card = find("random-0.5b")
    weights = sum(math.prod(sides) for sides in shapes(SHAPE).values())
    assert weights == pytest.approx(0.494e9, rel=1e-3) and card.params_b == 0.494
    assert "noise" in card.title and not card.shipped
    ref = card.refs["llamacpp"]
    small = {
        "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 64, "intermediate_size": 512, "vocab_size": 5000, "max_position_embeddings": 512,
    }  # fmt: skip
    for name in ("a", "b"):
        write_random(shipped_folder(ref), shipped_template(ref), tmp_path / f"{name}.gguf", "noise", small)
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
    info = inspect(tmp_path / "a.gguf")
    assert info.parameters == sum(math.prod(sides) for sides in shapes(small).values())
    with labkit.load(str(tmp_path / "a.gguf"), engine="llamacpp", threads=1) as model:
        assert model.chat("Say hello.", max_tokens=8, ignore_eos=True).usage.completion_tokens == 8
        assert read_per_token(model) == sum(tensor.size for tensor in info.tensors)
    quantize(tmp_path / "a.gguf", tmp_path / "q.gguf", "Q4_K_M", 1)
    assert inspect(tmp_path / "q.gguf").quantization == "Q4_K_M"
