"""Learn from rewards: GRPO and rejection sampling. The model's own replies are the data.

GRPO after Shao et al., "DeepSeekMath" (2024): several replies to one prompt are each other's baseline. The ratio to
the policy that drew them is clipped (PPO), and a penalty on the KL divergence keeps the policy near the frozen start.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from labkit.engines.toolschema import tool_schemas
from labkit.training.encoding import Encoder
from labkit.training.finetune import NEVER, batch_of, fingerprint, logits, logprobs, need_data, order
from labkit.training.network import Llama
from labkit.training.packing import Batch, Encoded, Row, collate
from labkit.training.reward import Reward, Task, judge, reply_of
from labkit.training.runs import Entry, Run, Settings, limited
from labkit.training.sampling import sample
from labkit.types import Reply

AT_ONCE = 32  # prompts that are answered together


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpoSettings(Settings):
    """Describe a run on rewards: a step draws `samples` replies to each of `tasks` tasks.

    `kl` weighs the divergence from the start; `clip_ratio` bounds how far a token's probability may move in one step;
    `passes` is how often a step uses its replies. Beside them it reads `rehearse` examples of other skills; `keep`
    weighs the divergence from the start there.
    """

    tasks: int = limited(8, 1, 1024)
    samples: int = limited(8, 2, 256)
    passes: int = limited(1, 1, 16)
    max_tokens: int = limited(64, 1, 2048)
    temperature: float = limited(1.0, 0.05, 5.0)
    kl: float = limited(0.02, 0.0, 100.0)
    rehearse: int = limited(4, 0, 1024)
    keep: float = limited(3.0, 0.0, 100.0)
    clip_ratio: float = limited(0.2, 1e-3, 10.0)


def advantages(rewards: Tensor) -> Tensor:
    """Return (reward − mean) / standard deviation within each group (N, K); 0 where all rewards are alike."""
    spread = rewards.std(-1, keepdim=True, correction=0)
    return (rewards - rewards.mean(-1, keepdim=True)) / spread.clamp_min(1e-4)


def drift(net: Llama, start: Llama, batch: Batch, bf16: bool) -> Tensor:
    """Return KL(start ‖ net), the mean over the tokens that a model wrote in some texts, all guesses counted."""
    with torch.no_grad():
        first = logits(start, batch, bf16).log_softmax(-1)
    now = logits(net, batch, bf16).log_softmax(-1)
    return torch.nn.functional.kl_div(now, first, log_target=True, reduction="batchmean")


def clipped(ratio: Tensor, gain: Tensor, width: float) -> Tensor:
    """Return what a token contributes: ratio × advantage, but never more than the clipped ratio would give."""
    return torch.minimum(ratio * gain, ratio.clamp(1 - width, 1 + width) * gain)


def divergence(now: Tensor, start: Tensor) -> Tensor:
    """Estimate KL(now ‖ start) from ln p of drawn tokens: r − ln r − 1, r = p_start / p_now (Schulman's k3), ≥ 0."""
    gap = start - now
    return gap.exp() - gap - 1


class Policy:
    """Draw replies to tasks from a network."""

    def __init__(self, net: Llama, encoder: Encoder, max_tokens: int = 64) -> None:
        self.net, self.encoder, self.max_tokens = net, encoder, max_tokens
        self.ends = (encoder.end, encoder.tokenizer.token_to_id("<|endoftext|>"))

    def prompt(self, task: Task) -> list[int]:
        """Return the token ids of a task's prompt."""
        text = self.encoder.template.render(task.messages, tool_schemas(task.tools))
        return list(self.encoder.tokenizer.encode(text).ids)

    def draw(
        self, prompts: Sequence[list[int]], copies: int = 1, temperature: float = 0.0, seed: int = 0
    ) -> list[list[int]]:
        """Return the tokens of `copies` replies to each prompt; temperature 0 is greedy."""
        found: list[list[int]] = []
        for at in range(0, len(prompts), AT_ONCE):
            how = {"max_tokens": self.max_tokens, "temperature": temperature, "seed": seed + at}
            found += sample(self.net, prompts[at : at + AT_ONCE], copies, ends=self.ends, **how)
        return found

    def read(self, ids: Sequence[int]) -> Reply:
        """Read drawn tokens as a reply."""
        text = self.encoder.tokenizer.decode(
            [i for i in ids if i not in self.ends], skip_special_tokens=False
        )
        return reply_of(text)

    def rewards(self, tasks: Sequence[Task], reward: Reward) -> list[float]:
        """Return the reward of the greedy reply to each task."""
        drawn = self.draw([self.prompt(task) for task in tasks])
        return [judge(reward, task, self.read(ids)) for task, ids in zip(tasks, drawn, strict=True)]


def group_rows(prompts: Sequence[list[int]], replies: Sequence[list[int]], copies: int) -> Batch:
    """Lay out each prompt once, with all of its replies as branches behind it."""
    rows = []
    for place, prompt in enumerate(prompts):
        row, stem = Row(), len(prompt) - 1
        row.add((prompt, [0.0] * len(prompt)), 0, stem, 1, 0)
        for branch, reply in enumerate(replies[place * copies : (place + 1) * copies], 1):
            whole = (prompt + reply, [0.0] * len(prompt) + [1.0] * len(reply))
            row.add(whole, stem, len(whole[0]), 1, branch)
        rows.append(row)
    return collate(rows, max(len(row.ids) for row in rows), random.Random(0), 0.0, NEVER)


def grpo(
    net: Llama,
    encoder: Encoder,
    tasks: Sequence[Task],
    reward: Reward,
    held_out: Sequence[Task],
    settings: GrpoSettings,
    out: Path,
    *,
    success: Reward | None = None,
    known: Sequence[Encoded] = (),
    on_step: Callable[[Entry], object] | None = None,
) -> list[Entry]:
    """Train on the rewards of drawn replies; return the log, with reward, KL and held-out success.

    `known` are examples of other skills: what the start makes of them is rehearsed, or they would be forgotten.
    `success` judges the greedy replies to `held_out` (the reward itself, if it is not given). Weights of the best look
    are kept. Raises `TrainingFailed` for no tasks and a reward that is no number, `StorageFailed` for a full disk.
    """
    need_data(tasks, held_out)
    s, policy, start = settings, Policy(net, encoder, settings.max_tokens), copy.deepcopy(net)
    prompts = [policy.prompt(task) for task in tasks]

    def update(run: Run) -> Entry:
        chosen = order(len(tasks), s.tasks, s.seed, run.step)
        asked = [prompts[at] for at in chosen]
        drawn = policy.draw(asked, s.samples, s.temperature, s.seed * 1_000_003 + run.step)
        owners = [tasks[at] for at in chosen for _ in range(s.samples)]
        got = [judge(reward, task, policy.read(ids)) for task, ids in zip(owners, drawn, strict=True)]
        rewards = torch.tensor(got, device=run.net.embed_tokens.weight.device).view(-1, s.samples)
        batch, lengths = group_rows(asked, drawn, s.samples), torch.tensor([len(ids) for ids in drawn])
        with torch.no_grad():
            first = logprobs(start, batch, s.bf16)
        gains = advantages(rewards).flatten().repeat_interleave(lengths.to(first.device))
        old, kl = None, 0.0
        for _ in range(s.passes):
            now = logprobs(net, batch, s.bf16)
            old, apart = now.detach() if old is None else old, divergence(now, first)
            loss = (s.kl * apart - clipped((now - old).exp(), gains, s.clip_ratio)).mean()
            if known and s.rehearse:
                seen = [known[at] for at in order(len(known), s.rehearse, s.seed, run.step)]
                loss = loss + s.keep * drift(net, start, batch_of(seen), s.bf16)
            run.descend(loss)
            kl = float(apart.detach().mean())
        return {"reward": float(rewards.mean()), "kl": kl, "tokens": int(lengths.sum())}

    def evaluate(run: Run) -> Entry:
        found = policy.rewards(held_out, success or reward)
        return {"success": sum(found) / len(found), "score": sum(found) / len(found)}

    return Run(net, s, out, fingerprint([prompts, known])).go(update, evaluate, on_step)


def keep_rewarded(
    policy: Policy,
    tasks: Sequence[Task],
    reward: Reward,
    copies: int,
    *,
    temperature: float = 1.0,
    seed: int = 0,
) -> list[Encoded]:
    """Draw `copies` replies to each task and keep, once each, those with a reward of 1 or more: examples for `fit`.

    That is rejection-sampling fine-tuning (RFT).
    """
    prompts = [policy.prompt(task) for task in tasks for _ in range(copies)]
    owners = [task for task in tasks for _ in range(copies)]
    drawn = policy.draw(prompts[::copies], copies, temperature, seed)
    kept = {
        (tuple(prompt), tuple(ids)): None
        for prompt, ids, task in zip(prompts, drawn, owners, strict=True)
        if judge(reward, task, policy.read(ids)) >= 1
    }
    return [([*prompt, *ids], [0.0] * len(prompt) + [1.0] * len(ids)) for prompt, ids in kept]
