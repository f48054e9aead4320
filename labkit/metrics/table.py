"""A table of measurements as a terminal and a notebook show it. What the figures mean is its subclass's affair."""

from __future__ import annotations

import html
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple


class Column(NamedTuple):
    """Say how a figure is shown: value × scale, with so many digits."""

    heading: str
    unit: str
    scale: float
    digits: int
    formula: str

    @property
    def head(self) -> str:
        """Return the heading with its unit."""
        return f"{self.heading} [{self.unit}]" if self.unit else self.heading

    def shown(self, value: float) -> str:
        """Write a figure; what was not measured (NaN) is a dash."""
        return f"{self.scale * value:,.{self.digits}f}" if math.isfinite(value) else "-"


def aligned(rows: Sequence[Sequence[str]], left: bool = False) -> list[str]:
    """Return rows of cells as lines: each column is as wide as its widest cell, aligned to the right unless `left`."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pad = str.ljust if left else str.rjust
    return ["  ".join(map(pad, row, widths)).rstrip() for row in rows]


class Table(ABC):
    """Show `title`, `cells` (rows of text, the headings first) and `footer`, which a subclass gives."""

    __slots__ = ()
    title: str

    @property
    @abstractmethod
    def cells(self) -> list[list[str]]:
        """Return the table as text, its headings first."""

    @property
    @abstractmethod
    def footer(self) -> list[str]:
        """Return what to know about the run, then the formula of every column."""

    def __repr__(self) -> str:
        return "\n".join([self.title, "", *aligned(self.cells), "", *self.footer])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        title, *footer = (html.escape(line) for line in (self.title, *self.footer))
        head, *body = ([html.escape(cell).replace(" ", "&nbsp;") for cell in row] for row in self.cells)
        rows = [f"<tr><th>{'</th><th>'.join(head)}</th></tr>"]
        rows += [f"<tr><th>{row[0]}</th><td>{'</td><td>'.join(row[1:])}</td></tr>" for row in body]
        table = f'<div style="overflow-x:auto"><table>{"".join(rows)}</table></div>'
        shown = f"<b>{title}</b>{table}<small>{'<br>'.join(footer)}</small>"
        return {"text/plain": repr(self), "text/html": shown}
