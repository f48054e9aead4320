"""A training run on disk: its settings, its log, and a checkpoint from which it goes on as if never interrupted.

A folder holds settings.yaml, log.jsonl (one line a step) and checkpoint.pt. All chance of a step is drawn from the
seed and the step's number, so a checkpoint needs no state of any generator.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from labkit.engines.settings import settings_of
from labkit.errors import OptionInvalid, TrainingFailed
from labkit.models.store import atomic_file, storage_errors
from labkit.training.lora import add_lora, merge_lora
from labkit.training.network import Llama

Entry = dict[str, Any]
FREE = ("minutes", "threads")  # settings that a resumed run may change
Kind = TypeVar("Kind", bound="Settings")


def limited(default: float, low: float, high: float) -> Any:
    """Declare a number with its range; a default without a decimal point asks for whole numbers."""
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Describe what every run has. `minutes` ends it early (0: never).

    `lora_rank` 0 trains all weights. Every `evaluate_every` steps the run looks at what is held out, and after
    `patience` looks without progress it stops (0: never). `bf16` computes in half precision where it can.
    Raises `OptionInvalid` on any value out of range.
    """

    seed: int = limited(1, 0, 2**31)
    steps: int = limited(100, 1, 10**6)
    minutes: float = limited(60.0, 0.0, 10_000.0)
    rate: float = limited(3e-4, 1e-9, 1.0)
    warmup: int = limited(5, 1, 10**6)
    clip: float = limited(1.0, 1e-6, 1e6)
    lora_rank: int = limited(0, 0, 256)
    lora_alpha: float = limited(16.0, 1e-3, 1e4)
    evaluate_every: int = limited(10, 1, 10**6)
    patience: int = limited(0, 0, 10**6)
    save_every: int = limited(10, 1, 10**6)
    threads: int = limited(2, 1, 512)
    bf16: bool = False

    def __post_init__(self) -> None:
        for each in fields(self):
            value, kind = getattr(self, each.name), type(each.default)
            ok = isinstance(value, kind) or (kind is float and type(value) is int)
            low, high = each.metadata.get("low", 0), each.metadata.get("high", 1)
            if not ok or (kind is not bool and isinstance(value, bool)) or not low <= value <= high:
                need = f"{'a whole' if kind is int else 'a'} number from {low:g} to {high:g}"
                fix = "true or false" if kind is bool else f"{need} (YAML writes 0.001 or 1.0e-3, not 1e-3)"
                raise OptionInvalid(f"{each.name} cannot be {value!r:.60}", fix=fix)


def read_settings(kind: type[Kind], path: Path) -> Kind:
    """Read settings from YAML; raise `OptionInvalid` for what is unknown, NaN, or out of range."""
    import yaml

    try:
        with storage_errors(path, "read"):
            values = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OptionInvalid(f"{path} is no YAML: {error!s:.200}", fix=f"correct {path}") from error
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise OptionInvalid(f"{path} holds no settings", fix="write lines such as steps: 100")
    return settings_of(kind, "training", values)


def write_settings(settings: Settings, path: Path) -> None:
    """Write settings as YAML."""
    import yaml

    with atomic_file(path) as part:
        part.write_text(yaml.safe_dump(asdict(settings), sort_keys=False), "utf-8")


