"""Pretraining in miniature: the data's mask, a run that is interrupted and goes on, and a model that loads."""

import itertools
import json
import random
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'labkit[train]'")

import torch

from labkit.engines.llamacpp_convert import convert
from labkit.engines.llamacpp_native import Context, LoadOptions
from labkit.training.data import example, lessons
from labkit.training.encoding import CHOICE_WEIGHT, Encoder, make_tokenizer, nano_template
from labkit.training.export import read_weights
from labkit.training.guiding import CHOICE, SCHEMA, VALUE, Guide
from labkit.training.network import BLOCK, Llama, Shape, attend
from labkit.training.packing import batches, collate, mask, planted, rows_of, stem_of
from labkit.training.pretrain import Settings, Trainer, run

pytestmark = pytest.mark.heavy
TINY = Shape(hidden=64, layers=2, heads=2, kv_heads=1, head_dim=32, feed_forward=128)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    run(out, TINY, Settings(steps=20, tokens_per_batch=512, threads=1, fuse=False))
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


def test_the_choice_among_tools_counts_more_than_the_rest_of_a_name(folder: Path) -> None:
    encoder = Encoder(make_tokenizer(folder / "tokenizer.json", 1))
    for seed in range(20):
        made = example(random.Random(seed), skill="parallel")
        ids, weights = encoder.encode(made)
        called = [c["function"]["name"] for m in made.messages for c in m.get("tool_calls", ())]
        chosen = [
            encoder.tokenizer.decode([i]) for i, w in zip(ids, weights, strict=True) if w == CHOICE_WEIGHT
        ]
        assert len(chosen) == len(called) > 1
        assert all(name.startswith(first) for name, first in zip(called, chosen, strict=True))


def test_packed_examples_are_computed_as_if_each_stood_alone(folder: Path) -> None:
    encoder = Encoder(make_tokenizer(folder / "tokenizer.json", 1))
    full = [lesson for lesson in itertools.islice(lessons(1), 40) if len(lesson) > 1][:2]
    encoded = [[encoder.encode(e) for e in lesson] for lesson in full]
    (row,) = rows_of([planted(lesson, 4096) for lesson in encoded], 8192)
    batch = collate([row], len(row.ids), random.Random(1), 1.0, 1.0)
    net = Trainer(folder, TINY, Settings(threads=1, fuse=False)).net
    with torch.no_grad():
        packed = net(batch.ids, batch.places, batch.mask.float())[0]
        alone = {tuple(ids): net(torch.tensor([ids]))[0] for lesson in encoded for ids, _ in lesson}
    shared = 0
    for lesson_number, lesson in enumerate(sorted(encoded, key=lambda e: -len(planted(e, 4096).ids)), 1):
        stem = stem_of(lesson)
        shared += stem
        for branch, (ids, own) in enumerate(lesson, 1):
            at = [
                i
                for i, place in enumerate(zip(row.lessons, row.branches, strict=True))
                if place == (lesson_number, branch)
            ]
            assert [row.own[i] for i in at] == own[stem:]
            torch.testing.assert_close(packed[at], alone[tuple(ids)][stem:], atol=1e-4, rtol=1e-3)
    assert shared > 100, "nothing was shared"


def test_every_token_of_the_model_is_scored_once(folder: Path) -> None:
    encoder = Encoder(make_tokenizer(folder / "tokenizer.json", 1))
    lesson = [encoder.encode(e) for e in next(x for x in lessons(1) if len(x) > 1)]
    row = planted(lesson, 4096)
    batch = collate([row], len(row.ids), random.Random(1), 0.05, 0.15)
    scored = batch.targets[batch.weights >= 1.0].tolist()
    assert scored == [i for ids, own in lesson for i, mine in zip(ids, own, strict=True) if mine]
    assert batch.tokens == len(row.ids) and batch.examples == len(lesson)


