"""Evaluation cases: a conversation, the tools it may use, and the one right next turn. One JSON object a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import labkit
from labkit.engines.messages import check_messages
from labkit.engines.toolschema import tool_schemas
from labkit.errors import LabkitError, OptionInvalid
from labkit.models.jsonl import read_lines
from labkit.types import Message, Tool


@dataclass(frozen=True, slots=True)
class Case:
    """Hold one case. `expected` is {"tool_calls": [{"name", "arguments"}]} or {"content": text}."""

    id: str
    split: str
    skill: str
    level: str
    messages: list[Message]
    tools: list[Tool]
    expected: dict[str, Any]


def read_cases(path: Path | str) -> list[Case]:
    """Read a .jsonl file, or every one in a folder; raise `LabkitError` with file and line of a bad case."""
    path, cases = Path(path), dict[str, Case]()

    def read(row: dict[str, Any]) -> None:
        case = _case(row)
        if cases.setdefault(case.id, case) is not case:
            raise ValueError(f"there is another case {case.id!r}")

    for file in sorted(path.glob("*.jsonl")) if path.is_dir() else [path]:
        read_lines(file, read, "case", "correct that line")
    if not cases:
        raise LabkitError(f"there are no cases in {path}", fix="give a .jsonl file, or a folder of them")
    return list(cases.values())


def _case(row: dict[str, Any]) -> Case:
    labels = {name: str(row[name]) for name in ("id", "split", "skill", "level")}
    turns, tools = check_messages(row["messages"]), tool_schemas(row["tools"])
    case = Case(messages=turns, tools=tools, expected=row["expected"], **labels)
    calls, text = case.expected.get("tool_calls") or [], case.expected.get("content")
    if bool(calls) == isinstance(text, str):
        raise ValueError('expected must be {"tool_calls": […]} or {"content": "…"}')
    offered = [tool["function"]["name"] for tool in case.tools]
    for call in calls:
        if call["name"] not in offered or not isinstance(call["arguments"], dict):
            raise ValueError(f"it expects {call}, which calls none of its tools")
    return case


def choose(
    cases: Sequence[Case], splits: Sequence[str] = (), skills: Sequence[str] = (), limit: int | None = None
) -> list[Case]:
    """Keep the cases of these splits and skills (all, if none is named), the first `limit` of each pair."""
    for what, names in (("split", splits), ("skill", skills)):
        known = dict.fromkeys(getattr(case, what) for case in cases)
        if unknown := [name for name in names if name not in known]:
            raise OptionInvalid(f"there is no {what} {unknown[0]!r}", fix=f"choose from: {', '.join(known)}")
    kept, seen = [], Counter[tuple[str, str]]()
    for case in cases:
        if case.split in (splits or case.split) and case.skill in (skills or case.skill):
            seen[case.split, case.skill] += 1
            if limit is None or seen[case.split, case.skill] <= limit:
                kept.append(case)
    return kept


def data_folder(name: str = "agent_eval") -> Path:
    """Return `datasets/NAME` here, beside this folder or in the clone; raise `LabkitError` where there is none."""
    # A notebook's folder is labs/, and datasets/ is beside it, too, where labkit itself is installed elsewhere.
    roots = [Path.cwd(), Path.cwd().parent, Path(labkit.__file__).resolve().parents[1]]
    for folder in (root / "datasets" / name for root in roots):
        if folder.is_dir():
            return folder
    raise LabkitError(
        f"there is no datasets/{name} in {' or '.join(map(str, roots))}",
        fix="run this in a clone of the repository, or give --data FOLDER or --text FILE",
    )
