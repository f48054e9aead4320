"""How commands end: a `LabkitError` becomes its message and exit code 1, never a traceback."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import Any

import typer
from typer.core import TyperGroup

from labkit.errors import LabkitError


class Group(TyperGroup):
    """Run a command; Ctrl-C ends it with 130, and a closed pipe ends it quietly (both are Typer's doing)."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Keep the order in which commands are defined: the first ones first."""
        return list(self.commands)

    def invoke(self, ctx: Any) -> Any:
        """Turn labkit's own errors into a message; `LABKIT_DEBUG=1` shows where they came from."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="replace")  # an arrow on a console that has none is no error
        try:
            return super().invoke(ctx)
        except LabkitError as error:
            if os.environ.get("LABKIT_DEBUG") == "1":
                raise
            sys.stdout.flush()
            print(f"labkit: {error}", file=sys.stderr)
            # A download that Ctrl-C stopped says how to go on, and still ends as Ctrl-C does.
            raise typer.Exit(130 if isinstance(error.__cause__, KeyboardInterrupt) else 1) from None
