"""Make the book: run the labs once, gather pages, let Sphinx build them without the network, and check the links.

    python book/book.py run [NN ...]   run solved labs whose outputs are missing or old, into build/book-runs (slow)
    python book/book.py build          build/book/index.html, in a minute or two; warnings are errors

A lab that has not run is in the book without outputs, and its page says so.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import nbformat
from contents import index
from links import problems
from reference import command_line, packages

import labkit
from labkit.classroom.release import read
from labkit.classroom.runner import run_lab
from labkit.errors import LabkitError
from labkit.models.hardware import machine

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"
RUNS = ROOT / "build" / "book-runs"
LANGUAGES = {"zh": "中文", "ms": "Bahasa Melayu", "ar": "العربية"}
SHOWN = ("text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/plain")
BAR = re.compile(r"\d+%\|")
DIRECTION = re.compile(r"^<div dir=.*>\s*|\s*</div>\s*$")
PAPERS = {
    "nano": "labkit/models/nano/README.md",
    "pico": "labkit/models/pico/README.md",
    "contributing": "CONTRIBUTING.md",
    "changelog": "CHANGELOG.md",
}


def fingerprint(solution: Path) -> str:
    """Return what a lab's outputs depend on: its cells and nano's weights."""
    weights = ROOT / "labkit" / "models" / "nano" / "model.safetensors"
    return hashlib.sha256(solution.read_bytes() + weights.read_bytes()).hexdigest()


def run(names: list[str], labs: Path = ROOT / "labs", runs: Path = RUNS) -> list[str]:
    """Run each solved lab whose outputs are missing or old; return what failed, in words."""
    runs.mkdir(parents=True, exist_ok=True)
    failed = []
    for solution in sorted((labs / "solutions").glob("*.ipynb")):
        wanted = not names or solution.stem.startswith(tuple(names))
        if not wanted or outputs(solution, runs) is not None:
            continue
        print(f"{solution.stem} …", flush=True)
        try:
            nbformat.write(_executed(solution), runs / solution.name)
        except LabkitError as exc:
            failed.append(str(exc))
    return failed


def _executed(solution: Path) -> Any:
    done = run_lab(solution, timeout=600, strict=True)
    if done.problem:
        raise done.problem
    here = machine()
    done.notebook.metadata["labkit_run"] = {
        "fingerprint": fingerprint(solution),
        "day": date.today().isoformat(),
        "version": labkit.__version__,
        "machine": f"{here.usable_cores} core{'s' * (here.usable_cores > 1)} of {here.cpu or here.arch}",
        "seconds": round(sum(done.seconds)),
    }
    return done.notebook


def outputs(solution: Path, runs: Path) -> Any | None:
    """Return the executed notebook, or None where there is none of this lab as it is now."""
    path = runs / solution.name
    if not path.exists():
        return None
    notebook = nbformat.read(path, as_version=4)
    current = notebook.metadata.get("labkit_run", {}).get("fingerprint") == fingerprint(solution)
    return notebook if current else None


def gather(pages: Path, labs: Path = ROOT / "labs", runs: Path = RUNS) -> None:
    """Write the book's pages: labs with their outputs, translations, the reference, and what stands in Markdown."""
    shutil.rmtree(pages, ignore_errors=True)
    (pages / "labs").mkdir(parents=True)
    for solution in sorted((labs / "solutions").glob("*.ipynb")):
        nbformat.write(_page(solution, outputs(solution, runs)), pages / "labs" / solution.name)
    languages = _languages(labs)
    for code in languages:
        _translated(code, labs, pages)
    for name, source in PAPERS.items():
        shutil.copy(ROOT / source, pages / f"{name}.md")
    (pages / "reference").mkdir()
    reference = {**packages(ROOT / "labkit"), "command_line.md": command_line()}
    for name, text in reference.items():
        (pages / "reference" / name).write_text(text, encoding="utf-8")
    shutil.copy(BOOK / "jupyterlab.png", pages)
    sections = {
        "In other languages": [f"labs/{code}/index" for code in languages],
        "Reference": [f"reference/{Path(name).stem}" for name in sorted(reference)],
        "About": list(PAPERS),
    }
    front = (BOOK / "index.md").read_text(encoding="utf-8")
    (pages / "index.md").write_text(index(front, pages, sections), encoding="utf-8")


