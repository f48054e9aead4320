"""`labkit train`, run as a student runs it, on runs so short that they teach nothing."""

import json
import subprocess
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import pytest

from labkit.errors import OptionInvalid, TrainingFailed
from labkit.training.reward import Task, read_tasks, reward_named
from labkit.training.rollouts import Rollout, Turn
from labkit.training.stage import played, stage_tasks

heavy = pytest.mark.heavy
QUICK = "steps: 2\nevaluate_every: 2\nsave_every: 1\nthreads: 1\n"
GRPO = QUICK + "tasks: 1\nsamples: 2\nmax_tokens: 8\nrehearse: 1\n"


def run(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "labkit", "train", "out", *more]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, encoding="utf-8")


def write_tasks(path: Path, tasks: list[Task]) -> Path:
    path.write_text("".join(json.dumps(asdict(task)) + "\n" for task in tasks), "utf-8")
    return path


def test_tasks_come_from_json_lines_and_a_reward_from_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = stage_tasks(3, 1)
    assert read_tasks(write_tasks(tmp_path / "t.jsonl", tasks)) == tasks
    (tmp_path / "bare.jsonl").write_text('{"messages": [{"role": "user", "content": "hi"}]}', "utf-8")
    assert read_tasks(tmp_path / "bare.jsonl") == [Task([{"role": "user", "content": "hi"}], [])]
    for line in ("{", "[]", "5", "{}", '{"messages": []}', '{"messages": [{"role": "user"}], "tools": [1]}'):
        (tmp_path / "bad.jsonl").write_text(line, "utf-8")
        with pytest.raises(TrainingFailed, match="line 1 is no task"):
            read_tasks(tmp_path / "bad.jsonl")
    (tmp_path / "a_reward_of_mine.py").write_text("def half(task, reply): return 0.5", "utf-8")
    monkeypatch.chdir(tmp_path)
    assert reward_named("a_reward_of_mine:half")(tasks[0], None) == 0.5  # type: ignore[arg-type]
    assert reward_named("labkit.training.stage:played") is played
    for wrong in ("", "a_reward_of_mine", "a_reward_of_mine:third", "no_such_module_here:f"):
        with pytest.raises(OptionInvalid, match="there is no reward"):
            reward_named(wrong)


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is installed")
def test_without_torch_it_says_what_to_type(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 1 and "pip install 'labkit[train]'" in done.stderr


@heavy
@pytest.mark.parametrize("how", ["grpo", "rejection"])
def test_it_trains_on_rewards_and_the_same_command_goes_on(tmp_path: Path, how: str) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'labkit[train]'")
    write_tasks(tmp_path / "t.jsonl", stage_tasks(6, 1))
    (tmp_path / "mine.py").write_text("def any_reply(task, reply): return 1.0", "utf-8")
    (tmp_path / "s.yaml").write_text(GRPO if how == "grpo" else QUICK + "batch: 2\n", "utf-8")
    command = ("--how", how, "--tasks", "t.jsonl", "--reward", "mine:any_reply", "--settings", "s.yaml")
    done = run(tmp_path, *command)
    assert done.returncode == 0, done.stderr
    assert "out: 2 steps" in done.stdout and "mine:any_reply" in (tmp_path / "out/README.md").read_text(
        "utf-8"
    )
    assert json.loads((tmp_path / "out/training.json").read_text("utf-8"))["base"] == "nano"
    log = (tmp_path / "out.run/log.jsonl").read_bytes()
    assert run(tmp_path, *command).returncode == 0
    assert (tmp_path / "out.run/log.jsonl").read_bytes() == log, "a finished run is not run again"


@heavy
def test_it_learns_from_rewarded_rollouts(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'labkit[train]'")
    turn = Turn("a", [{"role": "user", "content": "Hi"}], [], {}, {"role": "assistant", "content": "Ho"})
    rows = [json.dumps(asdict(Rollout(str(n), None, (turn,), 1.0))) for n in range(4)]
    (tmp_path / "r.jsonl").write_text("\n".join(rows), "utf-8")
    (tmp_path / "s.yaml").write_text(QUICK, "utf-8")
    done = run(tmp_path, "--how", "examples", "--rollouts", "r.jsonl", "--settings", "s.yaml", "--steps", "1")
    assert done.returncode == 0, done.stderr
    assert "out: 1 steps" in done.stdout and "held_out_loss" in done.stderr


@heavy
def test_what_cannot_be_trained_on_is_said_in_a_line(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'labkit[train]'")
    write_tasks(tmp_path / "t.jsonl", stage_tasks(6, 1))
    (tmp_path / "empty.jsonl").write_text("", "utf-8")
    (tmp_path / "mine.py").write_text("def broken(task, reply): return float('nan')", "utf-8")
    (tmp_path / "s.yaml").write_text(GRPO, "utf-8")
    for said, *command in (
        ("the dataset is empty", "--tasks", "empty.jsonl"),
        ("a reward of nan", "--tasks", "t.jsonl", "--reward", "mine:broken", "--settings", "s.yaml"),
        ("--how cannot be 'magic'", "--how", "magic"),
        ("--rollouts FILE goes with", "--how", "examples"),
    ):
        done = run(tmp_path, *command)
        assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
        assert not (tmp_path / "out").exists()
