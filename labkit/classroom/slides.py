"""Slides of a lab, made from the student's notebook by `nbconvert --to slides`.

Headings, objectives, predictions and code are shown; the prose between them becomes the speaker's notes (press s).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from labkit.errors import OptionInvalid

REVEAL = "https://unpkg.com/reveal.js@4.0.2"  # nbconvert's own default
THEME = "white"  # brings its fonts along; others fetch them from the network
# nbconvert's page would fetch four more libraries; reveal.js alone is enough for slides.
PAGE = """{%- extends 'reveal/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block footer_js -%}
<script src="{{ resources.reveal.url_prefix }}/dist/reveal.js"></script>
<script src="{{ resources.reveal.url_prefix }}/plugin/notes/notes.js"></script>
<script>Reveal.initialize({hash: true, plugins: [RevealNotes]})</script>
{%- endblock -%}
"""
SHOWN = re.compile(r"^(#|[-*] |\*\*(Predict|Run|Look at))")


def slides(lab: Path, reveal: str = "") -> str:
    """Return a lab's slides as one HTML page; `reveal` is where reveal.js lies: a relative folder, or an address."""
    from nbconvert import SlidesExporter

    if reveal and not re.fullmatch(r"[\w.:/@-]+", reveal):
        raise OptionInvalid(f"{reveal!r:.60} cannot hold reveal.js", fix="--reveal reveal.js, or an address")
    exporter = SlidesExporter(raw_template=PAGE, reveal_url_prefix=reveal or REVEAL, reveal_theme=THEME)
    text, _ = exporter.from_notebook_node(
        deck(lab), {"metadata": {"name": lab.stem, "path": str(lab.parent)}}
    )
    return str(text)


def deck(lab: Path) -> Any:
    """Return the notebook with a kind of slide on each cell, and its prose in cells of notes."""
    import nbformat

    notebook = nbformat.read(lab, as_version=4)
    cells = [made for cell in notebook.cells for made in _cells(cell)]
    notebook.cells = cells
    return notebook


def _cells(cell: Any) -> list[Any]:
    from nbformat.v4 import new_markdown_cell

    if cell.cell_type == "code":
        hidden = not _worth_showing(cell.source)
        cell.metadata["slideshow"] = {"slide_type": "skip" if hidden else "subslide"}
        return [cell]
    parts = re.split(r"\n\s*\n", cell.source.strip())
    shown = [part for part in parts if SHOWN.match(part)]
    said = [part for part in parts if not SHOWN.match(part)]
    kind = "slide" if re.search(r"^##? ", cell.source, re.MULTILINE) else "subslide"
    made = [("\n\n".join(shown), kind)] if shown else []
    made += [("\n\n".join(said), "notes")] if said else []
    return [
        new_markdown_cell(text, id=f"{cell.id}-{n}", metadata={"slideshow": {"slide_type": kind}})
        for n, (text, kind) in enumerate(made)
    ]


def _worth_showing(code: str) -> bool:
    """Leave out what only belongs to the notebook: commented-out hints, and its last cell."""
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith("#")]
    return bool(lines) and not lines[-1].startswith("finish()")
