"""The commands about this machine and the labs, and the list of all commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import labkit
from labkit.cli.bench import bench, compare
from labkit.cli.chat import chat
from labkit.cli.classroom import classroom
from labkit.cli.deploy import deploy
from labkit.cli.engines import engines
from labkit.cli.eval import evaluate
from labkit.cli.grade import grade
from labkit.cli.group import Group
from labkit.cli.load import load, sweep
from labkit.cli.models import models
from labkit.cli.options import shown_by
from labkit.cli.race import race
from labkit.cli.serve import serve
from labkit.cli.train import train
from labkit.errors import NotebookFailed

if TYPE_CHECKING:
    from labkit.classroom.runner import Run

app = typer.Typer(
    cls=Group,
    help="Learn to build AI agents that run at the edge, by running them.",
    epilog="A first walk: labkit doctor · labkit chat nano · labkit start",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"labkit {labkit.__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(rich_help_panel="The labs")
def start(
    lab: Annotated[str, typer.Argument(metavar="NN", help="Open this lab, as in 01.")] = "",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Or the next one that is free.")] = 8888,
    browser: Annotated[bool, typer.Option(help="Open a browser window.")] = True,
) -> None:
    """Open JupyterLab on the labs, on this machine only."""
    from labkit.classroom.runner import find_lab, labs_folder
    from labkit.classroom.start import start as run_jupyter

    folder = labs_folder()
    raise typer.Exit(run_jupyter(folder, find_lab(lab) if lab else None, port, browser))


@app.command(rich_help_panel="The labs")
def run(
    lab: Annotated[str, typer.Argument(metavar="NN", help="A lab's number or name, or an .ipynb file.")],
    solution: Annotated[
        bool, typer.Option("--solution", help="Run the solved lab; all checks must pass.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds a cell may take.")] = 300,
    out: Annotated[Path | None, typer.Option(help="Folder for the HTML file.", show_default=False)] = None,
    html: Annotated[bool, typer.Option(help="Write an HTML file.")] = True,
) -> None:
    """Run a lab from top to bottom and write what came out as HTML; the notebook stays as it is."""
    from tqdm import tqdm

    from labkit.classroom.runner import find_lab, run_lab, write_html
    from labkit.models.store import home

    path = find_lab(lab, solution)
    with tqdm(desc=path.stem, unit="cell", disable=None, leave=False) as bar:
        result = run_lab(path, timeout, strict=solution, progress=shown_by(bar))
    print(_summary(result))
    if html:
        print(write_html(result, out or home() / "runs"))
    if result.problem:
        raise result.problem


def _summary(result: Run) -> str:
    count, total = len(result.seconds), sum(result.seconds)
    slowest = f", the slowest {max(result.seconds):.1f} s" if result.seconds else ""
    return f"{result.lab.stem}: {count} code cells in {total:.1f} s{slowest}"


@app.command(rich_help_panel="This machine")
def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Let each engine generate a token.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what this machine has and what to type for what it lacks; exit code 1 if no lab can run."""
    from labkit.engines.doctor import doctor as examine

    report = examine(deep)
    print(json.dumps(report.json(), indent=2) if as_json else report)
    raise typer.Exit(0 if report.ok else 1)


app.add_typer(engines, name="engines", rich_help_panel="This machine")
app.add_typer(models, name="models", rich_help_panel="Models")
app.command(rich_help_panel="Models")(chat)
app.command("eval", rich_help_panel="Models")(evaluate)
app.command(rich_help_panel="Models")(bench)
app.command(rich_help_panel="Models")(compare)
app.command(rich_help_panel="Models")(race)
app.command(rich_help_panel="Models")(load)
app.command(rich_help_panel="Models")(sweep)
app.command(rich_help_panel="Models")(train)
app.add_typer(serve, name="serve", rich_help_panel="Models")
app.add_typer(deploy, name="deploy", rich_help_panel="Models")
app.add_typer(classroom, name="classroom", rich_help_panel="The labs")


app.command(rich_help_panel="For teachers")(grade)


@app.command(rich_help_panel="For authors")
def release(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if one is stale.")] = False,
    instructor: Annotated[
        Path | None, typer.Option(help="Write the instructor's notebooks, with nbgrader's marks, here.")
    ] = None,
    translations: Annotated[
        bool,
        typer.Option("--translations", help="Write nothing; print the cells that wait for a translator."),
    ] = False,
) -> None:
    """Make the notebooks in labs/ from labs/source/."""
    from labkit.classroom import release as maker

    root = _source_root()
    if translations:
        print("\n".join(maker.untranslated(root)) or "every translation is up to date")
        return
    if not check:
        for path in maker.release(root, instructor):
            print(path)
        return
    problems = maker.check(root)
    for problem in problems:
        print(problem, file=sys.stderr)
    raise typer.Exit(1 if problems else 0)


def _source_root() -> Path:
    roots = [Path.cwd(), Path(labkit.__file__).resolve().parents[1]]
    for root in roots:
        if (root / "labs" / "source").is_dir():
            return root
    raise NotebookFailed(
        f"there is no labs/source in {roots[0]}", fix="run this in a clone of the repository"
    )
