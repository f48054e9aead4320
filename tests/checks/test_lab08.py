"""Lab 08's checks accept every right answer and explain the wrong ones; its rule is the one Foundry goes by."""

import json
from pathlib import Path

import pytest
from judging import verdict

from labkit.checks.lab08 import (
    CODER_BYTES,
    CODER_PARAMETERS,
    HOUSE,
    NAMES,
    ORDER,
    RECORDED,
    device,
    q1,
    q2,
    q3,
    q4,
)

PICKS = {"till": HOUSE[0], "tower": HOUSE[2], "tablet": HOUSE[3], "laptop": HOUSE[0]}
KINDS = {"room": {"type": "string"}, "celsius": {"type": "number"}}
SCHEMA = {"type": "object", "properties": KINDS, "required": ["room", "celsius"]}


def version(name: str) -> int:
    return int(name.split(":")[1])


def test_a_name_says_the_device() -> None:
    names = (
        "a-qnn-npu:1",
        "a-trtrtx-gpu:2",
        "a-cuda-gpu:1",
        "a-generic-gpu:1",
        "a-vitis-cpu:1",
        "A-Generic-CPU:1",
        "a:1",
    )
    assert tuple(map(device, names)) == ORDER


def test_q1(capsys: pytest.CaptureFixture[str]) -> None:
    for right in (PICKS, {machine: f" {name}" for machine, name in PICKS.items()}):
        assert verdict(q1, capsys, right)[0] == "right"
    assert verdict(q1, capsys, ...)[0] == "not attempted"
    for wrong, said in (
        (PICKS | {"laptop": HOUSE[2]}, "downloaded already"),
        (PICKS | {"tower": HOUSE[1]}, "CUDA variant stands before"),
        (PICKS | {"tower": HOUSE[3]}, "no NPU"),
        (PICKS | {"till": "house"}, "nothing but a processor"),
        (HOUSE, "four machines"),
        ({"till": HOUSE[0]}, "four machines"),
    ):
        state, text = verdict(q1, capsys, wrong)
        assert (state, said in text) == ("wrong", True), text


def test_q2(capsys: pytest.CaptureFixture[str]) -> None:
    for right in (
        lambda name: (ORDER.index(device(name)), -version(name)),
        lambda name: 1000 * ORDER.index(device(name)) - version(name),
        lambda name: [ORDER.index(device(name)), 1 / version(name)],
    ):
        assert verdict(q2, capsys, RECORDED, right)[0] == "right"
    for wrong, said in (
        (lambda name: (ORDER.index(device(name)), name), "versions are numbers"),
        (lambda name: (ORDER.index(device(name)), version(name)), "the higher one comes first"),
        (lambda name: (-ORDER.index(device(name)), version(name)), "worst first"),
        (lambda name: (device(name), -version(name)), "their place in ORDER"),
        (7, "without brackets"),
    ):
        state, text = verdict(q2, capsys, RECORDED, wrong)
        assert (state, said in text) == ("wrong", True), text


def test_foundry_sorts_by_that_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the lab shows as a recording is what the package installed here does."""
    sdk = pytest.importorskip(
        "foundry_local_sdk", reason="needs foundry-local-sdk: pip install 'labkit[foundry]'"
    )
    from labkit.engines.foundry_models import register, start

    manager = start()
    (tmp_path / "genai_config.json").write_text('{"model": {"context_length": 64}}')
    local = manager.get_catalog(sdk.CatalogType.LOCAL)
    names = [name.replace("lamp", "tested-lamp") for name in NAMES]
    for name in names:
        register(manager, tmp_path, name)
    try:
        found = [variant.id for variant in local.get_model("tested-lamp").variants]
    finally:
        for name in names:
            local.unregister_model(name)
    assert found == [name.replace("lamp", "tested-lamp") for name in RECORDED]
    assert found == sorted(names, key=lambda name: (ORDER.index(device(name)), -version(name)))


def test_q3(capsys: pytest.CaptureFixture[str]) -> None:
    sentence = "Set the temperature of a room."
    whole = KINDS | {"celsius": {"type": "integer", "minimum": 5}}
    for right in (
        ("set_heating", sentence, json.dumps(SCHEMA)),
        ("heat", sentence, json.dumps(SCHEMA | {"properties": whole, "required": ["celsius", "room"]})),
    ):
        assert verdict(q3, capsys, *right)[0] == "right"
    assert verdict(q3, capsys, ..., ..., ...)[0] == "not attempted"
    for wrong, said in (
        (("set_heating", sentence, SCHEMA), "json.dumps"),
        (("set heating", sentence, json.dumps(SCHEMA)), "no name for a tool"),
        (("set_heating", "heat", json.dumps(SCHEMA)), "write a sentence"),
        (("set_heating", sentence, "{'type': 'object'}"), "no JSON"),
        (("set_heating", sentence, json.dumps(KINDS)), "an object"),
        (("set_heating", sentence, json.dumps(SCHEMA | {"required": ["room"]})), "required"),
        (
            ("h", sentence, json.dumps(SCHEMA | {"properties": {"room": {"type": "string"}}})),
            "number celsius",
        ),
        (
            ("h", sentence, json.dumps(SCHEMA | {"properties": KINDS | {"celsius": {"type": "string"}}})),
            "is a number",
        ),
    ):
        state, text = verdict(q3, capsys, *wrong)
        assert (state, said in text) == ("wrong", True), text


def test_q4(capsys: pytest.CaptureFixture[str]) -> None:
    right = CODER_BYTES * 8 / CODER_PARAMETERS
    for answer in (right, round(right, 1), "9.93"):
        assert verdict(q4, capsys, answer)[0] == "right"
    for wrong, said in (
        (right / 8, "bytes a weight"),
        (1 / right, "turned over"),
        (right / 1.024**3, "no unit"),
        (4, "bytes × 8"),
        (float("nan"), "bytes × 8"),
    ):
        state, text = verdict(q4, capsys, wrong)
        assert (state, said in text) == ("wrong", True), text
