"""`labkit train`: teach a model by rewards or by examples; the same command goes on with a run that was stopped."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from labkit.training.encoding import Encoder
    from labkit.training.network import Llama
    from labkit.training.reward import Reward, Task

Kind = TypeVar("Kind")
OUR_STAGE = "labkit.training.stage:played"
COPIES = 4  # replies to a task, of which those with reward 1 are kept


def train(
    out: Annotated[Path, typer.Argument(help="Folder for the trained model; its run lies in OUT.run.")],
    model: Annotated[str, typer.Option(help="nano, pico, or a folder that was trained here.")] = "nano",
    how: Annotated[str, typer.Option(help="grpo or rejection (rewards), or examples.")] = "grpo",
    tasks: Annotated[
        Path | None, typer.Option(help="JSON lines of messages, tools and goal; else a theatre's stage.")
    ] = None,
    reward: Annotated[str, typer.Option(metavar="MODULE:NAME", help="What judges a reply.")] = OUR_STAGE,
    rollouts: Annotated[
        Path | None, typer.Option(help="Rollouts as JSON lines: those with reward 1 are the examples.")
    ] = None,
    settings: Annotated[Path | None, typer.Option(help="YAML with the run's settings.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps, whatever the settings say.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the stage's tasks and of what is drawn.")] = 1,
) -> None:
    """Train a model on this machine, and write it as a folder that `labkit chat` and `labkit eval` take.

    A tenth of the tasks or examples is held out: it decides which weights are kept.
    """
    from labkit.errors import OptionInvalid, TrainingFailed

    if not find_spec("torch"):
        raise TrainingFailed("torch is not installed", fix="pip install 'labkit[train]'")
    if how not in ("grpo", "rejection", "examples"):
        raise OptionInvalid.of("--how", how, "choose from: grpo, rejection, examples")
    if (how == "examples") != (rollouts is not None):
        raise OptionInvalid(f"--how {how} with {rollouts}", fix="--rollouts FILE goes with --how examples")
    from labkit.training.card import write_trained_card
    from labkit.training.finetune import (
        FinetuneSettings,
        fit,
        load_network,
        model_folder,
        record_of,
        save_model,
    )
    from labkit.training.grpo import GrpoSettings
    from labkit.training.reward import read_tasks, reward_named
    from labkit.training.rollouts import examples, read_rollouts
    from labkit.training.runs import read_settings
    from labkit.training.stage import stage_tasks

    base, run = model_folder(model), out.with_name(f"{out.name}.run")
    net, encoder = load_network(base)
    given: dict[str, Any] = {"seed": seed} | ({"steps": steps} if steps else {})
    kind = GrpoSettings if how == "grpo" else FinetuneSettings
    s: Any = replace(read_settings(kind, settings) if settings else kind(), **given)
    if rollouts:
        known = [encoder.encode(example) for example in examples(read_rollouts(rollouts))]
        log = fit(net, *_parted(known), s, run, _tell)
    else:
        asked = read_tasks(tasks) if tasks else stage_tasks(600, seed)
        log = _from_rewards(net, encoder, asked, reward_named(reward), s, run)
    save_model(net, base, out, record_of(s, base, log))
    data = str(rollouts or tasks or "stage_tasks(600)")
    write_trained_card(out, log, {}, data=data, **({} if rollouts else {"reward": reward}))
    print(f"{out}: {log[-1]['step']} steps in {log[-1].get('seconds', 0):.0f} s; its card is {out}/README.md")
    print(f"try it: labkit chat {out} · labkit eval {out} --limit 4")


def _from_rewards(
    net: Llama, encoder: Encoder, asked: Sequence[Task], judge: Reward, s: Any, run: Path
) -> list[dict[str, Any]]:
    from labkit.training.data import examples
    from labkit.training.finetune import fit
    from labkit.training.grpo import GrpoSettings, Policy, grpo, keep_rewarded

    practice, held_out = _parted(asked)
    if not isinstance(s, GrpoSettings):
        kept = keep_rewarded(Policy(net, encoder), practice, judge, COPIES, seed=s.seed)
        print(f"{len(kept)} replies to {len(practice)} tasks were rewarded", file=sys.stderr)
        return fit(net, *_parted(kept), s, run, _tell)
    known = [encoder.encode(e) for e in islice(examples(s.seed, {"medium": 0.6, "full": 0.4}), 300)]
    return grpo(net, encoder, practice, judge, held_out, s, run, known=known, on_step=_tell)


def _parted(data: Sequence[Kind]) -> tuple[Sequence[Kind], Sequence[Kind]]:
    """Part what is trained on from what is held out: every tenth, at least one."""
    return [each for at, each in enumerate(data) if at % 10], data[::10][:64]


def _tell(entry: dict[str, Any]) -> None:
    if "score" in entry:
        told = ", ".join(f"{name} {value:.3g}" for name, value in entry.items() if name != "score")
        print(told, file=sys.stderr)