def _page(solution: Path, done: Any | None) -> Any:
    """Return a lab's page: answers folded, one output of each bundle, and a word on whose figures they are."""
    page = done or nbformat.read(solution, as_version=4)
    labs = solution.parents[1]
    answers = {c.id for c in read(labs / "source" / f"{solution.stem}.py") if "### BEGIN SOLUTION" in c.text}
    for cell in page.cells:
        if cell.id in answers:
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
        if cell.cell_type == "code":
            cell.outputs = [_shown(output) for output in cell.outputs if not _is_progress(output)]
    page.metadata.pop("widgets", None)  # they would want scripts from elsewhere; each has a picture or text
    note = _about(solution, page.metadata.get("labkit_run"))
    note += "".join(
        f" [{LANGUAGES[code]}]({code}/{solution.name})" for code in _languages(labs, solution.name)
    )
    page.cells.insert(1, nbformat.v4.new_markdown_cell(f"```{{note}}\n{note}\n```"))
    return page


def _is_progress(output: Any) -> bool:
    """Say whether an output is nothing but a bar, drawn again and again in one line that a page would repeat."""
    lines = re.split(r"[\r\n]+", output.get("text", "it has data"))
    return all(BAR.search(line) or not line.strip() for line in lines)


def _shown(output: Any) -> Any:
    data = output.get("data")
    best = next((kind for kind in SHOWN if data and kind in data), None)
    if best:
        output["data"] = {best: data[best]}
    return output


def _about(solution: Path, run: Any | None) -> str:
    if not run:
        return "This lab was not run when the book was made: the page has no outputs."
    return (
        f"The figures below are of one run: {run['day']}, labkit {run['version']}, {run['machine']}; its cells "
        f"took {run['seconds']} s. Yours will differ. Answers are folded: try first, in `labs/{solution.name}`."
    )


def _languages(labs: Path, name: str = "*.ipynb") -> list[str]:
    return [code for code in LANGUAGES if any((labs / code).glob(name))]


def _translated(code: str, labs: Path, pages: Path) -> None:
    """Write the pages of a language: its words, with the code and the outputs of the English page."""
    (pages / "labs" / code).mkdir()
    names = []
    for path in sorted((labs / code).glob("*.ipynb")):
        english = nbformat.read(pages / "labs" / path.name, as_version=4)
        shared = {cell.id: cell for cell in english.cells if cell.cell_type == "code"}
        page = nbformat.read(path, as_version=4)
        page.cells = [shared.get(cell.id, cell) for cell in page.cells]
        for cell in page.cells:
            if cell.cell_type == "markdown":  # the page has a direction of its own: conf.py
                cell.source = DIRECTION.sub("", cell.source)
        note = _about(path, english.metadata.get("labkit_run"))
        note = f"```{{note}}\n{note}\n```"
        page.cells.insert(1, nbformat.v4.new_markdown_cell(note))
        nbformat.write(page, pages / "labs" / code / path.name)
        names.append(path.stem)
    tree = "\n".join(names)
    (pages / "labs" / code / "index.md").write_text(
        f"# {LANGUAGES[code]}\n\n```{{toctree}}\n{tree}\n```\n", encoding="utf-8"
    )


def repository() -> str:
    """Return BOOK_REPOSITORY or the clone's GitHub address, which Binder needs; "" if there is neither."""
    git = ["git", "-C", str(ROOT), "remote", "get-url", "origin"]
    origin = subprocess.run(git, capture_output=True, text=True).stdout
    found = re.search(r"github\.com[:/]([\w.-]+/[\w.-]+?)(\.git)?\s*$", origin)
    return os.environ.get("BOOK_REPOSITORY") or (f"https://github.com/{found[1]}" if found else "")


def build(pages: Path, site: Path) -> list[str]:
    """Let Sphinx build the pages, every warning an error; return what is wrong with the links and the sources."""
    shutil.rmtree(site, ignore_errors=True)
    options = ["-q", "-W", "--keep-going", "-E", "-d", str(pages.parent / "doctrees"), "-c", str(BOOK)]
    environment = {**os.environ, "BOOK_REPOSITORY": repository(), "PYTHONPATH": str(ROOT)}
    sphinx = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(pages), str(site)], env=environment
    )
    return ["Sphinx had warnings: see above"] if sphinx.returncode else problems(site)


def main(command: str = "build", *names: str) -> int:
    """Run the labs or build the book; print what is wrong."""
    if command == "run":
        wrong = run(list(names))
    else:
        pages, site = ROOT / "build" / "book-pages", ROOT / "build" / "book"
        gather(pages)
        wrong = build(pages, site)
        print(f"{site / 'index.html'}; Binder buttons for: {repository() or 'none (set BOOK_REPOSITORY)'}")
    print(*wrong, sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
