"""Records as JSON lines, and what may be compared with what."""

import json
import math
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import labkit
from labkit.errors import LabkitError, OptionInvalid, StorageFailed
from labkit.metrics.records import METRICS, Record, about, compare, read, write
from labkit.models import store

MACHINE = {
    "cpu": "Z80",
    "arch": "z80",
    "logical_cores": 1,
    "usable_cores": 1,
    "memory_total": 65536,
    "gpus": [],
}


def record(tg: list[float], machine: dict[str, Any] = MACHINE, **settings: Any) -> Record:
    facts = {"machine": machine, "settings": settings, "engine_version": "1"}
    return Record("bench", facts, {"tg": tg, "ttft": [0.5]}, {"peak_memory": 2e6})


def test_what_was_written_is_read_again_and_files_are_appended_to(tmp_path: Path) -> None:
    path, records = tmp_path / "a.jsonl", [record([1.0, 2.5]), record([3.0], threads=2)]
    write(path, records[:1])
    write(path, records[1:])
    assert read(path) == records
    row = json.loads(path.read_text("utf-8").splitlines()[1])
    assert row["samples"]["tg"] == [3.0] and "[tokens/s]" in row["formulas"]["tg"]


def test_what_was_not_measured_is_absent_and_every_metric_is_defined() -> None:
    made = Record("load", {}, {"tpot": [0.1, math.nan], "itl": []}, {"ppl": math.inf, "goodput": 2.0})
    assert made.samples == {"tpot": [0.1], "itl": []} and made.figures == {"goodput": 2.0}
    with pytest.raises(OptionInvalid, match="no metric 'speediness'"):
        Record("load", {}, {}, {"speediness": 1.0})
    assert all(metric.formula for metric in METRICS.values())


def test_a_torn_line_spoils_neither_the_line_before_nor_the_one_after(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, [record([1.0])])
    path.write_bytes(path.read_bytes() + b'{"kind": "ben')
    write(path, [record([2.0])])
    with pytest.raises(LabkitError, match="a.jsonl, line 2 is no record") as caught:
        read(path)
    assert "delete that line" in caught.value.fix
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[2])
    assert [r.samples["tg"] for r in read(path)] == [[1.0], [2.0]]


@pytest.mark.parametrize(
    "line",
    ["", "[]", "3", "{", '{"kind": "run"}', '{"kind":"x","about":{},"samples":{},"figures":{},"formulas":{}}',
     '{"kind":"x","about":{"machine":{},"settings":3},"samples":{},"figures":{},"formulas":{}}',
     '{"kind":"x","about":{"machine":{},"settings":{}},"samples":{"tg":["fast"]},"figures":{},"formulas":{}}',
     '{"kind":"x","about":{"machine":{},"settings":{}},"samples":{"tg":[1]},"figures":{},"formulas":{}}'],
)  # fmt: skip
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "bad.jsonl"
    write(path, [record([1.0])])
    path.write_text(path.read_text("utf-8") + line + "\n", "utf-8")
    with pytest.raises(LabkitError, match="bad.jsonl, line 2 is no record"):
        read(path)


def test_a_place_that_cannot_be_written_or_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="cannot be written") as caught:
        write(tmp_path / "no" / "a.jsonl", [])
    assert caught.value.fix
    with pytest.raises(LabkitError, match="cannot be read"):
        read(tmp_path / "none.jsonl")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_line_that_does_not_fit_is_taken_back(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from labkit.errors import StorageFailed
from labkit.metrics.records import Record, read, write
path, facts = sys.argv[1], {"machine": {}, "settings": {}}
write(path, [Record("bench", facts, {"tg": [1.0]}, {})])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
try:
    write(path, [Record("bench", facts, {"tg": [1.0] * 1000}, {})])
except StorageFailed as error:
    print(error)
print([r.samples for r in read(path)])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.jsonl")], capture_output=True, text=True
    )
    assert "cannot be written" in done.stdout and done.stdout.endswith("[{'tg': [1.0]}]\n"), done.stderr


