"""`labkit bench` and `labkit compare`, run as a student runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from labkit.cli import app
from labkit.metrics.records import read

FAST = ("--prompt", "16", "--generate", "4", "--repeat", "2", "--force")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "labkit", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, encoding="utf-8")


def test_bench_prints_a_table_with_formulas_and_appends_records(tmp_path: Path) -> None:
    for _ in range(2):
        done = run(tmp_path, "bench", "nano", "--engine", "echo", *FAST, "--json", "a.jsonl")
        assert done.returncode == 0, done.stderr
    assert "nano on echo 1: prompt 16, generate 4, repeat 2" in done.stdout
    assert "ttft" in done.stdout and "request sent → first non-empty output" in done.stdout
    records = read(tmp_path / "a.jsonl")
    assert len(records) == 2 and len(records[0].samples["ttft"]) == 2
    done = run(tmp_path, "compare", "a.jsonl", "a.jsonl")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("bench nano") and "× 1.000" in done.stdout and "95 %" in done.stdout
    done = run(tmp_path, "compare", "a.jsonl", "a.jsonl", "--json")
    rows = {row["metric"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert rows["tpot"]["ratio"] == 1 and rows["tpot"]["better"] is None and "low" not in rows["load_time"]


def test_variants_of_nano_are_columns(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    done = run(tmp_path, "bench", "--engine", "llamacpp", "--variant", "F16,Q5_1", "--threads", "1", *FAST)
    assert done.returncode == 0, done.stderr
    table = [line.split() for line in done.stdout[done.stdout.index("nano on llamacpp") :].splitlines()]
    assert table[2] == ["F16", "Q5_1"] and ["pp", "16"] in [row[:2] for row in table]
    assert done.stdout.count("peak_memory") == 2, "a row, and its formula"


def test_a_busy_machine_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(os, "getloadavg"):
        pytest.skip("this system has no load average")
    monkeypatch.setattr(os, "getloadavg", lambda: (999.0, 0.0, 0.0))
    arguments = ["bench", "nano", "--engine", "echo"]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 1 and refused.stdout == ""
    assert refused.stderr.count("\n") == 1 and "999.0" in refused.stderr and "--force" in refused.stderr
    forced = CliRunner().invoke(app, [*arguments, *FAST])
    assert forced.exit_code == 0 and "Not to be trusted: the load is 999.0" in forced.stdout
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    assert "Not to be trusted" not in CliRunner().invoke(app, [*arguments, *FAST[:-1]]).stdout


def test_files_are_compared_record_by_record(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        run(tmp_path, "bench", "--engine", "echo", *FAST, "--json", name)
    run(tmp_path, "bench", "--engine", "echo", "--variant", "Q8_0", *FAST, "--json", "b.jsonl")
    done = run(tmp_path, "compare", "a.jsonl", "b.jsonl")
    assert done.returncode == 0 and "only one file has bench nano echo Q8_0" in done.stderr
    row = json.loads((tmp_path / "a.jsonl").read_text("utf-8"))
    row["about"]["machine"]["cpu"] = "Z80"
    (tmp_path / "c.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    done = run(tmp_path, "compare", "a.jsonl", "c.jsonl")
    assert done.returncode == 1 and "Z80" in done.stderr and "--across-machines" in done.stderr
    done = run(tmp_path, "compare", "a.jsonl", "c.jsonl", "--across-machines")
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if ": × " in line]
    assert lines and all("on another machine" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("bench", "--engine", "echo", "--threads", "1", *FAST), "echo has no option 'threads'"),
        (("bench", "--engine", "echo", *FAST, "--json", "no/such/a.jsonl"), "cannot be written"),
        (("bench", "nona", "--engine", "echo", *FAST), "no model 'nona'"),
        (("compare", "a.jsonl", "b.jsonl"), "a.jsonl cannot be read"),
        (("compare", "bad.jsonl", "bad.jsonl"), "bad.jsonl, line 1 is no record"),
        (("compare", "empty.jsonl", "empty.jsonl"), "no records in common"),
    ],
)
def test_errors_say_what_to_do(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    (tmp_path / "bad.jsonl").write_text('{"kind": "run"}\n', "utf-8")
    (tmp_path / "empty.jsonl").touch()
    done = run(tmp_path, *arguments)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("labkit: ") and words in done.stderr and "→" in done.stderr
