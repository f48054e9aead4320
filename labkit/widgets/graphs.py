"""Draw ONNX graphs: a box for each node, under those that it reads from; several graphs stand side by side.

Nothing here needs a front end: what is shown is text and an SVG of a few kB.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.engines.onnx_graph import Node
from labkit.widgets.language import tr, turned

LETTER, HIGH, GAP, TOP = (
    6.6,
    36,
    18,
    26,
)  # a letter's width, a box, the room below it, the headings; in pixels
STANDARD = "ai.onnx"
BLUE = "#0072B2"  # Okabe–Ito; a box also says in words whose operator it is
Place = tuple[int, int]  # column, row


@dataclass(frozen=True, slots=True, repr=False)
class Graphs:
    """Show the nodes of each graph by its name; an operator outside the ONNX standard is blue."""

    graphs: Mapping[str, Sequence[Node]]

    def __repr__(self) -> str:
        lines = []
        for name, nodes in self.graphs.items():
            lines.append(_heading(name, nodes))
            lines += [f"  {node.domain or STANDARD:14} {node.op:34} → {node.outputs[0]}" for node in nodes]
        return "\n".join(lines)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        drawn, left, below = "", 2.0, 0.0
        for name, nodes in self.graphs.items():
            picture = _Picture(nodes, left)
            heading = html.escape(_heading(name, nodes))
            drawn += f'<text x="{left}" y="14" font-weight="bold">{heading}</text>'
            drawn += "".join(picture.parts())
            left = max(picture.right, left + 1.2 * LETTER * len(heading)) + 30
            below = max(below, picture.bottom)
        said = "; ".join(f"{name}: {', '.join(node.op for node in of)}" for name, of in self.graphs.items())
        page = (
            f'<svg viewBox="0 0 {left:.0f} {below:.0f}" width="{left:.0f}" style="max-width:100%" role="img" '
            f'font-size="12" fill="currentColor" aria-label="{html.escape(said)}">{drawn}</svg>'
        )
        return {"text/plain": repr(self), "text/html": turned(page)}


def places(nodes: Sequence[Node]) -> dict[Node, Place]:
    """Return each node's column and row: below all that it reads from, under the first of them if there is room."""
    made = {output: node for node in nodes for output in node.outputs if output}
    found: dict[Node, Place] = {}
    for node in nodes:
        above = [found[made[name]] for name in node.inputs if name in made]
        row = 1 + max((at[1] for at in above), default=-1)
        taken = {column for column, other in found.values() if other == row}
        column = above[0][0] if above else 0
        while column in taken:
            column += 1
        found[node] = column, row
    return found


class _Picture:
    """Turn one graph into boxes and lines."""

    def __init__(self, nodes: Sequence[Node], left: float) -> None:
        self.nodes, self.left, self.at = nodes, left, places(nodes)
        self.wide = max((LETTER * len(text) + 12 for node in nodes for text in _texts(node)), default=0.0)
        columns, rows = (1 + max((at[axis] for at in self.at.values()), default=-1) for axis in (0, 1))
        self.right = left + columns * (self.wide + 24)
        self.bottom = TOP + rows * (HIGH + GAP) + 2

    def corner(self, node: Node) -> tuple[float, float]:
        column, row = self.at[node]
        return self.left + column * (self.wide + 24), TOP + row * (HIGH + GAP)

    def parts(self) -> Iterator[str]:
        made = {output: node for node in self.nodes for output in node.outputs if output}
        for node in self.nodes:
            x, y = self.corner(node)
            edge = f'stroke="{BLUE}" fill="{BLUE}33"' if node.domain else 'stroke="currentColor" fill="none"'
            yield f'<rect x="{x:.1f}" y="{y}" width="{self.wide:.1f}" height="{HIGH}" rx="4" {edge}/>'
            for line, text in enumerate(_texts(node)):
                weight = ("" if line else ' font-weight="bold"') + ' text-anchor="middle"'
                middle, low = x + self.wide / 2, y + 15 + 15 * line
                yield f'<text x="{middle:.1f}" y="{low}"{weight}>{html.escape(text)}</text>'
            for name in dict.fromkeys(name for name in node.inputs if name in made):
                yield f'<path d="{self.line(made[name], node)}" fill="none" stroke="currentColor"/>'

    def line(self, above: Node, node: Node) -> str:
        (x, y), (to, end) = self.corner(above), self.corner(node)
        if x == to and end - y > HIGH + GAP:  # past the boxes between the two
            return f"M{x + self.wide:.1f} {y + HIGH / 2}h12V{end + HIGH / 2}h-12l6 -4m-6 4l6 4"
        x, to = x + self.wide / 2, to + self.wide / 2
        turn = f"V{end - GAP}C{x:.1f} {end} {to:.1f} {end - GAP} {to:.1f} {end}"
        return f"M{x:.1f} {y + HIGH}{turn}l-4 -6m4 6l4 -6"


def _heading(name: str, nodes: Sequence[Node]) -> str:
    return tr("{name}: {n} nodes", name=name, n=len(nodes))


def _texts(node: Node) -> tuple[str, str]:
    """Return what stands in a node's box: its operator, whose that is, and what it makes."""
    path = node.outputs[0].split("/")
    if len(path) > 2:  # "/model/layers.0/attn/qkv_proj/MatMul/output_0" is made by qkv_proj
        path = path[:-2] if path[-2] in ("MatMul", node.op) else path[:-1]
    return node.op, f"{node.domain or STANDARD} → {path[-1]}"