def test_the_ratio_and_its_interval_are_those_of_the_samples() -> None:
    rng = random.Random(1)
    before = record([rng.gauss(100, 5) for _ in range(200)])
    after = record([rng.gauss(150, 5) for _ in range(200)])
    found = {line.metric: line for line in compare(before, after)}
    tg = found["tg"]
    assert tg.low < 1.5 < tg.high and tg.high - tg.low < 0.03 and tg.better is True and "better" in str(tg)
    assert compare(after, before)[0].better is False
    assert compare(before, after) == compare(before, after), "the bootstrap is seeded"
    wide = compare(before, after, confidence=0.999)[0]
    assert wide.low < tg.low and wide.high > tg.high
    assert found["peak_memory"].ratio == 1 and math.isnan(found["peak_memory"].low)
    assert found["ttft"].better is None, "one sample bounds nothing"
    same = compare(before, before)[0]
    assert same.low < 1 < same.high and same.better is None


@pytest.mark.parametrize("metric", ["tg", "ttft", "itl"])
@pytest.mark.parametrize("requests", [5, 30])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(metric: str, requests: int) -> None:
    rng = random.Random(2)

    def draw() -> Record:
        """Gaps of one request are alike: pooled as if each stood for itself, they would promise too much."""
        speeds = [rng.gauss(100, 5) for _ in range(requests)]
        gaps = [rng.gauss(speed, 1) for speed in speeds for _ in range(8)]
        about = record([1.0]).about
        return Record("bench", about, {"tg": speeds, "ttft": speeds, "itl": gaps}, {})

    pairs = [{line.metric: line for line in compare(draw(), draw())}[metric] for _ in range(60)]
    held = sum(line.low <= 1 <= line.high for line in pairs)
    assert held >= 50, "60 intervals of 95 %: fewer than 50 has a chance below 0.1 %"


def test_other_settings_are_listed_and_other_definitions_refused() -> None:
    notes = compare(record([1.0], threads=1), record([2.0], threads=2))[0].notes
    assert notes == ("threads 1 → 2",)
    with pytest.raises(OptionInvalid, match="kinds differ: bench, load"):
        compare(record([1.0]), replace(record([1.0]), kind="load"))
    odd = replace(record([1.0]), formulas={**record([1.0]).formulas, "tg": "tokens / lunch break [tokens/s]"})
    with pytest.raises(OptionInvalid, match="definitions of tg differ"):
        compare(record([1.0]), odd)
    with pytest.raises(OptionInvalid, match="confidence"):
        compare(record([1.0]), record([1.0]), confidence=95)
    alone = replace(record([1.0]), figures={}, formulas={})
    assert "peak_memory is in one of them only" in compare(record([1.0]), alone)[0].notes


def test_another_machine_is_refused_or_said_on_every_line() -> None:
    other = record([1.0], machine={**MACHINE, "cpu": "6502"})
    with pytest.raises(OptionInvalid, match="cpu Z80 → 6502"):
        compare(record([1.0]), other)
    lines = compare(record([1.0]), other, across_machines=True)
    assert lines and all("on another machine" in str(line) for line in lines)
    busy = record([1.0], machine={**MACHINE, "load": 3.0, "memory_available": 7})
    assert compare(record([1.0]), busy)[0].notes == ()


def test_about_names_machine_engine_and_the_very_file(tmp_path: Path) -> None:
    with labkit.load("nano", engine="echo") as model:
        facts = about(model, threads=1)
    assert facts["engine"] == "echo" and facts["weights"] == "" and facts["settings"] == {"threads": 1}
    assert (
        facts["machine"]["cpu"] and facts["created"].endswith("Z") and facts["labkit"] == labkit.__version__
    )
    pytest.importorskip("llama_cpp")
    with labkit.load("nano", engine="llamacpp", variant="F16", threads=1) as model:
        mine = tmp_path / "mine.gguf"
        mine.write_bytes(store.file_of("nano", "F16").read_bytes())
        assert about(model)["weights"] == store.hash_file(mine)
        model.engine.file = mine
        assert about(model)["weights"] == store.hash_file(mine)
        mine.write_bytes(b"another")
        os.utime(mine, ns=(1, 1))
        assert about(model)["weights"] == store.hash_file(mine)
        mine.unlink()
        assert about(model)["weights"] == ""
