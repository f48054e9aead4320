"""Train a shipped model from nothing: `python -m labkit.training.pretrain OUT`.

Every 60 s the run is saved under OUT, so an interrupted one goes on where it stopped. The data are made on the
fly from the seed (`labkit.training.data`), so a run is described by its settings alone.

Recipe: a curriculum from short prompts to long ones; small batches, many updates; the loss counts the
assistant's tokens in full and a sample of all others at a low weight; Muon for matrices, AdamW for the embedding
and the norms; warm-up, then a straight line to zero. Two heads of the last layer but one are shown where to look
(`labkit.training.guiding`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from labkit.models.hardware import machine
from labkit.training import data
from labkit.training.data import Course, lessons
from labkit.training.encoding import Encoder, make_tokenizer
from labkit.training.export import export, read_weights, write_json
from labkit.training.muon import Muon
from labkit.training.network import SHAPES, Llama, Shape
from labkit.training.packing import Batch, batches

SAVE_EVERY_S = 60.0
# Until which part of the run each mix of levels lasts. A model that cannot yet copy a word learns nothing from a
# prompt of 400 tokens, most of them tool schemas.
Curriculum = tuple[tuple[float, dict[Course, float]], ...]
CURRICULA: dict[str, Curriculum] = {
    "nano": (
        (0.04, {"short": 1.0}),
        (
            0.30,
            {
                "short": 0.12,
                "medium": 0.16,
                "full": 0.12,
                "pointing": 0.14,
                "choosing": 0.16,
                "routing": 0.14,
                "reading": 0.16,
            },
        ),
        (
            0.65,
            {
                "short": 0.1,
                "medium": 0.16,
                "full": 0.2,
                "long": 0.02,
                "pointing": 0.07,
                "choosing": 0.14,
                "routing": 0.14,
                "reading": 0.17,
            },
        ),
        (
            1.00,
            {
                "short": 0.1,
                "medium": 0.18,
                "full": 0.26,
                "long": 0.02,
                "pointing": 0.04,
                "choosing": 0.12,
                "routing": 0.12,
                "reading": 0.16,
            },
        ),
    ),
    # The smaller model's work is to send messages on.
    "pico": (
        (0.10, {"short": 1.0}),
        (0.40, {"short": 0.2, "medium": 0.15, "pointing": 0.15, "choosing": 0.1, "routing": 0.4}),
        (
            1.00,
            {"short": 0.1, "medium": 0.25, "full": 0.1, "pointing": 0.05, "choosing": 0.1, "routing": 0.4},
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Describe a run. `minutes` ends it early, and the learning rate follows whichever limit is nearer.

    `keep` is the share that the weights which the run began with have in the mean that is exported: lessons of
    another kind teach without making it forget (Wortsman et al., "Robust fine-tuning of zero-shot models", 2022).
    """

    seed: int = 1
    steps: int = 20_000
    minutes: float = 120.0
    tokens_per_batch: int = 4_608
    prompt_weight: float = 0.05
    prompt_sample: float = 0.15
    guide_weight: float = 0.2
    matrix_rate: float = 0.012
    other_rate: float = 1.6e-3
    warmup: int = 100
    clip: float = 1.0
    threads: int = 2
    fuse: bool = True
    keep: float = 0.0


