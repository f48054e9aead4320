"""The code of the source guide, block by block: a verdict on each, and this machine's own look at it.

The table is `datasets/source_guide/blocks.toml`, the code that looks is beside it. The guide itself is not in the
repository.
"""

from __future__ import annotations

import html
import re
import runpy
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from labkit.errors import LabkitError
from labkit.metrics.cases import data_folder

VERDICTS = {
    "runs": "runs as written",
    "gone": "does not exist any more",
    "now": "works like this now",
}
SIGNS = {True: "✓", False: "✗", None: "○"}


@dataclass(frozen=True, slots=True)
class Block:
    """Hold one block's verdict. `absent` and `present` are names, `probe` a function, `source` what was read."""

    id: str
    kind: str
    heading: str
    sha256: str
    verdict: str
    why: str
    now: str = ""
    absent: tuple[str, ...] = ()
    present: tuple[str, ...] = ()
    probe: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """Keep what this machine saw of a block: whether the claim `holds`, None where nothing could be tested."""

    holds: bool | None
    text: str

    def __str__(self) -> str:
        return f"{SIGNS[self.holds]} {self.text}"


@cache
def blocks() -> tuple[Block, ...]:
    """Read the table; raise `LabkitError` where there is no clone of the repository."""
    text = (data_folder("source_guide") / "blocks.toml").read_text("utf-8")
    rows: list[dict[str, Any]] = tomllib.loads(text)["block"]
    lists = [{k: tuple(v) for k, v in row.items() if isinstance(v, list)} for row in rows]
    return tuple(Block(**{**row, **named}) for row, named in zip(rows, lists, strict=True))


def exists(name: str) -> bool | None:
    """Return whether `module` or `module:Name.attribute` can be found; None where the package is not installed."""
    module, _, path = name.partition(":")
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:  # of a package that would hold it
        spec = None
    if spec is None:
        return None if path else False
    if not path:
        return True
    found: Any = import_module(module)
    for part in path.split("."):
        known = getattr(found, "__annotations__", {})
        if not hasattr(found, part) and part not in known:
            return False
        found = getattr(found, part, known.get(part))
    return True


def examine(block: Block) -> list[Finding]:
    """Look for a block's names and run its probe; what needs an absent package is not tested, and says so."""
    found = []
    for name in block.absent:
        there = exists(name)
        text = f"no {name}" if there is not None else f"{name}: its package is not installed"
        found.append(Finding(None if there is None else not there, text))
    for name in block.present:
        there = exists(name)
        # A name of a package that is not here says nothing about the package.
        unknown = not there and find_spec(name.partition(":")[0].partition(".")[0]) is None
        found.append(
            Finding(None if unknown else there, f"{name}{': its package is not installed' * unknown}")
        )
    if block.probe:
        found.append(_run(block.probe))
    return found


@cache
def _run(name: str) -> Finding:
    try:
        return Finding(True, _probes()[name]())
    except (ImportError, LabkitError) as error:  # a package or an engine that this machine lacks
        return Finding(None, f"not tested here: {error}")
    except Exception as error:  # the table is wrong, or its probe
        return Finding(False, f"{name}: {type(error).__name__}: {error}")


@cache
def _probes() -> dict[str, Callable[[], str]]:
    return runpy.run_path(str(data_folder("source_guide") / "probes.py"))


@dataclass(frozen=True, slots=True, repr=False)
class Guide:
    """Show blocks with their verdicts; with `look`, examine each."""

    title: str
    blocks: Sequence[Block]
    look: bool = True

    def __repr__(self) -> str:
        return "\n".join(
            [self.title, "", *("\n".join(self._lines(block)) for block in self.blocks), "", self.count]
        )

    @property
    def count(self) -> str:
        """Count the verdicts."""
        verdicts = Counter(block.verdict for block in self.blocks)
        return f"{len(self.blocks)} blocks; " + ", ".join(f"{VERDICTS[v]}: {verdicts[v]}" for v in VERDICTS)

    def _lines(self, block: Block) -> list[str]:
        told = [f"{block.id}  {block.heading} ({block.kind}): {VERDICTS[block.verdict]}", block.why]
        told += [f"Now: {block.now}"] * bool(block.now)
        told += [f"Looked at: {finding}" for finding in examine(block)] if self.look else []
        return [*told, *[f"Read, not tested: {block.source}"] * bool(block.source)]

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        rows = []
        for head, *rest in map(self._lines, self.blocks):
            lines = (re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(line)) for line in rest)
            body = "".join(f'<p style="margin:.2em 1.2em">{line}</p>' for line in lines)
            rows.append(f"<details><summary>{html.escape(head)}</summary>{body}</details>")
        page = f"<b>{html.escape(self.title)}</b>{''.join(rows)}<p>{html.escape(self.count)}</p>"
        return {"text/plain": self.title + "\n" + self.count, "text/html": page}