class Run:
    """Take steps until the limit, early stop or error; log, save and resume.

    `update(run)` takes one step and returns what to log; `evaluate(run)`, higher is better, decides which
    weights are kept in the end. `data` names what it is trained on, so that no run goes on with something else.
    """

    def __init__(self, net: Llama, settings: Settings, out: Path, data: str) -> None:
        torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        self.net, self.s, self.out, self.data = net, settings, out, data
        if settings.lora_rank:
            add_lora(net, settings.lora_rank, settings.lora_alpha)
        trained = [p for p in net.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=settings.rate, betas=(0.9, 0.98), weight_decay=0.0)
        self.step, self.stale, self.seconds, self.best = 0, 0, 0.0, -math.inf
        self.best_weights = self.weights()
        with storage_errors(out):
            out.mkdir(parents=True, exist_ok=True)
        if (out / "checkpoint.pt").exists():
            self.resume()
        else:
            write_settings(settings, out / "settings.yaml")
        self.cut_log()

    def weights(self) -> dict[str, Any]:
        """Return a copy of what is trained."""
        named = self.net.named_parameters()
        return {name: p.detach().cpu().clone() for name, p in named if p.requires_grad}

    def go(
        self,
        update: Callable[[Run], Entry],
        evaluate: Callable[[Run], Entry],
        on_step: Callable[[Entry], object] | None = None,
    ) -> list[Entry]:
        """Train, put back the best weights, merge LoRA, and return the whole log.

        `evaluate` returns what to log, with the key `score` to compare by. Raises `TrainingFailed` at a loss or
        reward that is no number; the last checkpoint stays.
        """
        bar = tqdm(total=self.s.steps, initial=self.step, unit="step", disable=None, leave=False)
        self.mark = time.perf_counter()
        with bar:
            if not self.step:
                self.look(evaluate(self), {"step": 0}, on_step)
            while not self.finished():
                self.set_rate()
                entry = {"step": self.step + 1, **update(self)}
                self.check(entry)
                self.step += 1
                entry["seconds"] = self.tick()
                due = self.finished() or self.step % self.s.evaluate_every == 0
                self.look(evaluate(self) if due else None, entry, on_step)
                self.tick()
                if self.finished() or self.step % self.s.save_every == 0:
                    self.save()
                bar.update()
        self.net.load_state_dict(self.best_weights, strict=False)
        merge_lora(self.net)
        return read_log(self.out)

    def tick(self) -> float:
        """Add the time since the last tick to the run's seconds, and return those."""
        before, self.mark = self.mark, time.perf_counter()
        self.seconds += self.mark - before
        return round(self.seconds, 2)

    def finished(self) -> bool:
        """Return whether a limit is reached, or nothing has got better for too long."""
        stale = bool(self.s.patience) and self.stale >= self.s.patience
        return self.step >= self.s.steps or self.seconds >= 60 * self.s.minutes > 0 or stale

    def set_rate(self) -> None:
        """Warm up, then fall in a straight line to a tenth."""
        scale = min(1.0, (self.step + 1) / self.s.warmup) * (1 - 0.9 * self.step / self.s.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.s.rate * scale

    def descend(self, loss: torch.Tensor) -> float:
        """Take one step of the optimizer down the gradient of `loss`; return the loss, a finite one."""
        value = float(loss.detach())
        self.check({"step": self.step + 1, "loss": value})
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.s.clip)
        self.optimizer.step()
        return value

    def check(self, entry: Mapping[str, Any]) -> None:
        """Raise `TrainingFailed` where a logged figure is no number."""
        for name, value in entry.items():
            if isinstance(value, float) and not math.isfinite(value):
                kept = self.out / "checkpoint.pt"
                raise TrainingFailed(
                    f"{name} is {value} at step {entry['step']}",
                    fix=f"{kept} is as it was, if there is one: a lower rate and a new folder may do",
                )

    def look(self, found: Entry | None, entry: Entry, on_step: Callable[[Entry], object] | None) -> None:
        """Log a step; where something was evaluated, keep the weights if they are the best so far."""
        if found is not None:
            entry |= found
            self.check(entry)
            better = found["score"] > self.best
            self.stale = 0 if better else self.stale + 1
            if better:
                self.best, self.best_weights = found["score"], self.weights()
        with storage_errors(self.out / "log.jsonl"), (self.out / "log.jsonl").open("a") as file:
            print(json.dumps(entry), file=file)
        if on_step:
            on_step(entry)

    def save(self) -> None:
        """Write the whole state; the old file stays until the new one is complete."""
        names = ("step", "stale", "seconds", "best", "best_weights", "data")
        state = {name: getattr(self, name) for name in names} | {"settings": asdict(self.s)}
        state |= {"weights": self.weights(), "optimizer": self.optimizer.state_dict()}
        packed = io.BytesIO()  # torch hides why it cannot write to a disk
        torch.save(state, packed)
        with atomic_file(self.out / "checkpoint.pt") as part:
            part.write_bytes(packed.getbuffer())

    def resume(self) -> None:
        """Take up the state that `save` wrote; raise `OptionInvalid` where settings or data are others."""
        path = self.out / "checkpoint.pt"
        try:
            with storage_errors(path, "read"):
                state = torch.load(io.BytesIO(path.read_bytes()), weights_only=True, map_location="cpu")
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            why = f"{path} is damaged: {error!s:.100}"
            raise TrainingFailed(why, fix=f"delete {self.out}, and begin again") from error
        before, now = state.pop("settings"), asdict(self.s)
        changed = [name for name in now if now[name] != before.get(name) and name not in FREE]
        if changed or state["data"] != self.data:
            what = f"other {changed[0]} ({before.get(changed[0])!r})" if changed else "other data"
            raise OptionInvalid(f"the run in {self.out} began with {what}", fix="give it a folder of its own")
        self.net.load_state_dict(state.pop("weights"), strict=False)
        self.optimizer.load_state_dict(state.pop("optimizer"))
        for name, value in state.items():
            setattr(self, name, value)

    def cut_log(self) -> None:
        """Take out what was logged after the checkpoint: those steps are taken again."""
        kept = [entry for entry in read_log(self.out) if entry["step"] <= self.step] if self.step else []
        with atomic_file(self.out / "log.jsonl") as part:
            part.write_text("".join(json.dumps(entry) + "\n" for entry in kept), "utf-8")


def read_log(out: Path) -> list[Entry]:
    """Return a run's log; a last line that a crash cut off is left out."""
    path, found = out / "log.jsonl", []
    with storage_errors(path, "read"):
        lines = path.read_text("utf-8").split("\n") if path.exists() else []
    for line in filter(None, lines):
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found
