"""Teach nano a skill by rewards, deploy what came of it, and examine it: what lab 17 and its benchmark do.

Training needs torch (extra `train`). Without it a school repeats what `tests/bench/record_school.py` recorded on
another machine, and `about` says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from labkit.engines.base import Model
from labkit.engines.hf_folder import read_json
from labkit.engines.llamacpp_files import shipped_folder, weights_hash
from labkit.engines.registry import load
from labkit.errors import OptionInvalid, TrainingFailed
from labkit.metrics.agent_eval import choose, read_cases, score
from labkit.metrics.cases import data_folder
from labkit.models.catalog import find
from labkit.models.hardware import usable_cores
from labkit.training.data import examples
from labkit.training.reward import Reward, Task
from labkit.training.stage import LEVELS, played, stage_tasks

HERE = all(
    map(find_spec, ("torch", "transformers", "onnx_ir", "onnxruntime_genai", "safetensors", "tokenizers"))
)
RECORDING = Path(__file__).with_name("school_recorded.json")
TRAIN, CHOOSE, REHEARSE = (
    600,
    48,
    300,
)  # tasks to learn from, tasks that choose the weights, examples of other skills
Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Budget:
    """Say how much a school does: steps of training, tasks in an exam, cases of each other skill and split.

    `minutes` ends a training early.
    """

    steps: int = 50
    tasks: int = 200
    cases: int = 4
    minutes: float = 4.0


CLASS, SHORT = Budget(), Budget(steps=6, tasks=40, cases=1)


@dataclass(frozen=True, slots=True)
class Exam:
    """Hold 1 or 0 for each task of the stage, and for each case of every other skill; `mb` is the model file's size."""

    stage: Sequence[float]
    others: Mapping[str, Sequence[float]]
    mb: float

    def all_others(self) -> list[float]:
        """Return the marks of all other skills in one list."""
        return [mark for marks in self.others.values() for mark in marks]


def measure_levels(model: Model, count: int) -> dict[str, float]:
    """Return the share of held-out tasks that a model does, level by level."""
    asked = {level: stage_tasks(count, 7, level, held_out=True) for level in LEVELS}
    return {level: sum(play(model, tasks)) / count for level, tasks in asked.items()}


def play(model: Model, tasks: Sequence[Task]) -> list[float]:
    """Let a model work the stage, greedily; return 1 or 0 for each task."""
    return [played(task, model.chat(task.messages, tools=task.tools, max_tokens=64)) for task in tasks]


class School:
    """Teach `level` of the stage. Models and runs lie in `folder`; a run that was stopped goes on from there.

    Where torch is missing the level is the recording's.
    """

    def __init__(
        self, level: str, folder: Path | None = None, budget: Budget | None = None, seed: int = 1
    ) -> None:
        if level not in LEVELS:
            raise OptionInvalid(f"there is no level {level!r}", fix=f"choose from: {', '.join(LEVELS)}")
        self.budget = budget or (SHORT if os.environ.get("CI") else CLASS)
        self.folder, self.seed = folder or Path(tempfile.mkdtemp()), seed
        self.saved: Mapping[str, Any] = {} if HERE else read_json(RECORDING)
        self.level = self.saved.get("level", level)

    @property
    def about(self) -> str:
        """Say whether what this school tells is measured here, or recorded, and with which weights of nano."""
        if not self.saved:
            return f"measured here: {self.budget.steps} steps, {self.budget.tasks} tasks in an exam"
        same = self.saved["weights"] == weights_hash(shipped_folder(find("nano").refs["onnx"]))
        other = "" if same else ", with earlier weights of nano than yours"
        return f"recorded ({self.saved['about']}{other}), since the extra `train` is not installed here"

    def teach(
        self, name: str, reward: Reward, on_step: Callable[[Entry], object] | None = None, **settings: Any
    ) -> list[Entry]:
        """Train nano on a reward by GRPO and keep it as `name`; return the log. `settings` are of `GrpoSettings`."""
        if self.saved:
            for entry in self._recorded("logs", name) if on_step else ():
                on_step(entry)  # type: ignore[misc]
            return list(self._recorded("logs", name))
        from labkit.training.finetune import load_network, model_folder, record_of, save_model
        from labkit.training.grpo import GrpoSettings, grpo

        base, seed = model_folder("nano"), self.seed
        net, encoder = load_network(base)
        known = [encoder.encode(e) for e in islice(examples(seed, {"medium": 0.6, "full": 0.4}), REHEARSE)]
        given: dict[str, Any] = {"steps": self.budget.steps, "minutes": self.budget.minutes, "seed": seed}
        s = GrpoSettings(**{**given, "evaluate_every": 15, "threads": min(usable_cores(), 8), **settings})
        chosen_by = stage_tasks(CHOOSE, 100 + seed, self.level, held_out=True)
        tasks, run = stage_tasks(TRAIN, seed, self.level), self.folder / f"{name}.run"
        log = grpo(
            net, encoder, tasks, reward, chosen_by, s, run, success=played, known=known, on_step=on_step
        )
        save_model(net, base, self.folder / name, record_of(s, base, log))
        return log

    def to_onnx(self, name: str) -> None:
        """Export a trained model for ONNX Runtime; raise `TrainingFailed` with what the exporter said."""
        if self.saved:
            return
        command = [sys.executable, "-m", "labkit.training.export_onnx", str(self.folder / name)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            why = f"{name} was not exported: {done.stderr.strip()[-300:]}"
            raise TrainingFailed(why, fix="pip install 'labkit[train]', and try again")

    def examine(self, name: str = "nano", engine: str = "llamacpp", variant: str = "F16") -> Exam:
        """Ask a model held-out tasks of the stage, and cases of everything else it can do, greedily.

        `name` is nano or one that was taught. The tasks are always the same, and none was trained on or chosen by.
        """
        if self.saved:
            return Exam(**self._recorded("exams", f"{name} {engine} {variant}"))
        tasks = stage_tasks(self.budget.tasks, 3, self.level, held_out=True)
        cases, others = choose(read_cases(data_folder()), limit=self.budget.cases), dict[str, list[float]]()
        with load(name if name == "nano" else str(self.folder / name), engine, variant) as model:
            stage = play(model, tasks)
            for result in score(model, cases).results:
                others.setdefault(result.case.skill, []).append(float(not result.reason))
            file = model.engine.file
            return Exam(stage, others, file.stat().st_size / 1e6 if file else 0.0)

    def _recorded(self, kind: str, name: str) -> Any:
        if name not in self.saved[kind]:
            known = ", ".join(self.saved[kind])
            raise OptionInvalid(
                f"nobody recorded {name!r}", fix=f"pip install 'labkit[train]', or take: {known}"
            )
        return self.saved[kind][name]
