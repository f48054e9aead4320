"""Scoring a model, on the echo engine with scripted answers, and on nano."""

import json
from pathlib import Path
from typing import Any

import pytest

import labkit
from labkit.errors import LabkitError, OptionInvalid
from labkit.metrics.agent_eval import Result, Scores, choose, compare, read_cases, score

TOOL = {
    "type": "function",
    "function": {
        "name": "set_light",
        "description": "Switch a light.",
        "parameters": {
            "type": "object",
            "properties": {"room": {"type": "string"}, "level": {"type": "number"}},
            "required": ["room"],
        },
    },
}
RIGHT = '<tool_call>\n{"name": "set_light", "arguments": {"level": 3.0, "room": "attic"}}\n</tool_call>'


def row(at: int, split: str = "seen", skill: str = "call", **changes: Any) -> dict[str, Any]:
    expected: dict[str, Any] = {"content": "No tool fits."}
    if skill == "call":
        expected = {"tool_calls": [{"name": "set_light", "arguments": {"room": "attic", "level": 3}}]}
    messages = [{"role": "user", "content": "Light the attic at 3"}]
    names = {"id": f"{split}-{skill}-{at:04}", "split": split, "skill": skill, "level": 1}
    return {**names, "messages": messages, "tools": [TOOL], "expected": expected, **changes}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    return path


def scored(path: Path, *script: str, **keywords: Any) -> Scores:
    with labkit.load(engine="echo", script=script) as model:
        return score(model, read_cases(path), **keywords)


def test_right_wrong_and_unparsable_answers_are_told_apart(tmp_path: Path) -> None:
    rows = [row(i) for i in range(4)] + [row(i, "new", "no_tool") for i in range(2)]
    long = [{"role": "user", "content": "word " * 300}]
    script = (RIGHT, RIGHT.replace("attic", "cellar"), RIGHT[:30], "I cannot.", "No tool fits.", RIGHT)
    steps: list[int] = []
    path = write(tmp_path / "a.jsonl", *rows[:5], row(1, "new", "no_tool", messages=long))
    scores = scored(path, *script, progress=lambda: steps.append(1), threads=1)
    assert [r.reason for r in scores.results] == [
        "",
        "wrong value",
        "unparsable",
        "no call",
        "",
        "extra call",
    ]
    assert scores.failures() == {"wrong value": 1, "unparsable": 1, "no call": 1, "extra call": 1}
    assert len(steps) == 6
    assert {k: (s.n, s.hits) for k, s in scores.by("split").items()} == {"seen": (4, 1), "new": (2, 1)}
    assert list(scores.by("split", "skill")) == ["seen · call", "new · no_tool"]
    assert {k: s.n for k, s in scores.by("length").items()} == {"≤256 tokens": 5, "≤512 tokens": 1}
    share = scores.by()["all"]
    assert (share.n, share.hits, share.share) == (6, 2, 2 / 6) and 0 < share.low < 1 / 3 < share.high < 1


def test_records_carry_what_is_needed_to_read_them_later(tmp_path: Path) -> None:
    scores = scored(write(tmp_path / "a.jsonl", row(0), row(1)), RIGHT, "Light?", threads=1)
    run, *cases = [json.loads(json.dumps(r)) for r in scores.records()]
    assert (
        run["kind"] == "run" and run["settings"]["threads"] == 1 and run["settings"]["constrained"] is False
    )
    assert run["machine"]["cpu"] and run["engine_version"] and len(run["cases_sha256"]) == 64
    assert run["by"]["split · skill"]["seen · call"]["hits"] == 1 and run["failures"] == {"no call": 1}
    assert [c["kind"] for c in cases] == ["case", "case"] and cases[0]["engine"] == "echo"
    assert cases[0]["tool_calls"] == [{"name": "set_light", "arguments": {"level": 3.0, "room": "attic"}}]
    assert (cases[1]["text"], cases[1]["reason"], cases[1]["id"]) == ("Light?", "no call", "seen-call-0001")


