"""`labkit eval`, run as a student runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = {"type": "function", "function": {"name": "stop", "parameters": {"type": "object", "properties": {}}}}
CALL = '<tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>'


def line(id: str, said: str, expected: dict[str, object], skill: str = "call") -> str:
    names = {"id": id, "split": "seen", "skill": skill, "level": "easy"}
    return json.dumps(
        {**names, "messages": [{"role": "user", "content": said}], "tools": [TOOL], "expected": expected}
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Cases that repeat their own answer, as echo does: one right, one without a call, one text."""
    stop = {"tool_calls": [{"name": "stop", "arguments": {}}]}
    rows = [line("1", CALL, stop), line("2", "Stop it", stop), line("3", "Yes", {"content": "Yes"}, "answer")]
    path = tmp_path / "datasets" / "agent_eval" / "seen.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(rows) + "\n", "utf-8")
    return path


def run(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "labkit", "eval", "nano", "--engine", "echo", *more]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, encoding="utf-8")


def test_eval_prints_a_table_and_writes_json_lines(data: Path, tmp_path: Path) -> None:
    done = run(
        tmp_path, "--variant", "F16,Q8_0", "--variant", "Q2_K", "--json", "out.jsonl", "--failures", "1"
    )
    assert done.returncode == 0, done.stderr
    assert "2 (F16): no call\n" in done.stdout and "got     Stop it\n" in done.stdout
    table = done.stdout[done.stdout.index("nano on echo") :].splitlines()
    assert table[2].split() == ["%", "exact", "n", "F16", "Q8_0", "Q2_K"]
    assert table[4].split() == ["all", "3", "66.7", "66.7", "66.7"]
    records = [json.loads(r) for r in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert [r["kind"] for r in records] == ["run", "case", "case", "case"] * 3
    assert [r["variant"] for r in records[::4]] == ["F16", "Q8_0", "Q2_K"]
    assert records[0]["by"]["skill"]["answer"] == pytest.approx(
        {"n": 1, "hits": 1, "share": 1.0, "low": 0.2065, "high": 1.0}, abs=1e-4
    )


def test_eval_takes_a_file_and_keeps_what_is_asked_for(data: Path) -> None:
    done = run(data.parent, "--data", data.name, "--split", "seen", "--skill", "call", "--limit", "1")
    assert done.returncode == 0, done.stderr
    rows = [words for words in map(str.split, done.stdout.splitlines()) if words[:1] == ["all"]]
    assert rows == [["all", "1", "100.0", "1", "20.7–100.0"]]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--data", "nowhere"), "nowhere cannot be read"),
        (("--skill", "flying"), "choose from: call, answer"),
        (("--json", "no/such/folder/out.jsonl"), "cannot be written"),
        (("--constrained",), "echo cannot constrain"),
        (("--threads", "1"), "echo has no option 'threads'"),
    ],
)
def test_errors_say_what_to_do(data: Path, tmp_path: Path, more: tuple[str, ...], words: str) -> None:
    done = run(tmp_path, *more)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("labkit: ") and words in done.stderr and "→" in done.stderr
