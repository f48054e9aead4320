"""Fine-tune a model on examples: all weights or LoRA, on the CPU or CUDA.

`load_network` and `save_model` go from a labkit folder to torch and back; `fit` trains on what a model should say.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from labkit.engines.hf_folder import read_json
from labkit.engines.llamacpp_files import shipped_folder, weights_hash
from labkit.errors import TrainingFailed
from labkit.models.catalog import find
from labkit.models.store import storage_errors
from labkit.training.encoding import Encoder
from labkit.training.export import export, read_weights, write_json
from labkit.training.network import Llama, Shape
from labkit.training.packing import Batch, Encoded, collate, planted, rows_of
from labkit.training.runs import Entry, Run, Settings, limited

NEVER = 1e-9  # how often a token that the model did not write is scored


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneSettings(Settings):
    """Describe supervised fine-tuning: `batch` examples a step."""

    batch: int = limited(16, 1, 4096)


def model_folder(name: str) -> Path:
    """Return the folder of a shipped model, or of one that was trained here."""
    path = Path(name).expanduser()
    return path if (path / "config.json").is_file() else shipped_folder(find(name).refs["onnx"])


def load_network(folder: Path) -> tuple[Llama, Encoder]:
    """Read a labkit folder's weights into torch, on CUDA where there is a GPU; return its encoder beside."""
    config = read_json(folder / "config.json")
    names = {
        "vocab": "vocab_size", "hidden": "hidden_size", "layers": "num_hidden_layers", "heads": "num_attention_heads",
        "kv_heads": "num_key_value_heads", "head_dim": "head_dim", "feed_forward": "intermediate_size",
        "context": "max_position_embeddings", "rope_theta": "rope_theta", "eps": "rms_norm_eps",
    }  # fmt: skip
    net = Llama(Shape(**{name: config[key] for name, key in names.items()}))
    net.load_state_dict(read_weights(folder))
    encoder = Encoder(Tokenizer.from_file(str(folder / "tokenizer.json")))
    return net.to("cuda" if torch.cuda.is_available() else "cpu"), encoder


def save_model(net: Llama, base: Path, out: Path, record: Mapping[str, Any]) -> Path:
    """Write a trained network as a folder that `labkit.load` takes, beside `base`'s tokenizer and template.

    `record` goes into training.json. The folder is complete or not there at all.
    """
    part = out.with_name(f".{out.name}.part")
    with storage_errors(out):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name in ("tokenizer.json", "chat_template.jinja"):
            shutil.copyfile(base / name, part / name)
        export(net, part)
        write_json(part / "training.json", record)
        if out.exists():
            shutil.rmtree(out)
        part.rename(out)
    weights_hash.cache_clear()  # which remembers what was in this folder before
    return out


def batch_of(encoded: Sequence[Encoded]) -> Batch:
    """Pack examples into as few rows as their longest allows; only what the model itself wrote is scored."""
    rows = [planted([each], len(each[0])) for each in encoded]
    width = max(len(row.ids) for row in rows)
    return collate(rows_of(rows, width), width, random.Random(0), 0.0, NEVER)


def logprobs(net: Llama, batch: Batch, bf16: bool) -> Tensor:
    """Return ln p of every token that the model wrote in a batch, in the order of its rows: (N,)."""
    scores = logits(net, batch, bf16)
    return -F.cross_entropy(scores, batch.targets[batch.weights > 0].to(scores.device), reduction="none")


def logits(net: Llama, batch: Batch, bf16: bool) -> Tensor:
    """Return the scores of all tokens, (N, V), wherever the model wrote one."""
    device = net.embed_tokens.weight.device
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        mask = batch.mask.to(device, torch.bfloat16 if bf16 else torch.float32)
        hidden = net(batch.ids.to(device), batch.places.to(device), mask).flatten(0, 1)
        return net.logits(hidden[batch.positions[batch.weights > 0].to(device)]).float()


def fit(
    net: Llama,
    train: Sequence[Encoded],
    held_out: Sequence[Encoded],
    settings: FinetuneSettings,
    out: Path,
    on_step: Callable[[Entry], object] | None = None,
) -> list[Entry]:
    """Train on encoded examples until the limit, or until `held_out` gets no better; return the log.

    Raises `TrainingFailed` for no examples and a loss that is no number, `StorageFailed` for a full disk.
    """
    need_data(train, held_out)

    def update(run: Run) -> Entry:
        chosen = [train[at] for at in order(len(train), settings.batch, settings.seed, run.step)]
        return {"loss": run.descend(-logprobs(net, batch_of(chosen), settings.bf16).mean())}

    @torch.no_grad()
    def evaluate(run: Run) -> Entry:
        parts = [held_out[at : at + settings.batch] for at in range(0, len(held_out), settings.batch)]
        loss = float(-torch.cat([logprobs(net, batch_of(part), settings.bf16) for part in parts]).mean())
        return {"held_out_loss": loss, "score": -loss}

    return Run(net, settings, out, fingerprint([train, held_out])).go(update, evaluate, on_step)


def need_data(*sets: Sequence[Any]) -> None:
    """Raise `TrainingFailed` where a set is empty."""
    if not all(sets):
        fix = "give at least one example to train on, and one that is held out"
        raise TrainingFailed("there is nothing to learn from: the dataset is empty", fix=fix)


def order(count: int, batch: int, seed: int, step: int) -> list[int]:
    """Return which examples a step sees: every epoch goes through all of them, in an order of its own."""
    found = []
    for place in range(step * batch, (step + 1) * batch):
        epoch, at = divmod(place, count)
        found.append(random.Random(f"{seed}/{epoch}").sample(range(count), count)[at])
    return found


def fingerprint(data: Iterable[Any]) -> str:
    """Return a hash of what a run is trained on."""
    return hashlib.sha256(repr(list(data)).encode()).hexdigest()[:16]


def record_of(settings: Settings, base: Path, log: Sequence[Entry], **more: Any) -> dict[str, Any]:
    """Return what training.json says of a run: base, settings, data, steps and seconds."""
    done = {"steps": log[-1]["step"], "seconds": log[-1].get("seconds", 0.0)}
    before = base / "training.json"  # of a model that was itself trained here: its base is ours
    name = read_json(before).get("base", base.name) if before.is_file() else base.name
    return {"base": name, **done, "settings": asdict(settings), **more}
