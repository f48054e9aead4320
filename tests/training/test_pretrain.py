"""Pretraining in miniature: the data's mask, a run that is interrupted and goes on, and a model that loads."""

import json
import random
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'labkit[train]'")

import torch

from labkit.engines.llamacpp_convert import convert
from labkit.engines.llamacpp_native import Context, LoadOptions
from labkit.training.data import example
from labkit.training.encoding import Encoder, make_tokenizer, nano_template
from labkit.training.network import Llama, Shape
from labkit.training.pretrain import Settings, Trainer, run

pytestmark = pytest.mark.heavy
TINY = Shape(hidden=64, layers=2, heads=2, kv_heads=1, head_dim=32, feed_forward=128)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    run(out, TINY, Settings(steps=20, tokens_per_batch=512, threads=1))
    return out


def test_the_mask_covers_what_the_assistant_says_and_nothing_else(folder: Path) -> None:
    encoder = Encoder(make_tokenizer(folder / "tokenizer.json", 1))
    for skill in ("call", "answer", "parallel"):
        made = example(random.Random(5), skill=skill)
        ids, own = encoder.encode(made)
        said = encoder.tokenizer.decode(
            [i for i, mine in zip(ids, own, strict=True) if mine], skip_special_tokens=False
        )
        turns = [m for m in made.messages if m["role"] == "assistant"]
        assert said.count("<|im_end|>") == len(turns)
        assert said.count("<tool_call>") == sum(len(m.get("tool_calls") or ()) for m in turns)
        assert "<tools>" not in said and "<tool_response>" not in said


def test_a_run_goes_on_where_it_stopped(folder: Path) -> None:
    first = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    run(folder, TINY, Settings(steps=40, tokens_per_batch=512, threads=1))
    both = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert both[: len(first)] == first
    assert [entry["step"] for entry in both] == [20, 40]
    assert both[1]["tokens"] > both[0]["tokens"]
    assert both[1]["loss"] < both[0]["loss"]


def test_a_word_has_the_same_tokens_wherever_it_stands(folder: Path) -> None:
    tokenizer = make_tokenizer(folder / "tokenizer.json", 1)
    for word in ("Nokinada", "kitchen", "lookUpForecast", "Łódź"):
        bare = tokenizer.encode(word).ids
        for text in (f'"{word}"', f" {word} ", f'{{"a": "{word}"}}'):
            ids = tokenizer.encode(text).ids
            assert any(ids[i : i + len(bare)] == bare for i in range(len(ids))), (word, text)


def test_llama_cpp_computes_what_torch_computes(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    convert(folder, nano_template().source, path, "tiny")
    trainer = Trainer(folder, TINY, Settings())
    context = Context(path, LoadOptions(threads=1, context=256))
    text = "<|im_start|>user\nTurn on the light in the kitchen<|im_end|>\n<tool_call>"
    ids = make_tokenizer(folder / "tokenizer.json", 1).encode(text).ids
    assert context.tokenize(text) == ids
    with torch.no_grad():
        net: Llama = trainer.net
        scores = torch.log_softmax(net.logits(net(torch.tensor([ids])))[0], -1)
    expected = scores[:-1].gather(1, torch.tensor(ids)[1:, None])[:, 0]
    assert context.logprobs(ids)[1:] == pytest.approx(expected.numpy(), abs=0.02)
    context.free()
