"""Train a shipped model from nothing: `python -m labkit.training.pretrain OUT`.

Every 60 s the run is saved under OUT, so an interrupted one goes on where it stopped. The data are made on the
fly from the seed (`labkit.training.data`), so a run is described by its settings alone.

Recipe: a curriculum from short prompts to long ones; small batches, many updates; the loss counts the
assistant's tokens in full and a sample of all others at a low weight; Muon for matrices, AdamW for the embedding
and the norms; warm-up, then a cosine to a tenth.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from labkit.training.data import Example, Level, examples
from labkit.training.encoding import Encoder, make_tokenizer
from labkit.training.export import export
from labkit.training.network import Llama, Shape

SAVE_EVERY_S = 60.0
POOL = 512
# Until which part of the run each mix of levels lasts. A model that cannot yet copy a word learns nothing from a
# prompt of 400 tokens, most of them tool schemas.
CURRICULUM: tuple[tuple[float, dict[Level, float]], ...] = (
    (0.10, {"short": 1.0}),
    (0.50, {"short": 0.35, "medium": 0.65}),
    (0.85, {"short": 0.2, "medium": 0.3, "full": 0.5}),
    (1.00, {"short": 0.1, "medium": 0.25, "full": 0.5, "long": 0.15}),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Describe a run. `minutes` ends it early, and the learning rate follows whichever limit is nearer."""

    seed: int = 1
    steps: int = 10_000
    minutes: float = 120.0
    tokens_per_batch: int = 3_072
    max_length: int = 1_536
    prompt_weight: float = 0.05
    prompt_sample: float = 0.15
    matrix_rate: float = 0.02
    other_rate: float = 2e-3
    warmup: int = 100
    clip: float = 1.0
    threads: int = 2


@dataclass(frozen=True, slots=True)
class Batch:
    """Hold token ids (B, T), and flat positions (N,), next tokens (N,) and weights (N,) of the loss."""

    ids: Tensor
    positions: Tensor
    targets: Tensor
    weights: Tensor
    real_tokens: int