def test_guides_stay_within_what_a_token_sees(folder: Path) -> None:
    encoder = Encoder(make_tokenizer(folder / "tokenizer.json", 1))
    mix = {"short": 0.2, "medium": 0.2, "pointing": 0.2, "routing": 0.2, "reading": 0.2}
    stream = batches(
        lessons(6, mix), encoder, random.Random(6), tokens=3_072, prompt_weight=0.05, prompt_sample=0.1
    )
    words, sources, copied = Guide(encoder).words, set(), []
    for batch in itertools.islice(stream, 8):
        for row, head, start, to in batch.guides.T.tolist():
            ids = batch.ids[row]
            assert to <= start and batch.mask[row, 0, start, to] == 0
            sources.add((head, words[ids[start]], words[ids[to - 1]]))
            if head != SCHEMA:  # which looks at what is known of a value, not at the value
                copied.append(bool(ids[to] == ids[start + 1]))
    assert (0, ' "', ' "') in sources, "no tool's name is looked up where the offer ends with it"
    assert {head for head, *_ in sources} == {CHOICE, VALUE, SCHEMA}
    assert sum(copied) > len(copied) / 2


@pytest.mark.parametrize(("head", "before"), [(0, 0), (1, 0), (2, 1), (3, 1)])
def test_what_is_guided_is_where_the_layer_looks(folder: Path, head: int, before: int) -> None:
    net = Trainer(folder, TINY, Settings(threads=1, fuse=False)).net
    ids = torch.randint(0, 4096, (2, 12))
    with torch.no_grad():
        net(ids)
        rows, heads, columns = torch.tensor([0, 1]), torch.tensor([0, head]), torch.tensor([3, 7])
        looked = torch.softmax(net.looks(rows, heads, columns)[1, :8], 0)
        layer, (x, cos, sin) = net.layers[net.guided - before], net.before[net.guided - before]
        q, k, v = layer.self_attn.project(layer.input_layernorm(x), cos, sin)
        group, each = head % TINY.kv_heads, TINY.heads // TINY.kv_heads
        q, k, v = q[:, group * each : group * each + 1], k[:, group : group + 1], v[:, group : group + 1]
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(looked @ v[1, 0, :8], mixed[1, 0, 7])


def test_attention_in_blocks_is_what_torch_computes_at_once() -> None:
    one, branches = torch.ones(1, 2 * BLOCK, dtype=torch.long), torch.arange(2 * BLOCK)[None] // 100
    seen = mask(one, branches)
    q, k, v = torch.randn(3, 1, 2, 2 * BLOCK, 32)
    whole = torch.nn.functional.scaled_dot_product_attention(q, k, v, seen.float())
    torch.testing.assert_close(attend(q, k, v, seen), whole)


def test_a_run_can_begin_with_other_weights(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    begun = Trainer(tmp_path, TINY, Settings(threads=1, fuse=False), start=folder)
    trained = Trainer(folder, TINY, Settings(threads=1, fuse=False))
    for name, weight in trained.net.state_dict().items():
        torch.testing.assert_close(begun.net.state_dict()[name], weight, atol=1e-3, rtol=1e-3)
    assert begun.step == 0


def test_a_run_from_other_weights_records_where_those_come_from(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    settings = Settings(steps=20, tokens_per_batch=512, threads=1, fuse=False)
    run(tmp_path, TINY, settings, start=folder)
    (earlier,) = json.loads((tmp_path / "training.json").read_text())["earlier"]
    assert earlier | {"earlier": []} == json.loads((folder / "training.json").read_text())
    before = (folder / "log.jsonl").read_text()
    assert (tmp_path / "log.jsonl").read_text().startswith(before)


def test_a_run_can_keep_a_share_of_the_weights_it_began_with(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    kept = []
    for keep in (0.0, 0.25, 1.0):
        settings = Settings(steps=3, tokens_per_batch=512, threads=1, fuse=False, warmup=1, keep=keep)
        run(tmp_path, TINY, settings, start=folder)  # the second and the third only export, the run is over
        kept.append(read_weights(tmp_path))
    begun = read_weights(folder)
    for name, weight in begun.items():
        torch.testing.assert_close(kept[1][name], 0.75 * kept[0][name] + 0.25 * weight, atol=1e-3, rtol=1e-2)
        torch.testing.assert_close(kept[2][name], weight)
    assert any((kept[0][name] != weight).any() for name, weight in begun.items())


def test_a_run_goes_on_where_it_stopped(folder: Path) -> None:
    first = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    run(folder, TINY, Settings(steps=40, tokens_per_batch=512, threads=1, fuse=False))
    both = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert both[: len(first)] == first
    assert [entry["steps"] for entry in both] == [20, 40]
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
    trainer = Trainer(folder, TINY, Settings(fuse=False))
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
