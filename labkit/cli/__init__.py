"""The command line. Every command is a thin cover of a function that a notebook can call as well.

Whatever a command needs is imported inside it, so that `labkit --help` comes at once.
"""

from labkit.cli.main import app

__all__ = ["app"]
