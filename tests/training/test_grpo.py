"""Learning from rewards in miniature: the arithmetic, the sampler, a run that learns, and errors on the way."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'labkit[train]'")

import torch
from tiny import QUICK, encoder, says, tiny

from labkit.errors import TrainingFailed
from labkit.training.finetune import FinetuneSettings, batch_of, fit, logprobs
from labkit.training.grpo import (
    GrpoSettings,
    Policy,
    advantages,
    clipped,
    divergence,
    drift,
    group_rows,
    grpo,
    keep_rewarded,
)
from labkit.training.reward import Task
from labkit.training.runs import Entry
from labkit.training.sampling import sample
from labkit.training.stage import stage_tasks
from labkit.types import Reply

pytestmark = pytest.mark.heavy
CODER = encoder()
TASKS = [Task([{"role": "user", "content": text}], []) for text in ("hi", "go", "do it", "now")]


def settings(**more: object) -> GrpoSettings:
    quick = {**QUICK, "tasks": 2, "samples": 4, "steps": 4, "max_tokens": 6, "rate": 3e-3}
    return GrpoSettings(**{**quick, **more})  # type: ignore[arg-type]


def short(task: Task, reply: Reply) -> float:
    return -float(len(reply.text)) / 100


def test_advantages_compare_within_a_group() -> None:
    found = advantages(torch.tensor([[1.0, 0.0, 0.0, 1.0], [2.0, 2.0, 2.0, 2.0]]))
    assert found.tolist() == [[1.0, -1.0, -1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]
    scaled = advantages(torch.tensor([[10.0, 30.0, 20.0, 20.0]]))
    assert scaled.mean().item() == pytest.approx(0) and scaled.std(correction=0).item() == pytest.approx(1)


def test_the_ratio_is_clipped_only_where_it_would_go_too_far() -> None:
    ratio, gain = torch.tensor([1.5, 0.5, 1.5, 0.5]), torch.tensor([1.0, 1.0, -1.0, -1.0])
    assert clipped(ratio, gain, 0.2).tolist() == pytest.approx([1.2, 0.5, -1.5, -0.8])


def test_the_divergence_is_an_unbiased_estimate_and_never_negative() -> None:
    now, start = torch.tensor([0.7, 0.2, 0.1]).log(), torch.tensor([0.5, 0.3, 0.2]).log()
    each = divergence(now, start)
    assert (each >= 0).all() and divergence(now, now).tolist() == [0, 0, 0]
    exact = (now.exp() * (now - start)).sum()
    assert float((now.exp() * each).sum()) == pytest.approx(float(exact), abs=1e-6)


def test_the_cached_sampler_writes_what_the_network_would(tmp_path: Path) -> None:
    net = tiny()
    for weight in net.parameters():
        weight.data *= 6 if weight.ndim == 2 else 1
    prompts = [[1, 2, 3], [4, 5, 6, 7, 8, 9, 10], [11]]
    drawn = sample(net, prompts, 2, ends=(0,), max_tokens=10, temperature=0)
    for place, prompt in enumerate(prompts):
        ids = list(prompt)
        while len(ids) < len(prompt) + 10 and 0 not in ids[len(prompt) :]:
            with torch.no_grad():
                ids.append(int(net.logits(net(torch.tensor([ids]))[0, -1]).argmax()))
        assert drawn[2 * place] == drawn[2 * place + 1] == ids[len(prompt) :]


def test_draws_follow_the_probabilities_and_the_seed() -> None:
    net = tiny()
    prompts = [[1, 2, 3]]
    with torch.no_grad():
        expected = net.logits(net(torch.tensor(prompts))[0, -1]).softmax(-1)
    best = int(expected.argmax())
    drawn = sample(net, prompts, 4000, ends=(), max_tokens=1, temperature=0.2, seed=3)
    share = sum(ids == [best] for ids in drawn) / 4000
    sharp = float((expected.log() / 0.2).softmax(-1)[best])
    assert share == pytest.approx(sharp, abs=4 * math.sqrt(sharp / 4000) + 1e-3)
    assert drawn == sample(net, prompts, 4000, ends=(), max_tokens=1, temperature=0.2, seed=3)
    assert drawn != sample(net, prompts, 4000, ends=(), max_tokens=1, temperature=0.2, seed=4)


def test_a_shared_prompt_gives_each_reply_its_own_probability() -> None:
    net, prompts, replies = tiny(), [[1, 2, 3, 4], [5, 6]], [[7, 8], [9], [7, 9, 10], [11, 12]]
    together = logprobs(net, group_rows(prompts, replies, 2), bf16=False)
    alone = []
    for place, reply in enumerate(replies):
        prompt = prompts[place // 2]
        alone.append(
            logprobs(net, batch_of([(prompt + reply, [False] * len(prompt) + [True] * len(reply))]), False)
        )
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_rehearsal_holds_the_model_where_it_was(tmp_path: Path) -> None:
    start, known = tiny(), [says(CODER, f"Say {word}.", word) for word in ("one", "two", "three", "four")]
    batch = batch_of(known)
    assert float(drift(start, start, batch, False).detach()) == pytest.approx(0, abs=1e-6)
    moved = {}
    for keep in (0.0, 5.0):
        net = tiny()
        s = settings(steps=12, rate=1e-2, keep=keep, kl=0.0)
        log = grpo(net, CODER, TASKS, short, TASKS, s, tmp_path / str(keep), known=known)
        moved[keep] = max(entry.get("kl", 0.0) for entry in log)
    assert 0 < moved[5.0] < moved[0.0] / 2, moved


@pytest.mark.parametrize(("rank", "passes"), [(0, 1), (4, 2)])
def test_a_reward_is_learned_and_logged_with_its_divergence(tmp_path: Path, rank: int, passes: int) -> None:
    seen: list[Entry] = []
    s = settings(steps=30, samples=8, lora_rank=rank, rate=1e-2, kl=1e-3, passes=passes)
    log = grpo(tiny(), CODER, TASKS, short, TASKS, s, tmp_path, on_step=seen.append)
    assert log == seen and log[0]["step"] == 0
    assert passes > 1 or log[1]["kl"] == pytest.approx(0, abs=1e-6)
    first, last = ([e["reward"] for e in log[1:]][part] for part in (slice(0, 5), slice(-5, None)))
    assert sum(last) > sum(first)
    assert all(entry["kl"] >= 0 for entry in log[1:]) and log[-1]["kl"] > 1e-4


def test_the_goal_is_for_the_reward_alone(tmp_path: Path) -> None:
    blind = [replace(task, goal=object()) for task in TASKS]
    one, other = tiny(), tiny()
    grpo(one, CODER, TASKS, short, TASKS, settings(), tmp_path / "a")
    grpo(other, CODER, blind, short, blind, settings(), tmp_path / "b")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


class Stop(Exception):
    pass


def test_stopped_in_the_middle_it_goes_on_with_the_same_curve(tmp_path: Path) -> None:
    def stop(entry: Entry) -> None:
        if entry["step"] == 3:
            raise Stop

    with pytest.raises(Stop):
        grpo(tiny(), CODER, TASKS, short, TASKS, settings(steps=6), tmp_path / "a", on_step=stop)
    resumed = grpo(tiny(), CODER, TASKS, short, TASKS, settings(steps=6), tmp_path / "a")
    whole = grpo(tiny(), CODER, TASKS, short, TASKS, settings(steps=6), tmp_path / "b")
    for a, b in zip(resumed, whole, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_a_reward_that_is_no_number_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    calls = []

    def broken(task: Task, reply: Reply) -> float:
        calls.append(1)
        return math.nan if len(calls) > 40 else 0.0

    with pytest.raises(TrainingFailed, match="reward of nan"):
        grpo(tiny(), CODER, TASKS, broken, TASKS, settings(steps=9), tmp_path)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] >= 2
    for wrong in (None, "1", [1.0]):
        with pytest.raises(TrainingFailed, match="a reward of"):
            grpo(tiny(), CODER, TASKS, lambda *_, w=wrong: w, TASKS, settings(), tmp_path / "other")  # type: ignore[misc]


def test_no_tasks_are_no_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="dataset is empty"):
        grpo(tiny(), CODER, [], short, TASKS, settings(), tmp_path)


def test_rejection_sampling_keeps_what_was_rewarded_and_learns_it(tmp_path: Path) -> None:
    net = tiny()
    policy = Policy(net, CODER, max_tokens=4)
    kept = keep_rewarded(policy, TASKS, lambda task, reply: float("e" not in reply.text), 6, seed=2)
    assert 0 < len(kept) <= 24 and len({tuple(ids) for ids, _ in kept}) == len(kept)
    for ids, own in kept:
        reply = [i for i, mine in zip(ids, own, strict=True) if mine]
        assert "e" not in policy.read(reply).text and 1 <= len(reply) <= 4
    assert keep_rewarded(policy, TASKS, lambda task, reply: 0.0, 2) == []
    s = FinetuneSettings(**{**QUICK, "steps": 6, "batch": 8})  # type: ignore[arg-type]
    log = fit(net, kept, kept, s, tmp_path)
    assert log[-1]["held_out_loss"] < log[0]["held_out_loss"]


def test_a_stage_task_is_read_as_engines_read_it() -> None:
    policy = Policy(tiny(), CODER)
    task = stage_tasks(1, 1)[0]
    text = CODER.tokenizer.decode(policy.prompt(task), skip_special_tokens=False)
    assert text.endswith("<|im_start|>assistant\n") and task.tools[0]["function"]["name"] in text
    ids = CODER.tokenizer.encode('<tool_call>\n{"name": "x", "arguments": {"a": 1}}\n</tool_call>').ids
    (call,) = policy.read([*ids, CODER.end]).tool_calls
    assert (call.name, call.arguments) == ("x", {"a": 1})
