"""`labkit eval --perplexity`, run as a student runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("llama_cpp", reason="needs llama-cpp-python: pip install 'labkit[llamacpp]'")

TEXT = Path(__file__).parents[1] / "datasets" / "texts" / "agent_heldout.txt"


@pytest.fixture
def words(tmp_path: Path) -> str:
    path = tmp_path / "words.txt"
    path.write_text(TEXT.read_text("utf-8")[:2000], "utf-8")
    return str(path)


def run(*more: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "labkit",
        "eval",
        "nano",
        "--engine",
        "llamacpp",
        "--threads",
        "1",
        *more,
    ]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8")


def test_each_variant_has_a_line_and_a_record(words: str, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    args = ("--perplexity", "--text", words, "--window", "256", "--json", str(out))
    done = run(*args, "--variant", "F16,BF16")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("nano on llamacpp ") and "windows of 256" in lines[0]
    assert [line.split()[0] for line in lines[3:5]] == ["F16", "BF16"]
    assert lines[-1].startswith("PPL ") and "exp(mean negative log-likelihood" in lines[-1]
    made = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [r["about"]["variant"] for r in made] == ["F16", "BF16"]
    assert f"{made[0]['figures']['ppl']:.4f} ± {made[0]['figures']['ppl_error']:.4f}" in lines[3]


def test_a_base_adds_the_divergence(words: str) -> None:
    done = run("--perplexity", "--text", words, "--window", "256", "--variant", "BF16", "--base", "F16")
    assert done.returncode == 0, done.stderr
    title, _, head, row, _, *formulas = done.stdout.splitlines()
    assert "against nano F16" in title and len(formulas) == 9
    for name in ("PPL ratio", "KL mean", "KL 99.9 %", "RMS Δp", "same top"):
        assert name in head and any(line.startswith(name) for line in formulas)
    assert row.split()[0] == "BF16" and row.count("%") == 6


def test_plain_reads_control_tokens_as_text(tmp_path: Path) -> None:
    path, scored = tmp_path / "turns.txt", []
    path.write_text("<|im_start|>user\nHi<|im_end|>\n" * 9, "utf-8")
    for more in ((), ("--plain",)):
        done = run("--perplexity", "--text", str(path), "--window", "16", "--variant", "F16", *more)
        scored.append(int(done.stdout.split(": ")[1].split()[0].replace(",", "")))
    assert scored[0] < scored[1]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--perplexity", "--text", "nowhere"), "nowhere cannot be read"),
        (("--perplexity", "--text", sys.executable), "is no UTF-8 text"),
        (("--perplexity", "--text", __file__, "--window", "100000"), "a window 100000"),
        (("--perplexity", "--text", __file__, "--base", "Q9"), "Q9"),
        (("--perplexity", "--json", "no/such/folder/out.jsonl"), "cannot be written"),
        (("--perplexity", "--skill", "call"), "--perplexity takes no --skill"),
        (("--base", "F16"), "without --perplexity there is no --base"),
    ],
)
def test_errors_say_what_to_do(more: tuple[str, ...], words: str) -> None:
    done = run("--variant", "F16", *more)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("labkit: ") and words in done.stderr and "→" in done.stderr
