"""Write the evaluation data: `python -m labkit.training.heldout.build [FOLDER]`; the same bytes each time."""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

from labkit.training.data import Example, Level, World, example
from labkit.training.data.conversation import Message

from . import worlds

SEED = 20_260_101
COUNTS = {"call": 200, "parallel": 52, "dependent": 52} | dict.fromkeys(
    ("answer", "no_tool", "missing", "memory", "route", "extract", "passage", "identity"), 28
)
MIX: dict[Level, float] = {"medium": 0.5, "full": 0.42, "long": 0.08}
Case = dict[str, Any]


def turn(e: Example) -> int:
    """Return the index of the assistant's turn that shows the skill best."""
    for at in reversed(range(len(e.messages))):
        message, last = e.messages[at], e.messages[at - 1]
        if message["role"] == "assistant" and (
            (e.skill in ("call", "parallel", "dependent") and "tool_calls" in message)
            or (e.skill == "missing" and message["content"].startswith("Please tell me"))
            or (e.skill == "answer" and last["role"] == "tool")
            or e.skill in ("no_tool", "memory", "route", "extract", "passage", "identity")
        ):
            return at
    raise ValueError(f"an example of {e.skill!r} without a turn to predict")


def expected(message: Message) -> dict[str, Any]:
    """Return what is right: calls, or the text."""
    if "tool_calls" not in message:
        return {"content": message["content"]}
    functions = [call["function"] for call in message["tool_calls"]]
    return {"tool_calls": [{"name": f["name"], "arguments": json.loads(f["arguments"])} for f in functions]}


def cases(split: str, world: World) -> list[Case]:
    """Make the cases of a split."""
    made = []
    for skill, count in COUNTS.items():
        rng = random.Random(f"{SEED} {split} {skill}")
        for number in range(1, count + 1):
            level = rng.choices(list(MIX), list(MIX.values()))[0]
            e = example(rng, level=level, skill=skill, world=world)
            at = turn(e)
            made.append(
                {
                    "id": f"{split}-{skill}-{number:04d}",
                    "split": split,
                    "skill": skill,
                    "level": level,
                    "messages": e.messages[:at],
                    "tools": e.tools,
                    "expected": expected(e.messages[at]),
                }
            )
    return made


def table(made: dict[str, list[Case]], column: str) -> str:
    """Count the cases by split and by one of their columns, as a Markdown table."""
    counts = {split: Counter(case[column] for case in rows) for split, rows in made.items()}
    head = [f"| {column} | {' | '.join(made)} | all |", "|---" * (len(made) + 2) + "|"]
    lines = []
    for name in dict.fromkeys(name for counter in counts.values() for name in counter):
        numbers = [counter[name] for counter in counts.values()]
        lines.append(f"| {name} | {' | '.join(map(str, numbers))} | {sum(numbers)} |")
    return "\n".join([*head, *lines])


def build(folder: Path) -> None:
    """Write the four files and their card."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {split: cases(split, world) for split, world in worlds().items()}
    rows = ["| file | cases | bytes | sha256 |", "|---|---|---|---|"]
    for split, lines in made.items():
        text = "".join(json.dumps(case, ensure_ascii=False) + "\n" for case in lines).encode()
        (folder / f"{split}.jsonl").write_bytes(text)
        rows.append(f"| {split}.jsonl | {len(lines)} | {len(text)} | `{hashlib.sha256(text).hexdigest()}` |")
    card = files("labkit.training.heldout").joinpath("card.md").read_text("utf-8")
    card = card.replace("{counts}", table(made, "skill") + "\n\n" + table(made, "level"))
    (folder / "README.md").write_text(card.replace("{files}", "\n".join(rows)), encoding="utf-8")


def main() -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("datasets/agent_eval"))
    build(parser.parse_args().folder)


if __name__ == "__main__":
    main()