class Trainer:
    """Keep a run's network, optimizers and place, on disk and in memory."""

    def __init__(self, out: Path, shape: Shape, s: Settings, start: Path | None = None) -> None:
        torch.set_num_threads(s.threads)
        torch.manual_seed(s.seed)
        self.out, self.s = out, s
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net = Llama(shape).to(self.device)
        if start:
            self.net.load_state_dict(read_weights(start))
        if s.fuse and shutil.which("c++"):  # torch then compiles each layer into fewer, larger kernels
            for layer in self.net.layers:
                layer.compile(dynamic=False)
        matrices = [p for p in self.net.layers.parameters() if p.ndim == 2]
        others = [p for p in self.net.parameters() if p.ndim == 1] + [self.net.embed_tokens.weight]
        self.optimizers = [
            Muon(matrices, lr=s.matrix_rate, weight_decay=0.01),
            torch.optim.AdamW(others, lr=s.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.step, self.seconds, self.tokens, self.examples = 0, 0.0, 0, 0
        self.mark = time.perf_counter()
        if (out / "run.pt").exists():
            self.resume()

    def progress(self) -> float:
        """Return how much of the run is done, 0 to 1, by steps or by minutes."""
        return min(1.0, max(self.step / self.s.steps, self.seconds / 60 / self.s.minutes))

    def place(self) -> dict[str, Any]:
        """Return how far the run has come."""
        seconds = round(self.seconds, 1)
        return {"steps": self.step, "tokens": self.tokens, "examples": self.examples, "seconds": seconds}

    def set_rates(self) -> None:
        """Warm up, then fall in a straight line to nothing."""
        scale = min(1.0, (self.step + 1) / self.s.warmup) * (1 - self.progress())
        for optimizer, rate in zip(self.optimizers, (self.s.matrix_rate, self.s.other_rate), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * scale

    def update(self, batch: Batch) -> tuple[float, float, float]:
        """Take one step; return the weighted loss, the loss on the assistant's tokens alone, and the guided head's."""
        self.set_rates()
        with torch.autocast(self.device.type, torch.bfloat16):
            places, mask = batch.places.to(self.device), batch.mask.to(self.device)
            hidden = self.net(batch.ids.to(self.device), places, mask).flatten(0, 1)
            logits = self.net.logits(hidden[batch.positions.to(self.device)])
            guide = self.guidance(batch.guides.to(self.device), mask)
        each = F.cross_entropy(logits.float(), batch.targets.to(self.device), reduction="none")
        weights = batch.weights.to(self.device)
        loss = (each * weights).sum() / weights.sum()
        (loss + self.s.guide_weight * guide).backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.s.clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        own = weights >= 1.0
        self.step += 1
        began, self.mark = self.mark, time.perf_counter()
        self.seconds += self.mark - began
        self.tokens += batch.tokens
        self.examples += batch.examples
        return float(loss.detach()), float(each.detach()[own].mean()), float(guide.detach())

    def guidance(self, guides: Tensor, mask: Tensor) -> Tensor:
        """Return how little the guided heads look where they should: the mean of -log of their attention there."""
        if not guides.shape[1]:
            return torch.zeros((), device=self.device)
        rows, heads, columns, to = guides
        scores = self.net.looks(rows, heads, columns) + mask[rows, 0, columns]
        later = torch.arange(scores.shape[1], device=self.device) > columns[:, None]
        return F.cross_entropy(scores.masked_fill(later, -1e9), to)

    def save(self) -> None:
        """Write the whole state; the old file stays until the new one is complete."""
        state = {
            "net": self.net.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "place": self.place(),
        }
        torch.save(state, self.out / "run.pt.part")
        os.replace(self.out / "run.pt.part", self.out / "run.pt")

    def blend(self, begun: dict[str, Tensor]) -> None:
        """Average the weights with those that the run began with, which get the share `keep`."""
        with torch.no_grad():
            for name, weight in self.net.state_dict().items():
                weight.lerp_(begun[name].to(weight), self.s.keep)

    def resume(self) -> None:
        """Take up the state that `save` wrote."""
        state = torch.load(self.out / "run.pt", weights_only=True, map_location=self.device)
        self.net.load_state_dict(state["net"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        place = state["place"]
        self.step, self.seconds = place["steps"], place["seconds"]
        self.tokens, self.examples = place["tokens"], place["examples"]


def lectures(trainer: Trainer, encoder: Encoder, curriculum: Curriculum) -> Iterator[Batch]:
    """Yield batches along the curriculum until the run is done; a resumed run goes on to new data."""
    s = trainer.s
    for stage, (end, mix) in enumerate(curriculum):
        seed = (s.seed * len(curriculum) + stage) * 1_000_003 + trainer.step
        stream = batches(
            lessons(seed, mix),
            encoder,
            random.Random(seed),
            tokens=s.tokens_per_batch,
            prompt_weight=s.prompt_weight,
            prompt_sample=s.prompt_sample,
        )
        while trainer.progress() < end:
            yield next(stream)


class Log:
    """Append the mean losses of every 20 steps to a run's log.jsonl."""

    def __init__(self, out: Path) -> None:
        self.path, self.losses = out / "log.jsonl", list[tuple[float, float, float]]()

    def add(self, trainer: Trainer, losses: tuple[float, float, float]) -> None:
        """Take one step's losses: the weighted one, the one on the assistant's tokens alone, the guided heads'."""
        self.losses.append(losses)
        if trainer.step % 20:
            return
        means = [round(sum(column) / len(column), 4) for column in zip(*self.losses, strict=True)]
        self.losses.clear()
        entry = dict(zip(("loss", "assistant_loss", "guide_loss"), means, strict=True)) | trainer.place()
        with self.path.open("a") as file:
            print(json.dumps(entry), file=file)
        print(entry, flush=True)


def data_sha256() -> str:
    """Return the hash of the code and the tables that make the data, names and contents in order."""
    folder, found = Path(data.__file__).parent, hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".txt")):
        found.update(f"{path.relative_to(folder).as_posix()}\n".encode() + path.read_bytes())
    return found.hexdigest()


def run(
    out: Path,
    shape: Shape,
    s: Settings,
    curriculum: Curriculum = CURRICULA["nano"],
    start: Path | None = None,
) -> None:
    """Train until the limit, saving every minute; then export. `start` is a folder whose weights to begin with.

    What the folder records of its own training goes before what is recorded here.
    """
    out.mkdir(parents=True, exist_ok=True)
    if start and (start / "log.jsonl").exists() and not (out / "log.jsonl").exists():
        shutil.copy(start / "log.jsonl", out)
    encoder = Encoder(make_tokenizer(out / "tokenizer.json", s.seed))
    trainer, log, saved = Trainer(out, shape, s, start), Log(out), time.monotonic()
    for batch in lectures(trainer, encoder, curriculum):
        log.add(trainer, trainer.update(batch))
        if time.monotonic() - saved > SAVE_EVERY_S:
            trainer.save()
            saved = time.monotonic()
    trainer.save()
    if start and s.keep:
        trainer.blend(read_weights(start))
    export(trainer.net, out)
    here = machine()
    described = {
        **trainer.place(),
        "machine": f"{s.threads} core{'s' * (s.threads > 1)} of {here.cpu}",
        "torch": torch.__version__,
    }
    described |= {"data_sha256": data_sha256(), "settings": asdict(s), "curriculum": curriculum}
    write_json(out / "training.json", described | {"earlier": earlier_runs(start)})


def earlier_runs(start: Path | None) -> list[dict[str, Any]]:
    """Return what is recorded of the runs that made the weights in a folder, the first one first."""
    if start is None or not (start / "training.json").exists():
        return []
    last = json.loads((start / "training.json").read_text("utf-8"))
    return [*last.pop("earlier", []), last]


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", choices=SHAPES, default="nano")
    parser.add_argument(
        "--start", type=Path, help="a folder with weights to begin with, instead of from nothing"
    )
    for name, value in asdict(Settings()).items():
        kind = argparse.BooleanOptionalAction if isinstance(value, bool) else None
        typed = {"action": kind} if kind else {"type": type(value)}
        parser.add_argument(f"--{name.replace('_', '-')}", default=value, **typed)
    args = vars(parser.parse_args())
    out, model, start = (args.pop(name) for name in ("out", "model", "start"))
    run(out, SHAPES[model], Settings(**args), CURRICULA[model], start)


if __name__ == "__main__":
    main()
