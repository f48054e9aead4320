"""The table on the source guide: complete, and true on this machine.

The guide is not in the repository. Where it lies beside the checkout its blocks are counted and hashed; elsewhere the
table stands for itself.
"""

import ast
import hashlib
import inspect
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from labkit.classroom.source_guide import VERDICTS, Block, Guide, _probes, blocks, examine, exists

ROOT = Path(__file__).parents[2]
REFERENCE = next((p for p in (ROOT / "../shared/reference",) if p.is_dir()), None)
COUNTS = {"000": 36, "003": 28, "003-T": 5, "004": 11}
guide = pytest.mark.skipif(REFERENCE is None, reason="the guide is not beside this checkout")


def group(block: Block) -> str:
    return block.id[:5] if "-T" in block.id else block.id[:3]


def text_of(number: str) -> str:
    assert REFERENCE
    (path,) = REFERENCE.glob(f"{number}_*.txt")
    return path.read_text("utf-8")


def fenced(text: str) -> list[str]:
    """Return the text between fences, as it stands there."""
    found, held = [], None
    for line in text.splitlines():
        if line.strip().startswith("```"):
            found += ["\n".join(held)] if held is not None else []
            held = [] if held is None else None
        elif held is not None:
            held.append(line)
    return found


def texts() -> dict[str, str]:
    """Return every block of the guide by its id in the table."""
    found = {f"{n}-{at:02}": text for n in ("000", "004") for at, text in enumerate(fenced(text_of(n)), 1)}
    appendix: dict[str, Any] = json.loads(text_of("003"))
    found |= {f"003-{at:02}": row["code"] for at, row in enumerate(appendix["code_blocks"], 1)}
    tables = enumerate(appendix["tables"], 1)
    return found | {f"003-T{at}": json.dumps(row, ensure_ascii=False, sort_keys=True) for at, row in tables}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_the_table_is_complete() -> None:
    assert Counter(map(group, blocks())) == COUNTS
    assert len({block.id for block in blocks()}) == len(blocks()) == sum(COUNTS.values())
    assert all(re.fullmatch(r"[0-9a-f]{16}", block.sha256) for block in blocks())
    assert {block.verdict for block in blocks()} == set(VERDICTS)
    for block in blocks():
        assert block.heading and block.why, block.id
        assert block.now or block.verdict == "runs", block.id
        assert block.absent or block.present or block.probe or block.source, block.id


@guide
def test_the_table_is_the_guides() -> None:
    assert {block.id: block.sha256 for block in blocks()} == {name: digest(t) for name, t in texts().items()}


@guide
def test_every_import_that_fails_is_in_the_table() -> None:
    """What a Python block of the guide imports in vain must be among the names that its verdict calls absent."""
    all_of = texts()
    for block in blocks():
        if block.kind != "python":
            continue
        tree = compile(all_of[block.id], block.id, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        imported |= {str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        vain = {name for name in imported if exists(name) is False}
        assert vain <= {*block.absent}, block.id


@guide
def test_no_text_was_copied() -> None:
    """No line of code of the guide stands in the table or its probes."""
    ours = "\n".join(
        (ROOT / "datasets/source_guide" / name).read_text("utf-8") for name in ("blocks.toml", "probes.py")
    )
    mine = {line.strip() for line in ours.splitlines() if len(line.strip()) > 40}
    theirs = {
        line.strip() for text in texts().values() for line in text.splitlines() if len(line.strip()) > 40
    }
    assert mine & theirs == set()


@guide
@pytest.mark.parametrize("id", ["003-26", "003-22", "003-27"])
def test_classes_of_the_guide_do_what_the_table_says(id: str) -> None:
    names: dict[str, Any] = {}
    exec(texts()[id], names)
    if id == "003-26":
        assert names["ModelRouter"]().classify_complexity("Prove this theorem", 1) == "simple"
    elif id == "003-22":
        cache = names["SemanticCache"]()
        cache.set("Who are you?", "m", {}, "nano")
        assert cache.get("Who are you?", "m", {}) == "nano" and cache.get("who are you?", "m", {}) is None
    else:
        trim = names["ContextManager"](max_tokens=50, reserve_for_response=0).trim_messages
        turns = [{"role": "user", "content": text} for text in ("a" * 40, "b" * 400, "c" * 40)]
        assert [turn["content"][0] for turn in trim(turns)] == ["a", "c"]


@guide
@pytest.mark.parametrize(("id", "total"), [("000-20", 1.5), ("000-21", 1.3)])
def test_the_guides_shares_of_one_gpu_are_more_than_one(id: str, total: float) -> None:
    shares = re.findall(r"gpu_memory_utilization\D{1,8}(0\.\d+)", texts()[id])
    assert sum(map(float, shares)) == pytest.approx(total)


@guide
@pytest.mark.skipif(not shutil.which("docker-compose"), reason="docker-compose is not installed")
def test_the_guides_compose_file_is_one(tmp_path: Path) -> None:
    (tmp_path / "docker-compose.yml").write_text(texts()["003-03"])
    done = subprocess.run(["docker-compose", "config"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


WORKER = """
import worker from "./worker.mjs";
globalThis.fetch = async () => new Response("{}", { status: 429 });
const asked = new Request("http://edge/api/chat", { method: "POST", body: '{"message": "hi"}' });
console.log((await worker.fetch(asked, {})).status);
"""


@guide
@pytest.mark.skipif(not shutil.which("node"), reason="Node is not installed")
def test_the_guides_worker_runs_and_loses_the_status(tmp_path: Path) -> None:
    (tmp_path / "worker.mjs").write_text(texts()["003-16"])
    (tmp_path / "main.mjs").write_text(WORKER)
    said = subprocess.run(["node", "main.mjs"], cwd=tmp_path, capture_output=True, text=True)
    assert said.stdout.strip() == "200", said.stderr


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.id)
def test_what_the_machine_sees_bears_the_verdict_out(block: Block) -> None:
    assert [str(finding) for finding in examine(block) if finding.holds is False] == []


def test_every_probe_is_asked_for() -> None:
    """A probe that no block names would prove nothing; one that is missing would only be noticed by its block."""
    names = {name for name, one in _probes().items() if inspect.isfunction(one) and name[0] != "_"}
    ours = {name for name in names if _probes()[name].__module__ == "<run_path>"}
    assert ours == {block.probe for block in blocks() if block.probe}


def test_names() -> None:
    assert exists("labkit") and exists("labkit:load") and exists("json:JSONDecoder.decode")
    assert exists("json:nothing") is False and exists("json.nothing") is False
    assert exists("no_such_package") is False and exists("no_such.module") is False
    assert exists("no_such_package:Name") is None


def test_a_wrong_verdict_is_found() -> None:
    wrong = Block(
        "x", "python", "h", "0" * 16, "gone", "w", absent=("json:loads",), present=("json:nothing",)
    )
    assert [finding.holds for finding in examine(wrong)] == [False, False]
    assert "✗ no json:loads" in repr(Guide("t", [wrong]))


def test_it_is_shown() -> None:
    block = Block("x", "python", "<h>", "0" * 16, "runs", "w", source="s")
    shown = Guide("t", [block])._repr_mimebundle_()
    assert "&lt;h&gt;" in shown["text/html"] and "<h>" not in shown["text/html"]
    assert "1 blocks; runs as written: 1" in shown["text/plain"]


def test_the_card_is_made_from_the_table() -> None:
    script = ROOT / "datasets/source_guide/make.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