def batches(stream: Iterator[Example], encoder: Encoder, s: Settings) -> Iterator[Batch]:
    """Yield batches of similar lengths, so that little is padding; order within a pool is random.

    Widths are multiples of 32 and a width decides the number of rows: the processor's matrix library prepares
    itself for every new shape, and preparing took longer than computing when each batch had a shape of its own.
    """
    rng = random.Random(s.seed)
    while True:
        pool = [encoder.encode(e) for e in itertools.islice(stream, POOL)]
        pool = sorted((p for p in pool if len(p[0]) <= s.max_length), key=lambda p: -len(p[0]))
        groups = []
        while pool:
            width = rounded(len(pool[0][0]), 32)
            rows = max(1, s.tokens_per_batch // width)
            groups.append((pool[:rows], rows, width))
            del pool[:rows]
        rng.shuffle(groups)
        for group, rows, width in groups:
            yield collate(group, rows, width, s, rng)


def collate(
    group: list[tuple[list[int], list[bool]]], rows: int, width: int, s: Settings, rng: random.Random
) -> Batch:
    """Pad on the right (a causal model never looks there) and pick the positions that are scored."""
    ids = np.zeros((rows, width), dtype=np.int64)
    scored: list[tuple[int, int, float]] = []
    for row, (tokens, own) in enumerate(group):
        ids[row, : len(tokens)] = tokens
        for at in range(len(tokens) - 1):
            if own[at + 1] or rng.random() < s.prompt_sample:
                weight = 1.0 if own[at + 1] else s.prompt_weight / s.prompt_sample
                scored.append((row * width + at, tokens[at + 1], weight))
    scored += [(0, 0, 0.0)] * (rounded(len(scored), 256) - len(scored))
    positions, targets, weights = (torch.tensor(column) for column in zip(*scored, strict=True))
    return Batch(torch.from_numpy(ids), positions, targets, weights, sum(len(tokens) for tokens, _ in group))


def rounded(count: int, step: int) -> int:
    """Return the next multiple of `step`."""
    return -(-count // step) * step


class Trainer:
    """Keep a run's network, optimizers and place, on disk and in memory."""

    def __init__(self, out: Path, shape: Shape, s: Settings) -> None:
        torch.set_num_threads(s.threads)
        torch.manual_seed(s.seed)
        self.out, self.s = out, s
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net = Llama(shape).to(self.device)
        matrices = [p for p in self.net.layers.parameters() if p.ndim == 2]
        others = [p for p in self.net.parameters() if p.ndim == 1] + [self.net.embed_tokens.weight]
        self.optimizers = [
            torch.optim.Muon(matrices, lr=s.matrix_rate, weight_decay=0.01, momentum=0.95, ns_steps=5),
            torch.optim.AdamW(others, lr=s.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.step, self.seconds, self.tokens = 0, 0.0, 0
        if (out / "run.pt").exists():
            self.resume()

    def progress(self) -> float:
        """Return how much of the run is done, 0 to 1, by steps or by minutes."""
        return min(1.0, max(self.step / self.s.steps, self.seconds / 60 / self.s.minutes))

    def set_rates(self) -> None:
        """Warm up, then fall along a cosine to a tenth."""
        scale = min(1.0, (self.step + 1) / self.s.warmup)
        scale *= 0.1 + 0.45 * (1 + math.cos(math.pi * self.progress()))
        for optimizer, rate in zip(self.optimizers, (self.s.matrix_rate, self.s.other_rate), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * scale

    def update(self, batch: Batch) -> tuple[float, float]:
        """Take one step; return the weighted loss and the loss on the assistant's tokens alone."""
        began = time.perf_counter()
        self.set_rates()
        with torch.autocast(self.device.type, torch.bfloat16):
            hidden = self.net(batch.ids.to(self.device)).flatten(0, 1)
            logits = self.net.logits(hidden[batch.positions.to(self.device)])
        each = F.cross_entropy(logits.float(), batch.targets.to(self.device), reduction="none")
        weights = batch.weights.to(self.device)
        loss = (each * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.s.clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        own = weights == 1.0
        self.step += 1
        self.seconds += time.perf_counter() - began
        self.tokens += batch.real_tokens
        return float(loss.detach()), float(each.detach()[own].mean())

    def save(self) -> None:
        """Write the whole state; the old file stays until the new one is complete."""
        state = {
            "net": self.net.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "place": (self.step, self.seconds, self.tokens),
        }
        torch.save(state, self.out / "run.pt.part")
        os.replace(self.out / "run.pt.part", self.out / "run.pt")

    def resume(self) -> None:
        """Take up the state that `save` wrote."""
        state = torch.load(self.out / "run.pt", weights_only=True, map_location=self.device)
        self.net.load_state_dict(state["net"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.seconds, self.tokens = state["place"]


def lessons(trainer: Trainer, encoder: Encoder) -> Iterator[Batch]:
    """Yield batches along the curriculum until the run is done; a resumed run goes on to new data."""
    for stage, (end, mix) in enumerate(CURRICULUM):
        seed = (trainer.s.seed * len(CURRICULUM) + stage) * 1_000_003 + trainer.step
        stream = batches(examples(seed, mix), encoder, trainer.s)
        while trainer.progress() < end:
            yield next(stream)


def run(out: Path, shape: Shape, s: Settings) -> None:
    """Train until the limit, logging every 20 steps and saving every minute; then export."""
    out.mkdir(parents=True, exist_ok=True)
    encoder = Encoder(make_tokenizer(out / "tokenizer.json", s.seed))
    trainer = Trainer(out, shape, s)
    (out / "settings.json").write_text(json.dumps({**asdict(s), "shape": asdict(shape)}, indent=1) + "\n")
    saved, losses, own_losses = time.monotonic(), [], []
    with (out / "log.jsonl").open("a") as log:
        for batch in lessons(trainer, encoder):
            loss, own = trainer.update(batch)
            losses.append(loss)
            own_losses.append(own)
            if trainer.step % 20 == 0:
                entry = {
                    "step": trainer.step,
                    "loss": round(sum(losses) / len(losses), 4),
                    "assistant_loss": round(sum(own_losses) / len(own_losses), 4),
                    "tokens": trainer.tokens,
                    "seconds": round(trainer.seconds, 1),
                }
                print(json.dumps(entry), file=log, flush=True)
                print(entry, flush=True)
                losses, own_losses = [], []
            if time.monotonic() - saved > SAVE_EVERY_S:
                trainer.save()
                saved = time.monotonic()
    trainer.save()
    export(trainer.net, out)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    for name, value in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    args = vars(parser.parse_args())
    run(args.pop("out"), Shape(), Settings(**args))


if __name__ == "__main__":
    main()
