"""The reference's pages: one for each package of the library, and the command line."""

from __future__ import annotations

from pathlib import Path

FRONT = ("labkit.types", "labkit.errors", "labkit.testing")  # modules that are in no package
LAYERS = "models engines metrics agents training serving deploy checks classroom widgets".split()
RULE = {1: "=", 2: "-"}


def packages(library: Path) -> dict[str, str]:
    """Return name and reStructuredText of each package's page, from the modules that are there."""
    pages = {"labkit.rst": _front()}
    for package in LAYERS:
        modules = sorted(_modules(library / package))
        pages[f"{package}.rst"] = "\n".join(
            [_heading(f"labkit.{package}", 1), f".. automodule:: labkit.{package}\n   :no-members:\n"]
            + [_module(module) for module in modules]
        )
    return pages


def _front() -> str:
    import labkit

    names = "\n".join(
        f"* ``labkit.{name}``, which is :py:obj:`{labkit._HOME[name]}.{name}`" for name in labkit.__all__
    )
    parts = [_heading("labkit", 1), names, "", *(_module(name) for name in FRONT)]
    return "\n".join(parts)


def _modules(folder: Path) -> list[str]:
    found = []
    for path in folder.rglob("*.py"):
        parts = path.relative_to(folder.parents[0]).with_suffix("").parts
        if not any(part.startswith("_") for part in parts):
            found.append(".".join(("labkit", *parts)))
    return found


def _module(name: str) -> str:
    return f"{_heading(name, 2)}\n.. automodule:: {name}\n"


def _heading(text: str, level: int) -> str:
    return f"{text}\n{RULE[level] * len(text)}\n"


def command_line() -> str:
    """Return the help of every command, as Markdown."""
    import typer
    from typer.cli import get_docs_for_click

    from labkit.cli import app

    command = typer.main.get_command(app)
    return get_docs_for_click(obj=command, ctx=typer.Context(command), name="labkit", title="Command line")
