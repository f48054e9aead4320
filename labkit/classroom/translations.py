"""Join translated prose to a lab's code: `labs/source/translations/zh/NN_name.md` → `labs/zh/NN_name.ipynb`.

A translation holds prose only, cell after cell. Above each stands the id of the English cell that it translates:

    <!-- 0a1b2c3d4e5f -->

An id is made from the text, so a cell that changes in English no longer finds its translation, and `stale` says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labkit.classroom.release import Cell

MARK = re.compile(r"^<!-- ([0-9a-f]{12}) -->$", re.MULTILINE)
FENCE, SPAN = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL), re.compile(r"`[^`]+`")
# What a translation must take over as it is.
KEPT = {
    "block of code": FENCE,
    "code": SPAN,
    "link": re.compile(r"\]\(([^)]+)\)|(https?://[^\s)]+)"),
    "figure": re.compile(r"[0-9]+(?:[.,][0-9]+)*"),
    "heading": re.compile(r"^#+(?= )", re.MULTILINE),
}
# JupyterLab aligns paragraphs to the left, whatever their direction; a heading or a list it leaves alone.
PARAGRAPH = re.compile(r"^(> )?(?!#|> |[-*+] |\d+\. |\||<div|</div)(.+(?:\n(?! *[-*+] ).+)*)$", re.MULTILINE)
ALIGNED = r'\1<span style="display:block;text-align:right">\2</span>'
RIGHT_TO_LEFT = ("ar", "fa", "he", "ur")


def folders(root: Path) -> list[Path]:
    """Return a folder for each language."""
    return sorted(path for path in (root / "labs" / "source" / "translations").glob("*") if path.is_dir())


def sources(root: Path, folder: Path) -> list[tuple[Path, Path]]:
    """Return a language's translations, each with the lab that it translates."""
    labs = sorted((root / "labs" / "source").glob("*.py"))
    return [(path, lab) for lab in labs if (path := folder / f"{lab.stem}.md").exists()]


def read(path: Path) -> dict[str, str]:
    """Return {id of the English cell: translated text}; what stands above the first id belongs to no cell."""
    _, *parts = MARK.split(path.read_text(encoding="utf-8"))
    return {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}


def translate(cells: Sequence[Cell], path: Path) -> list[Cell]:
    """Return cells with their prose translated; a cell that has no translation (yet) stays English."""
    found, note, language = read(path), path.parent / "note.md", path.parent.name
    texts = [found.get(cell.id, cell.text) if cell.kind == "markdown" else cell.text for cell in cells]
    if note.exists():
        title, _, rest = texts[0].partition("\n")
        said = note.read_text(encoding="utf-8").strip().replace("{lab}", f"{path.stem}.ipynb")
        texts[0] = f"{title}\n\n{said}\n{rest}"
    if language in RIGHT_TO_LEFT:
        kinds = [cell.kind for cell in cells]
        texts = [turn(t) if kind == "markdown" else t for t, kind in zip(texts, kinds, strict=True)]
    return [replace(cell, text=text) for cell, text in zip(cells, texts, strict=True)]


def turn(text: str) -> str:
    """Write Markdown from right to left, and the code in it from left to right."""
    parts = re.split(f"({FENCE.pattern})", text, flags=FENCE.flags)
    parts[1::2] = (f'<div dir="ltr">\n\n{block}\n\n</div>' for block in parts[1::2])
    parts[::2] = (PARAGRAPH.sub(ALIGNED, SPAN.sub(r'<span dir="ltr">\g<0></span>', p)) for p in parts[::2])
    return f'<div dir="rtl">\n\n{"".join(parts)}\n\n</div>'


def stale(cells: Sequence[Cell], path: Path) -> list[str]:
    """Say where a translation no longer follows its English text; an empty list means nowhere."""
    found, english = read(path), {cell.id: cell.text for cell in cells if cell.kind == "markdown"}
    where = f"{path.parent.name}/{path.name}"
    problems = [f"{where}: {part} (`labkit release --translations`)" for part, _ in _moved(english, found)]
    for name in english.keys() & found.keys():
        for what, pattern in KEPT.items():
            ours, theirs = (_kept(what, pattern, text) for text in (english[name], found[name]))
            lost, new = _words(ours, theirs, what), _words(theirs, ours, what)
            problems += [f"{where}: <!-- {name} --> lacks the {what} {lost}"] if lost else []
            problems += [f"{where}: <!-- {name} --> has the {what} {new}, its English has not"] if new else []
    return sorted(problems)


def todo(cells: Sequence[Cell], path: Path) -> str:
    """Return each cell that is missing from a translation, or has changed, with its id and new English text."""
    english = {cell.id: cell.text for cell in cells if cell.kind == "markdown"}
    said = (f"{path}: {part}\n{text}" for part, text in _moved(english, read(path)))
    return "\n".join(said)


def _moved(english: dict[str, str], found: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Compare the order of ids; yield what is to do, and the English text of new cells under their ids."""
    new, old = list(english), list(found)
    for kind, i, j, start, end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        texts = "".join(f"\n<!-- {name} -->\n{english[name]}\n" for name in new[start:end])
        gone = " ".join(f"<!-- {name} -->" for name in old[i:j])
        if kind == "replace":
            yield f"changed in English: {gone}", texts
        elif kind == "delete":
            yield f"no longer in the lab, or not in this place: {gone}", texts
        elif kind == "insert":
            after = f"after <!-- {old[i - 1]} -->" if i else "at the top"
            yield f"{end - start} cell(s) missing {after}", texts


def _kept(what: str, pattern: re.Pattern[str], text: str) -> list[str]:
    text = text if what == "block of code" else FENCE.sub("", text)
    return [" ".join(match[0].split()) for match in pattern.finditer(text)]


def _words(some: list[str], others: list[str], what: str) -> str:
    # The number of headings matters; a word of code may well be said once more, or once less.
    if what == "heading":
        return ", ".join(some) if some != others else ""
    return ", ".join(sorted(set(some) - set(others)))
