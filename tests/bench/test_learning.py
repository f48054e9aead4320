"""The acceptance of training on rewards: nano learns a skill in at most five minutes, with each of two seeds.

Figures are printed: run it with -s. Success is greedy, on held-out wordings and values that chose nothing.
"""

from itertools import islice
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'labkit[train]'")

from labkit import load
from labkit.engines.base import Model
from labkit.metrics.agent_eval import choose, read_cases, score
from labkit.metrics.cases import data_folder
from labkit.metrics.intervals import paired
from labkit.training.data import examples
from labkit.training.finetune import load_network, model_folder, record_of, save_model
from labkit.training.grpo import GrpoSettings, grpo
from labkit.training.reward import gamed
from labkit.training.stage import LEAST, LEVELS, MOST, played, stage_tasks, trainable

pytestmark = pytest.mark.timeout(900)
MINUTES = 5.0
CASES = choose(read_cases(data_folder()), limit=4)  # 4 of each skill in each split: 176


def skill_of(model: Model, level: str, count: int, seed: int) -> list[float]:
    tasks = stage_tasks(count, seed, level, held_out=True)
    return [played(t, model.chat(t.messages, tools=t.tools, max_tokens=64)) for t in tasks]


def others_of(model: Model) -> list[bool]:
    return [not result.reason for result in score(model, CASES).results]


@pytest.fixture(scope="module")
def before() -> tuple[str, list[float], list[bool]]:
    with load("nano", "llamacpp", "F16", threads=2) as model:
        measured = {level: skill_of(model, level, 100, 7) for level in LEVELS}
        level = trainable({name: sum(hits) / 100 for name, hits in measured.items()})
        return level, skill_of(model, level, 200, 3), others_of(model)


@pytest.mark.parametrize("seed", [1, 2])
def test_nano_learns_from_rewards_alone(
    seed: int, before: tuple[str, list[float], list[bool]], tmp_path: Path
) -> None:
    level, skill, others = before
    assert LEAST <= sum(skill) / 200 <= MOST
    net, encoder = load_network(model_folder("nano"))
    known = [encoder.encode(e) for e in islice(examples(seed, {"medium": 0.6, "full": 0.4}), 300)]
    settings = GrpoSettings(seed=seed, steps=60, minutes=MINUTES, evaluate_every=15)
    chosen_by = stage_tasks(48, 100 + seed, level, held_out=True)
    tasks = stage_tasks(600, seed, level)
    log = grpo(net, encoder, tasks, played, chosen_by, settings, tmp_path / "run", known=known)
    folder = model_folder("nano")
    tuned = save_model(net, folder, tmp_path / f"stage-{seed}", record_of(settings, folder, log))
    with load(str(tuned), "llamacpp", "F16", threads=2) as model:
        learned, kept = skill_of(model, level, 200, 3), others_of(model)
    change, low, high = paired(skill, learned)
    forgot, least, most = paired(others, kept)
    print(f"\n{level}, seed {seed}: {log[-1]['step']} steps in {log[-1]['seconds']:.0f} s")
    print(
        f"  skill {sum(skill) / 200:.0%} → {sum(learned) / 200:.0%}: {change:+.1%} ({low:+.1%} to {high:+.1%})"
    )
    print(f"  others {sum(others)} → {sum(kept)} of {len(kept)}: {forgot:+.1%} ({least:+.1%} to {most:+.1%})")
    assert log[-1]["seconds"] <= 60 * MINUTES + 15  # the limit ends the run after the step that passes it
    assert change >= 0.15 and low > 0
    assert forgot >= -0.02
    assert not gamed(log)
