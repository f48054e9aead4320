"""Find a lab, run it from top to bottom in a kernel of its own, and write what came out as one HTML file.

The notebook in `labs/` is read and never written. Jupyter's libraries are imported when a run starts.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import labkit
from labkit.classroom import wakeup
from labkit.errors import NotebookFailed
from labkit.models.store import atomic_file

NUMBER = re.compile(r"\d{1,2}|appendix")
NAMES = ("[0-9][0-9]_*.ipynb", "appendix_*.ipynb")
INSTALL = "pip install 'labkit[widgets]'"
# One file that opens anywhere: no script, style or picture may come from the network. A widget shows the
# text or picture it carries for pages without a kernel.
PAGE = """{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
"""
SHOWN = ["text/html", "text/markdown", "image/svg+xml", "text/latex", "image/png", "image/jpeg", "text/plain"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Run:
    """Hold one run: seconds for each code cell that ran, the executed notebook, and what stopped it."""

    lab: Path
    seconds: tuple[float, ...]
    notebook: Any
    problem: NotebookFailed | None = None

    @property
    def ok(self) -> bool:
        """Return whether every cell ran."""
        return self.problem is None

    def __repr__(self) -> str:
        end = "ok" if self.ok else "failed"
        return f"<Run {self.lab.name}: {len(self.seconds)} cells in {sum(self.seconds):.1f} s, {end}>"


def labs_folder() -> Path:
    """Return the labs' folder: `LABKIT_LABS`, or `labs/` here, or this folder, or `labs/` of the clone."""
    chosen = os.environ.get("LABKIT_LABS")
    here = Path.cwd()
    beside = Path(labkit.__file__).resolve().parents[1] / "labs"
    folders = [Path(chosen).expanduser()] if chosen else [here / "labs", here, beside]
    for folder in folders:
        if labs_in(folder):
            return folder.resolve()
    raise NotebookFailed(
        f"there are no labs in {folders[0] if chosen else f'{here} or {beside}'}",
        fix="run this in a clone of the labs' repository, or set LABKIT_LABS to its labs folder",
    )


def find_lab(name: str, solution: bool = False) -> Path:
    """Return a lab's notebook: by number ("01" or "1"), by name, or by the path of any .ipynb file."""
    if name.endswith(".ipynb") and Path(name).is_file():
        return Path(name).resolve()
    folder = labs_folder() / ("solutions" if solution else "")
    wanted = name.zfill(2) if name.isdigit() else name.removesuffix(".ipynb")
    for lab in labs_in(folder):
        if lab.stem == wanted or (NUMBER.fullmatch(name) and lab.stem.startswith(f"{wanted}_")):
            return lab
    names = ", ".join(lab.stem for lab in labs_in(folder)) or "none"
    raise NotebookFailed(f"there is no lab {name!r} in {folder}", fix=f"choose from: {names}")


def labs_in(folder: Path) -> list[Path]:
    """Return a folder's labs, by number."""
    return sorted(path for name in NAMES for path in folder.glob(name))


def run_lab(
    lab: Path,
    timeout: float = 300,
    strict: bool = False,
    progress: Progress = lambda done, total: None,
) -> Run:
    """Run every cell of `lab` in a new kernel and return the `Run`; a cell that fails ends it.

    `timeout` is seconds a cell; `strict` makes an unsolved or wrong exercise fail (`LABKIT_STRICT=1`);
    `progress` is called with the cells done and all cells. Raises `NotebookFailed` if nothing can run.
    """
    notebook = read_notebook(lab)
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient import NotebookClient

    wakeup.apply()
    folder = {"metadata": {"path": str(lab.parent)}}
    client = NotebookClient(notebook, timeout=timeout, kernel_name="python3", resources=folder)
    client.extra_arguments = ["--IPKernelApp.log_level=CRITICAL"]  # the kernel's own log is no news
    environment = {**os.environ, "LABKIT_STRICT": "1"} if strict else dict(os.environ)
    seconds: list[float] = []
    try:
        with client.setup_kernel(env=environment):
            problem = _run_cells(client, lab, seconds, progress)
    except NoSuchKernel as exc:
        raise NotebookFailed("there is no Python kernel to run a notebook", fix=INSTALL) from exc
    except RuntimeError as exc:  # what jupyter_client raises when the kernel does not come up
        raise NotebookFailed(f"the notebook's Python did not start ({exc})", fix=INSTALL) from exc
    return Run(lab, tuple(seconds), notebook, problem)


def _run_cells(client: Any, lab: Path, seconds: list[float], progress: Progress) -> NotebookFailed | None:
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    cells = client.nb.cells
    for index, cell in enumerate(cells):
        progress(index, len(cells))
        began = time.perf_counter()
        try:
            client.execute_cell(cell, index)
        except CellExecutionError as exc:
            error = f"{exc.ename}: {exc.evalue}" if exc.evalue else str(exc.ename)
            return _failed(lab, index, cell, error, "open the lab and run that cell: labkit start")
        except CellTimeoutError:
            return _failed(lab, index, cell, f"no end after {client.timeout:g} s", "more time: --timeout 900")
        except DeadKernelError:
            return _failed(lab, index, cell, "its Python died", "memory is the usual reason: labkit doctor")
        finally:
            if cell.cell_type == "code":
                seconds.append(time.perf_counter() - began)
    progress(len(cells), len(cells))
    return None


def _failed(lab: Path, index: int, cell: Any, error: str, fix: str) -> NotebookFailed:
    first = next((line.strip() for line in cell.source.splitlines() if line.strip()), "")
    return NotebookFailed(f"{lab.name} stopped at cell {index + 1}: {first}\n  {error}", fix=fix)


def read_notebook(lab: Path) -> Any:
    """Return the notebook's cells without outputs; raise `NotebookFailed` if the file is none."""
    if find_spec("nbclient") is None or find_spec("ipykernel") is None:
        raise NotebookFailed("Jupyter is not installed", fix=INSTALL)
    import nbformat

    try:
        notebook = nbformat.read(lab, as_version=4)
        nbformat.validate(notebook)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, nbformat.ValidationError) as exc:
        reason = str(exc).splitlines()[0]  # nbformat lets Python's own errors through
        raise NotebookFailed(f"{lab} cannot be read as a notebook ({reason})", fix="labkit release") from exc
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def write_html(run: Run, folder: Path) -> Path:
    """Write the executed notebook as one HTML file that needs no network; return its path."""
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    settings = Config({"NbConvertBase": {"display_data_priority": SHOWN}})
    exporter = HTMLExporter(config=settings, raw_template=PAGE, embed_images=True)
    resources = {"metadata": {"name": run.lab.stem, "path": str(run.lab.parent)}}
    text, _ = exporter.from_notebook_node(run.notebook, resources)
    path = folder / f"{run.lab.stem}.html"
    with atomic_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    return path
