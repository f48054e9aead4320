"""Fine-tuning in miniature: settings, learning, resuming after a kill, and errors that keep the last checkpoint."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'labkit[train]'")

import torch
from tiny import QUICK, encoder, says, tiny

from labkit.errors import ModelNotFound, OptionInvalid, StorageFailed, TrainingFailed
from labkit.models.catalog import find
from labkit.training.finetune import (
    FinetuneSettings,
    fit,
    load_network,
    model_folder,
    order,
    record_of,
    save_model,
)
from labkit.training.runs import Entry, read_log, read_settings, write_settings

pytestmark = pytest.mark.heavy
CODER = encoder()
TRAIN = [says(CODER, f"Say {word}.", word) for word in ("one", "two", "three", "four", "five")]


def settings(**more: object) -> FinetuneSettings:
    return FinetuneSettings(**{**QUICK, "batch": 2, "steps": 8, **more})  # type: ignore[arg-type]


def curve(log: list[Entry]) -> list[Entry]:
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in log]


def test_settings_survive_yaml(tmp_path: Path) -> None:
    made = settings(rate=0.01, lora_rank=4, bf16=True, minutes=2)
    write_settings(made, tmp_path / "s.yaml")
    assert read_settings(FinetuneSettings, tmp_path / "s.yaml") == made


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pace: 3", "no option 'pace'"),
        ("rate: .nan", "rate cannot be nan"),
        ("rate: .inf", "rate cannot be inf"),
        ("steps: -1", "steps cannot be -1"),
        ("steps: 2.5", "steps cannot be 2.5"),
        ("steps: true", "steps cannot be True"),
        ("rate: 1e-3", "rate cannot be '1e-3'"),
        ("bf16: 1", "bf16 cannot be 1"),
        ("steps: [", "no YAML"),
        ("- 1", "holds no settings"),
        ("1: 2", "holds no settings"),
        ("", "holds no settings"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(OptionInvalid, match=said):
        read_settings(FinetuneSettings, tmp_path / "s.yaml")


def test_every_epoch_sees_every_example_once() -> None:
    seen = [at for step in range(5) for at in order(10, 4, 7, step)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:] and order(10, 4, 7, 3) == order(10, 4, 7, 3) != order(10, 4, 8, 3)


@pytest.mark.parametrize(
    ("rank", "least"), [(0, 0.8), (8, 0.95)]
)  # LoRA leaves the random embedding as it is
def test_it_learns_what_it_is_shown(tmp_path: Path, rank: int, least: float) -> None:
    seen: list[Entry] = []
    s = settings(steps=40, lora_rank=rank, rate=2e-2)
    log = fit(tiny(), TRAIN, TRAIN[:2], s, tmp_path, seen.append)
    assert log == seen == read_log(tmp_path)
    assert [entry["step"] for entry in log] == list(range(41))
    assert log[-1]["held_out_loss"] < least * log[0]["held_out_loss"]


def test_it_stops_early_and_keeps_the_best_weights(tmp_path: Path) -> None:
    net = tiny()
    log = fit(net, TRAIN[:1], TRAIN[3:], settings(steps=400, patience=2, rate=0.05), tmp_path)
    looks = [entry["score"] for entry in log if "score" in entry]
    assert log[-1]["step"] < 400 and max(looks) > looks[-1]
    again = fit(net, TRAIN[:1], TRAIN[3:], settings(steps=1, rate=1e-9), tmp_path / "other")
    assert again[0]["score"] == pytest.approx(max(looks))


RUN = """
import sys, time
from pathlib import Path
from test_finetune import TRAIN, fit, settings, tiny
fit(tiny(), TRAIN, TRAIN[:2], settings(steps=12, lora_rank=4), Path(sys.argv[1]), lambda e: time.sleep(0.2))
"""


def test_killed_in_the_middle_it_goes_on_with_the_same_curve(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    command = [sys.executable, "-c", RUN, str(tmp_path / "killed")]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths})
    deadline = time.monotonic() + 90
    while len(read_log(tmp_path / "killed")) < 7 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    left = read_log(tmp_path / "killed")
    assert 7 <= len(left) < 12
    s = settings(steps=12, lora_rank=4)
    one, other = tiny(), tiny()
    whole = fit(one, TRAIN, TRAIN[:2], s, tmp_path / "whole")
    resumed = fit(other, TRAIN, TRAIN[:2], s, tmp_path / "killed")
    assert curve(resumed) == curve(whole)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    first = fit(tiny(), TRAIN, TRAIN[:2], settings(), tmp_path)
    assert fit(tiny(), TRAIN, TRAIN[:2], settings(), tmp_path) == first


def test_another_run_does_not_go_on_in_its_place(tmp_path: Path) -> None:
    fit(tiny(), TRAIN, TRAIN[:2], settings(), tmp_path)
    with pytest.raises(OptionInvalid, match="other rate"):
        fit(tiny(), TRAIN, TRAIN[:2], settings(rate=0.1), tmp_path)
    with pytest.raises(OptionInvalid, match="other data"):
        fit(tiny(), TRAIN[1:], TRAIN[:2], settings(), tmp_path)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    fit(tiny(), TRAIN, TRAIN[:2], settings(), tmp_path)
    whole = (tmp_path / "checkpoint.pt").read_bytes()
    for damaged in (b"", b"no checkpoint", whole[: len(whole) // 2]):
        (tmp_path / "checkpoint.pt").write_bytes(damaged)
        with pytest.raises(TrainingFailed, match="checkpoint.pt is damaged"):
            fit(tiny(), TRAIN, TRAIN[:2], settings(), tmp_path)


@pytest.mark.parametrize(("train", "held_out"), [([], TRAIN), (TRAIN, [])])
def test_no_data_is_no_run(tmp_path: Path, train: list[object], held_out: list[object]) -> None:
    with pytest.raises(TrainingFailed, match="dataset is empty"):
        fit(tiny(), train, held_out, settings(), tmp_path)  # type: ignore[arg-type]


def test_a_loss_that_is_no_number_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    net = tiny()

    def poison(entry: Entry) -> None:
        if entry["step"] == 5:
            net.norm.weight.data[0] = torch.nan

    with pytest.raises(TrainingFailed, match="loss is nan at step 6"):
        fit(net, TRAIN, TRAIN[:2], settings(), tmp_path, poison)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 4
    whole = fit(tiny(), TRAIN, TRAIN[:2], settings(), tmp_path / "whole")
    assert curve(fit(tiny(), TRAIN, TRAIN[:2], settings(), tmp_path)) == curve(whole)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from test_finetune import TRAIN, fit, settings, tiny
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def fill(entry):
    if entry["step"] == 5:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
fit(tiny(), TRAIN, TRAIN[:2], settings(), Path(sys.argv[1]), fill)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files as Unix does")
def test_no_room_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True)
    assert StorageFailed.__name__ in done.stderr and "larger than is allowed" in done.stderr
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 4
    assert not list(tmp_path.glob("*.part"))


def test_a_trained_folder_is_loaded_by_its_path(tmp_path: Path) -> None:
    base = model_folder("nano")
    net, _ = load_network(base)
    with torch.no_grad():
        net.norm.weight += 0.01
    record = record_of(settings(), base, [{"step": 3}])
    out = save_model(net, base, tmp_path / "my nano", record)
    card = find(str(out))
    assert (card.alias, card.shipped, card.layers) == ("my-nano", True, find("nano").layers)
    again, _ = load_network(model_folder(str(out)))
    torch.testing.assert_close(again.norm.weight, net.norm.weight, atol=1e-3, rtol=1e-3)
    assert json.loads((out / "training.json").read_text())["base"] == "nano"
    assert record_of(settings(), out, [{"step": 3}])["base"] == "nano"
    (out / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(ModelNotFound, match="template is not labkit's"):
        find(str(out))
