"""Two levels beside each other: figures, answers, and the weights they came from.

What only one answer has stands in ⟦brackets⟧: a mark that needs no colour.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path

from labkit.metrics.levels import COLUMNS, LevelTable
from labkit.models.quantize_math import read_weights
from labkit.widgets.charts import histogram
from labkit.widgets.language import tr
from labkit.widgets.log import plain
from labkit.widgets.svg import draw

MATRIX = "ffn_up"
CELL = (
    "white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:plaintext;text-align:start;vertical-align:top"
)
Tokens = Sequence[str]


def side_by_side(names: tuple[str, str], one: Tokens, other: Tokens) -> tuple[str, str]:
    """Return two answers, given as tokens, as a table in HTML and as text; both say where they part."""
    steps = SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
    left = [("".join(one[i:j]), kind != "equal") for kind, i, j, _, _ in steps]
    right = [("".join(other[i:j]), kind != "equal") for kind, _, _, i, j in steps]
    said = parting(one, other)
    lines = [f"{name}: {''.join(map(_mark, side))}" for name, side in zip(names, (left, right), strict=True)]
    heads = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in names)
    cells = "".join(f'<td dir="auto" style="{CELL}">{"".join(map(_page, s))}</td>' for s in (left, right))
    page = f"<table><tr>{heads}</tr><tr>{cells}</tr></table><p>{said}</p>"
    return page, "\n".join([*lines, said])


def figures_of(table: LevelTable) -> str:
    """Return a table of levels with a row for each figure, and its formula beside it."""
    (_, *heads), *levels = table.cells
    top = "".join(f'<th scope="col">{html.escape(row[0])}</th>' for row in levels)
    lines = []
    for place, (head, column) in enumerate(zip(heads, COLUMNS.values(), strict=True), 1):
        cells = "".join(f"<td>{html.escape(row[place])}</td>" for row in levels)
        formula = f"<td><small>{html.escape(column.formula)}</small></td>"
        lines.append(f'<tr><th scope="row">{html.escape(head)}</th>{cells}{formula}</tr>')
    notes = "".join(f"<div>{html.escape(note)}</div>" for note in table.notes)
    return f"{html.escape(table.title)}<table><tr><td></td>{top}</tr>{''.join(lines)}</table>{notes}"


def parting(one: Tokens, other: Tokens) -> str:
    """Say how many tokens two answers share before they part."""
    pairs = enumerate(zip(one, other, strict=False))
    same = next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))
    if same == len(one) == len(other):
        return tr("the same answer, {n} tokens", n=same)
    return tr("the first {n} tokens are the same; ⟦…⟧ is in one answer only", n=same)


def weights_moved(names: tuple[str, str], first: Path, second: Path) -> tuple[str, str]:
    """Return how far the weights of one matrix moved between two GGUF files, in words, and a histogram as SVG."""
    import numpy as np

    (name, before), (_, after) = (read_weights(path, MATRIX) for path in (first, second))
    moved = float(np.sqrt(np.mean((after - before) ** 2) / np.mean(before**2)))
    said = tr("{name}: RMS of the change / RMS of the weights = {moved:.2%}", name=name, moved=moved)
    title = f"{name}: {names[0]} ({tr('before')}), {names[1]} ({tr('after')})"
    return said, draw(histogram(before, after, title))


def _mark(piece: tuple[str, bool]) -> str:
    text, differs = plain(piece[0]), piece[1]
    return f"⟦{text}⟧" if differs and text else text


def _page(piece: tuple[str, bool]) -> str:
    marked = html.escape(_mark(piece))
    return f"<mark>{marked}</mark>" if piece[1] and marked else marked