def test_tables_have_a_column_each_and_end_with_the_misses(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", row(0), row(1))
    one, two = scored(path, RIGHT, "?"), scored(path, RIGHT, RIGHT)
    assert one.table().splitlines()[4].split() == ["all", "2", "50.0", "1", "9.5–90.5"]
    lines = compare([one, two]).splitlines()
    assert lines[4].split() == ["all", "2", "50.0", "100.0"]
    assert lines[-1].split() == ["misses:", "no", "call", "1", "0"]
    assert "n" in two.table() and "misses" not in two.table()


@pytest.mark.parametrize(
    ("tokens", "bucket"),
    [(1, "≤256 tokens"), (256, "≤256 tokens"), (257, "≤512 tokens"), (1536, "≤1536 tokens"),
     (1537, ">1536 tokens"), (0, "unknown length")],
)  # fmt: skip
def test_lengths_fall_into_buckets(tmp_path: Path, tokens: int, bucket: str) -> None:
    case = read_cases(write(tmp_path / "a.jsonl", row(0)))[0]
    assert Result(case, "", prompt_tokens=tokens).group("length") == bucket


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "no case"),
        ("[]", "no case"),
        ("", "no case"),
        (json.dumps({k: v for k, v in row(1).items() if k != "skill"}), "it has no 'skill'"),
        (json.dumps(row(1, messages=[])), "messages"),
        (json.dumps(row(1, tools=[])), "calls none of its tools"),
        (json.dumps(row(1, tools=[{"name": "x"}])), "not a tool"),
        (json.dumps(row(1, expected=None)), "no case"),
        (json.dumps(row(1, expected={})), "expected must be"),
        (json.dumps(row(1, expected={"tool_calls": [], "content": None})), "expected must be"),
        (
            json.dumps(row(1, expected={"tool_calls": [{"name": "set_light", "arguments": "x"}]})),
            "none of its",
        ),
        (json.dumps(row(0)), "there is another case 'seen-call-0000'"),
        ("\udcff", "utf-8"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(row(0)) + "\n" + line + "\n", "utf-8", errors="surrogateescape")
    with pytest.raises(LabkitError, match="bad.jsonl, line 2 is no case") as caught:
        read_cases(tmp_path)
    assert words in str(caught.value)


def test_files_that_are_not_there_or_empty_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    for path in (tmp_path / "none.jsonl", tmp_path, tmp_path / "empty.jsonl"):
        with pytest.raises(LabkitError, match=r"\.jsonl"):
            read_cases(path)


def test_cases_are_chosen_by_split_skill_and_number(tmp_path: Path) -> None:
    rows = [row(i, split, skill) for i in range(3) for split in ("a", "b") for skill in ("call", "no_tool")]
    cases = read_cases(write(tmp_path / "a.jsonl", *rows))
    assert choose(cases) == cases
    assert [c.id for c in choose(cases, ["b"], ["call"], 2)] == ["b-call-0000", "b-call-0001"]
    assert len(choose(cases, limit=1)) == 4
    with pytest.raises(OptionInvalid, match="choose from: a, b"):
        choose(cases, ["c"])


def test_constrained_needs_an_engine_that_can(tmp_path: Path) -> None:
    with pytest.raises(OptionInvalid, match="echo cannot constrain"):
        scored(write(tmp_path / "a.jsonl", row(0)), constrained=True)


def test_nano_is_scored_and_an_overflow_is_only_a_miss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("llama_cpp")
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    long = [{"role": "user", "content": "many words " * 3000}]
    path = write(tmp_path / "a.jsonl", row(0, messages=long), row(1))
    with labkit.load(engine="llamacpp", variant="F16", threads=1) as model:
        free, kept = (score(model, read_cases(path), constrained=c) for c in (False, True))
    for scores in (free, kept):
        first, second = scores.results
        assert first.reason == "ContextOverflow" and first.group("length") == "unknown length"
        assert second.prompt_tokens > 50 and second.completion_tokens > 0
    calls = kept.results[1].tool_calls
    assert all(call["name"] == "set_light" for call in calls)
