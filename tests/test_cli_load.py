"""`labkit load` and `labkit sweep`, run as a student runs them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.metrics import records

SERVER = Path(__file__).parent / "metrics" / "scripted_server.py"
ECHO = ("nano", "--engine", "echo")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    pipes = {"stdout": subprocess.PIPE, "stdin": subprocess.PIPE}
    with subprocess.Popen([sys.executable, str(SERVER)], text=True, **pipes) as server:  # type: ignore[call-overload]
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.kill()


def command(*line: str) -> list[str]:
    return [sys.executable, "-m", "labkit", *line]


def run(folder: Path, *line: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **more}
    return subprocess.run(
        command(*line), capture_output=True, text=True, cwd=folder, encoding="utf-8", env=env
    )


def test_load_on_a_model_prints_a_table_and_appends_a_record(tmp_path: Path) -> None:
    line = ("load", *ECHO, "--rate", "50", "--requests", "5", "--target-ttft", "10", "--json", "out.jsonl")
    for count in (1, 2):
        done = run(tmp_path, *line)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("nano on echo, 50 requests/s: 5 ok\n")
        found = records.read(tmp_path / "out.jsonl")
        assert [r.kind for r in found] == ["load"] * count
    settings = found[0].about["settings"]
    assert (settings["rate"], settings["requests"], settings["target_ttft"]) == (50, 5, 10)
    assert found[0].figures["goodput"] > 0 and all(text in done.stdout for text in found[0].formulas.values())


def test_load_on_a_url_with_a_key_from_the_environment(url: str, tmp_path: Path) -> None:
    line = ("load", url, "--concurrency", "2", "--requests", "4", "--json", "out.jsonl")
    done = run(tmp_path, *line, "--key-env", "MY_KEY", MY_KEY="hush-hush\n")
    assert done.returncode == 0, done.stderr
    assert f"scripted on {url}/v1, 2 callers: 4 ok" in done.stdout
    text = (tmp_path / "out.jsonl").read_text("utf-8")
    assert "hush" not in text + done.stdout + done.stderr


def test_a_sweep_of_load_has_a_line_for_each_step(tmp_path: Path) -> None:
    line = ("--concurrency", "1", "--requests", "2", "--target-ttft", "1e-6", "--json", "out.jsonl")
    done = run(tmp_path, "load", *ECHO, "--sweep", *line)
    assert done.returncode == 0, done.stderr
    assert len(records.read(tmp_path / "out.jsonl")) == 1
    head, step, _, end = done.stdout.splitlines()[-4:]
    assert head.split()[:3] == ["load", "goodput", "tokens/s"]
    assert step.split()[:3] == ["1", "callers", "0.00"] and end == "No request met the targets: no knee."


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_keeps_what_was_measured(url: str, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    line = ("load", url, "--rate", "20", "--requests", "10000", "--json", str(out))
    with subprocess.Popen(
        command(*line), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while not out.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 130 and "20 requests/s: " in said
    (record,) = records.read(out)
    assert record.about["settings"]["interrupted"] and 0 < record.figures["ok"] < 10_000


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (("load", *ECHO), "give one of rate and concurrency"),
        (("load", *ECHO, "--rate", "0"), "rate cannot be 0"),
        (("load", "http://127.0.0.1:9", "--rate", "1"), "names no model"),
        (("load", "http://h", "--rate", "1", "--key-env", "NO_SUCH_KEY"), "NO_SUCH_KEY is not set"),
        (("load", *ECHO, "--rate", "1", "--json", "no/folder/x"), "no/folder/x"),
        (("sweep", "nano", "--force"), "--json FILE"),
        (("sweep", "nano", "--force", "--json", "x", "--threads", "two"), "--threads cannot be 'two'"),
    ],
)
def test_errors_say_what_to_do(tmp_path: Path, line: tuple[str, ...], words: str) -> None:
    done = run(tmp_path, *line)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("labkit: ") and words in done.stderr and "→" in done.stderr


def test_sweep_runs_the_grid_once_and_says_what_it_skips(tmp_path: Path) -> None:
    work = ("--prompt", "4", "--generate", "2", "--repeat", "1", "--json", "out.jsonl", "--force")
    line = ("sweep", "nano", "--engine", "echo,nobody", "--variant", "F16", "--variant", "Q8_0", *work)
    for _ in range(2):
        done = run(tmp_path, *line)
        assert done.returncode == 0, done.stderr
        assert "2 of 4 in out.jsonl" in done.stdout and done.stdout.count("there is no engine 'nobody'") == 2
        assert [r.about["variant"] for r in records.read(tmp_path / "out.jsonl")] == ["F16", "Q8_0"]
