"""`labkit race` and `labkit models fit`, run as a student runs them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from labkit.cli import app
from labkit.metrics.records import read
from labkit.models import hardware, store


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "labkit", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, encoding="utf-8")


def test_race_prints_a_table_and_appends_a_record_for_each_engine(tmp_path: Path) -> None:
    quick = ("--engines", "echo,openai", "--prompts", "1", "--repeat", "1", "--starts", "1")
    done = run(tmp_path, "race", "nano", *quick, "--json", "race.jsonl")
    assert done.returncode == 0, done.stderr
    assert "openai did not run" in done.stdout and "start = process started" in done.stdout
    assert [record.about["engine"] for record in read(tmp_path / "race.jsonl")] == ["echo"]


def test_an_engine_of_no_known_name_is_refused_in_words(tmp_path: Path) -> None:
    done = run(tmp_path, "race", "--engines", "llamacp")
    assert done.returncode == 1 and done.stdout == ""
    assert "did you mean 'llamacpp'?" in done.stderr and "Traceback" not in done.stderr


def fit(*options: str) -> dict[str, str]:
    done = CliRunner().invoke(app, ["models", "fit", *options])
    assert done.exit_code == 0, done.output
    return dict(re.split(r"\s+", line, maxsplit=1) for line in done.output.splitlines()[1:])


def test_fit_says_which_variant_and_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "memory", lambda: (8 * 10**9, 3 * 10**9))
    monkeypatch.setattr(store, "free_bytes", lambda: 10**12)
    said = fit()
    assert re.fullmatch(r"yes: F16 needs [\d.]+ MB, 3.0 GB free", said["nano"])
    assert re.fullmatch(r"yes: \w+ needs 2.\d GB, 3.0 GB free; Q8_0 does not fit", said["phi-4-mini"])
    assert re.fullmatch(r"no: even Q2_K needs [\d.]+ GB, 3.0 GB free", said["phi-4"])
    assert fit("--context", "8192")["nano"] == "no: its context ends at 2,048 tokens"


def test_fit_looks_at_the_disk_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "free_bytes", lambda: 400_000_000)
    said = fit()
    assert said["nano"].startswith("yes: F16")
    assert said["llama-3.2-1b"] == "no: the file of Q4_0 is 0.8 GB"
