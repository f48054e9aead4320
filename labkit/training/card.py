"""Write a shipped model's card from what its training and its evaluation recorded.

`python -m labkit.training.card FOLDER EVALUATION.jsonl …` reads config.json and training.json in the folder, and what
`labkit eval NAME --variant F16,… --json EVALUATION.jsonl` wrote, of which the runs' figures are kept in the folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from safetensors.numpy import load_file

from labkit.metrics.intervals import paired, wilson
from labkit.models import store

LONGEST = 1536  # tokens of the widest row in training (`packing.WIDTHS`, which needs torch to be read)
LEVELS = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_1", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")
DECODINGS = {False: "free", True: "held to the schemas", "copy": "values copied, too"}
SPLITS = ("seen", "phrasings", "names", "families")
ABOUT = {
    "nano": (
        "An agent model small enough to look at: it reads a request, picks a tool, fills in the arguments and\n"
        "reports the result.",
        "Its known weaknesses are the low cells of the tables above.",
    ),
    "pico": (
        "The smaller model beside nano, with the same tokenizer and prompt format: for routing, for drafting in\n"
        "speculative decoding, and for lessons on when a small model should hand over to a bigger one.",
        "It is meant to be wrong more often than nano: that is what lessons on escalation need. It calls itself nano.",
    ),
}


def percent(share: dict[str, float], *, interval: bool = False) -> str:
    """Write a share as percent, on demand with its 95 % Wilson interval."""
    text = f"{100 * share['share']:.0f}"
    return f"{text} ({100 * share['low']:.0f}–{100 * share['high']:.0f})" if interval else text


def table(rows: list[list[str]]) -> str:
    """Write a Markdown table, the first row its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def skill_table(run: dict[str, Any]) -> str:
    """Write accuracy by skill and split, and over all skills with intervals."""
    by = run["by"]
    rows = [["skill (n a split)", *SPLITS]]
    for skill in by["skill"]:
        shares = [by["split · skill"][f"{split} · {skill}"] for split in SPLITS]
        rows.append([f"{skill} ({shares[0]['n']})", *(percent(share) for share in shares)])
    total = [by["split"][split] for split in SPLITS]
    rows.append([f"**all** ({total[0]['n']})", *(percent(share, interval=True) for share in total)])
    return table(rows)


def length_table(run: dict[str, Any]) -> str:
    """Write accuracy by the length of the prompt."""
    shares = run["by"]["length"]
    return table(
        [
            ["prompt", *shares],
            ["n", *(str(share["n"]) for share in shares.values())],
            ["% exact", *(percent(share, interval=True) for share in shares.values())],
        ]
    )


def decoding_table(runs: list[dict[str, Any]]) -> str:
    """Write how often single calls are right, by what the grammar of the decoding admits."""
    rows = [["calls", *SPLITS]]
    for held, label in DECODINGS.items():
        run = next(run for run in runs if run["settings"]["constrained"] == held)
        rows.append([label, *(percent(run["by"]["split · skill"][f"{split} · call"]) for split in SPLITS)])
    return table(rows)


