"""`labkit engines`: which there are, and the environments of those that cannot share labkit's."""

from __future__ import annotations

from typing import Annotated

import typer

Name = Annotated[str, typer.Argument(metavar="NAME", help="An environment's name: vllm, agentlightning.")]
engines = typer.Typer(help="List the engines; install and remove those apart.", invoke_without_command=True)


@engines.callback()
def _without_command(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        show_list()


@engines.command("list")
def show_list() -> None:
    """List the engines, installed or not."""
    from labkit.engines.doctor import engine_states

    for state in engine_states():
        print(f"{state.name:<12} {state}")


@engines.command()
def install(name: Name) -> None:
    """Make an engine's own environment: gigabytes, and minutes."""
    from labkit.engines.environments import install as make

    print(f"{name} {make(name)} is ready")


@engines.command()
def remove(name: Name) -> None:
    """Delete an engine's own environment."""
    from labkit.engines.environments import remove as delete

    print(f"{delete(name) / 1e9:.1f} GB freed")
