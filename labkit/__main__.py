"""Let `python -m labkit` do what `labkit` does, where the command is not on the PATH."""

from labkit.cli import app

app(prog_name="labkit")