def level_shares(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the share of hits by split at each level, on the cases that every level was asked."""
    hits: dict[str, dict[str, bool]] = {}
    for case in cases:
        hits.setdefault(case["variant"], {})[case["id"]] = not case["reason"]
    common = set.intersection(*(set(of) for of in hits.values()))
    found: dict[str, dict[str, float]] = {}
    for level, of in hits.items():
        asked = {split: [of[i] for i in sorted(common) if i.startswith(f"{split}-")] for split in SPLITS}
        asked["**all**"] = [hit for answers in asked.values() for hit in answers]
        found[level] = {split: sum(answers) / len(answers) for split, answers in asked.items()}
    return {"kind": "levels", "n": len(common), "shares": found}


def level_table(shares: dict[str, dict[str, float]]) -> str:
    """Write accuracy by split at each level."""
    levels = [level for level in LEVELS if level in shares]
    rows = [["", *levels]]
    for row in (*SPLITS, "**all**"):
        rows.append([row, *(f"{100 * shares[level][row]:.1f}" for level in levels)])
    return table(rows)


def from_nothing(folder: Path) -> str:
    """Say how far a run from nothing came, where the folder keeps one beside its own weights.

    Its file holds the run's training.json, with the minutes, and what `labkit eval` counted on its F16.
    """
    path = folder / "from_nothing.json"
    if not path.exists():
        return ""
    run = json.loads(path.read_text("utf-8"))
    training, by = run["training"], run["by"]
    splits = ", ".join(percent(by["split"][split]) for split in SPLITS)
    return (
        f"\nSo made, {training['minutes']} minutes and {training['tokens']:,} tokens on {training['machine']} came to\n"
        f"{percent(by['']['all'], interval=True)} % of all cases: {splits} % by split."
    )


def read_runs(evaluations: Iterable[Path]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Read the runs, the longest first, and the shares of each level in those that decode freely."""
    runs, free = list[dict[str, Any]](), list[dict[str, Any]]()
    for path in evaluations:
        for record in map(json.loads, path.read_text("utf-8").splitlines()):
            if record["kind"] == "run":
                runs.append(record)
            elif not runs[-1]["settings"]["constrained"]:
                free.append(record)
    return sorted(runs, key=lambda run: -int(run["by"][""]["all"]["n"])), level_shares(free)


def write_card(folder: Path, evaluations: Iterable[Path]) -> None:
    """Write README.md into a model's folder, and the runs' figures as evaluation.jsonl."""
    runs, levels = read_runs(evaluations)
    at_full = [run for run in runs if run["variant"] == LEVELS[0]]
    base = next(run for run in at_full if not run["settings"]["constrained"])
    purpose, limits = ABOUT[folder.name]
    low, high = wilson(round(levels["shares"][LEVELS[0]]["**all**"] * levels["n"]), levels["n"])
    text = template_of("card.md").render(
        name=folder.name,
        purpose=purpose,
        limits=limits,
        again=from_nothing(folder),
        config=json.loads((folder / "config.json").read_text("utf-8")),
        parameters=sum(weight.size for weight in load_file(folder / "model.safetensors").values()),
        training=json.loads((folder / "training.json").read_text("utf-8")),
        longest=LONGEST,
        base=base,
        skills=skill_table(base),
        lengths=length_table(base),
        decodings=decoding_table(at_full),
        levels=level_table(levels["shares"]),
        n=levels["n"],
        margin=f"{50 * (high - low):.1f}",
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in (*runs, levels)]
    (folder / "evaluation.jsonl").write_text("".join(lines), encoding="utf-8")


def write_trained_card(
    folder: Path,
    log: Sequence[Mapping[str, Any]],
    results: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    data: str,
    reward: str = "none: it was shown examples",
    learned: Collection[str] = (),
) -> Path:
    """Write README.md into the folder of a model that was trained here, and return its path.

    `results` holds the success of the same cases before and after; those named in `learned` were trained, and all
    others show what was forgotten.
    """
    names = [
        name for name in ("loss", "held_out_loss", "reward", "success", "kl") if any(name in e for e in log)
    ]
    looks = [entry for entry in log if "score" in entry]
    curve = [
        ["step", *names],
        *([f"{e['step']}", *(f"{e[n]:.3g}" if n in e else "" for n in names)] for e in looks),
    ]
    changes, forgot = [["cases", "n", "before", "after", "change (points)"]], []
    for name, (before, after) in results.items():
        change, low, high = (100 * each for each in paired(before, after))
        moved = f"{change:+.1f} ({low:+.1f} to {high:+.1f})"
        shares = [f"{100 * sum(each) / len(each):.0f} %" for each in (before, after)]
        changes.append([name, str(len(before)), *shares, moved])
        if name not in learned:
            lost = sum(b > a for b, a in zip(before, after, strict=True))
            forgot.append(
                f"- {name}: {lost} of {len(before)} cases were right before and are wrong now; {moved} points"
            )
    text = template_of("card_trained.md").render(
        name=folder.name,
        training=json.loads((folder / "training.json").read_text("utf-8")),
        data=data,
        reward=reward,
        curve=table(curve),
        changes=table(changes),
        forgot="\n".join(forgot) or "Nobody has looked.",
    )
    with store.atomic_file(folder / "README.md") as part:
        part.write_text(text, "utf-8")
    return folder / "README.md"


def template_of(name: str) -> Template:
    """Return a card's template."""
    source = files(__package__).joinpath(name).read_text("utf-8")
    return Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(source)


if __name__ == "__main__":
    write_card(Path(sys.argv[1]), map(Path, sys.argv[2:]))
