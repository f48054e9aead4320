"""labkit's figures beside those of llama.cpp's own tools: same file, text, threads and settings, in turn.

    make bench, or: pytest tests/bench/test_llama_cpp_side_by_side.py -s     (THREADS=1 for one thread, not all cores)

The tools are built at the first run (`peers.py`). Each side is a whole process, as a student starts it, so wall time
holds its start, too. llama-perplexity takes control tokens in a text for plain text, so labkit does (`--plain`).
Prints; gates nothing.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("llama_cpp")

import peers

from labkit import load
from labkit.metrics import records
from labkit.metrics.cases import data_folder
from labkit.metrics.probes import loaded_machine
from labkit.models.hardware import usable_cores

THREADS = int(os.environ.get("THREADS", usable_cores()))
TEXT = data_folder("texts") / "agent_heldout.txt"


class Row(NamedTuple):
    """One figure of both sides; `reach` is how far labkit's may be from the peer's, as a share.

    Of a wall time only what is above counts.
    """

    name: str
    peer: float
    labkit: float
    reach: float
    wall: bool = False

    def __str__(self) -> str:
        ratio = self.labkit / self.peer
        met = (ratio if self.wall else abs(ratio - 1)) <= self.reach
        wanted = f"≤ {self.reach:.2f} ×" if self.wall else f"± {self.reach:.1%}"
        cells = f"{self.peer:>14,.5g}{self.labkit:>14,.5g}{ratio:>10.4f}{wanted:>10}"
        return f"{self.name:34}{cells}   {'met' if met else 'NOT MET'}"


def show(title: str, rows: list[Row]) -> None:
    print(
        f"\n{title}, {THREADS} threads"
        + (f" (not to be trusted: {busy})" if (busy := loaded_machine()) else "")
    )
    print(f"{'':34}{'llama.cpp':>14}{'labkit':>14}{'ratio':>10}{'Reach':>10}")
    print(*rows, sep="\n")


def file_of(name: str, level: str) -> Path:
    """Return the GGUF file; it is made first if it is not there."""
    with load(name, "llamacpp", level, threads=1) as model:
        assert model.engine.file
        return model.engine.file


def run(*command: object) -> tuple[str, float]:
    """Return what a process said on both streams, and its wall time in seconds."""
    began = time.perf_counter()
    done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seconds = time.perf_counter() - began
    assert done.returncode == 0, done.stdout
    return done.stdout, seconds


def labkit(*arguments: object, out: Path) -> tuple[records.Record, float]:
    """Return the record of a command of labkit's, and the wall time of its process in seconds."""
    out.unlink(missing_ok=True)
    _, seconds = run(sys.executable, "-m", "labkit", *arguments, "--threads", THREADS, "--json", out)
    return records.read(out)[0], seconds


def in_turn(rounds: int, *sides: Callable[[], float]) -> list[float]:
    """Run the sides in turn, and return the median of what each returned."""
    found = [[side() for side in sides] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*found, strict=True)]


def number(pattern: str, said: str) -> float:
    found = re.search(pattern, said)
    assert found, said
    return float(found[1])


def test_perplexity_and_divergence(tmp_path: Path) -> None:
    files = {level: file_of("nano", level) for level in ("F16", "Q4_K_M")}
    base, out, rows, walls = tmp_path / "base", tmp_path / "out.jsonl", list[Row](), list[Row]()
    given = ["-f", TEXT, "-c", 512, "-t", THREADS]
    asked = ["eval", "nano", "--engine", "llamacpp", "--perplexity", "--plain", "--text", TEXT]

    for level, file in files.items():
        said, _ = run(*peers.command("llama-perplexity", "-m", file, *given))
        record, _ = labkit(*asked, "--variant", level, out=out)
        rows.append(Row(f"PPL, {level}", number(r"PPL = ([\d.]+)", said), record.figures["ppl"], 0.001))
        theirs, ours = in_turn(
            3,
            lambda file=file: run(*peers.command("llama-perplexity", "-m", file, *given))[1],
            lambda level=level: labkit(*asked, "--variant", level, out=out)[1],
        )
        walls.append(Row(f"PPL, {level}: wall time, s", theirs, ours, 1.25, wall=True))

    def divergence() -> tuple[str, float]:
        """Write down the base's guesses, then compare: two processes, where labkit's is one."""
        kept = ["--kl-divergence-base", base]
        _, first = run(*peers.command("llama-perplexity", "-m", files["F16"], *given, *kept))
        kept = ["--kl-divergence", *kept]
        said, second = run(*peers.command("llama-perplexity", "-m", files["Q4_K_M"], *given, *kept))
        return said, first + second

    compared = [*asked, "--variant", "Q4_K_M", "--base", "F16"]
    said, _ = divergence()
    figures = labkit(*compared, out=out)[0].figures
    for name, pattern, scale, reach in (
        ("kl_mean", r"Mean\s+KLD:\s+([\d.]+)", 1, 0.02),
        ("kl_median", r"Median\s+KLD:\s+([\d.]+)", 1, 0.02),
        ("dp_rms", r"RMS Δp\s+:\s+([\d.]+)", 100, 0.02),
        ("same_top", r"Same top p:\s+([\d.]+)", 100, 0.02),
    ):
        rows.append(Row(f"{name}, F16 → Q4_K_M", number(pattern, said), scale * figures[name], reach))
    theirs, ours = in_turn(3, lambda: divergence()[1], lambda: labkit(*compared, out=out)[1])
    walls.append(Row("KL: wall time, s (2 processes to 1)", theirs, ours, 1.25, wall=True))
    show(f"nano on {TEXT.name}, windows of 512", rows + walls)


@pytest.mark.parametrize(
    ("name", "level", "repeat", "rounds"),
    [("nano", "F16", 5, 5), ("nano", "Q4_K_M", 5, 5), ("random-0.5b", "Q4_K_M", 3, 1)],
)
def test_speed(name: str, level: str, repeat: int, rounds: int, tmp_path: Path) -> None:
    file, out = file_of(name, level), tmp_path / "out.jsonl"
    settings = ["-p", 512, "-n", 128, "-b", 512, "-ub", 512, "-fa", "auto", "-t", THREADS, "-r", repeat]
    asked = ["bench", name, "--engine", "llamacpp", "--variant", level, "--repeat", repeat, "--force"]
    means: dict[str, list[tuple[float, float]]] = {"pp": [], "tg": []}
    for _ in range(rounds):
        command = peers.command("llama-bench", "-m", file, *settings, "-o", "json")
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        theirs = {"tg" if test["n_gen"] else "pp": test["avg_ts"] for test in json.loads(said)}
        record, _ = labkit(*asked, out=out)
        for kind, pairs in means.items():
            pairs.append((theirs[kind], statistics.mean(record.samples[kind])))
    rows = []
    for kind, pairs in means.items():
        peer, mine = (statistics.median(column) for column in zip(*pairs, strict=True))
        rows.append(Row(f"{kind} of {name} {level}, tokens/s", peer, mine, 0.03))
        for side, column in zip(("llama.cpp", "labkit"), zip(*pairs, strict=True), strict=True):
            print(
                f"\n{kind}: means of {side}'s {rounds} runs: {', '.join(f'{x:,.1f}' for x in column)}", end=""
            )
    show(f"\n{name} {level}: median of {rounds} runs of {repeat} repetitions each", rows)
