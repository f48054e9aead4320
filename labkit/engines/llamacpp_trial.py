"""Open a GGUF file with llama.cpp and say nothing: run in a child process before an unknown file is loaded."""

from __future__ import annotations

import sys
from pathlib import Path

from labkit.engines.llamacpp_native import Context, LoadOptions
from labkit.errors import LabkitError


def main() -> int:
    """Load the file named on the command line; print a `LabkitError`'s reason."""
    try:
        Context(Path(sys.argv[1]), LoadOptions(context=64, threads=1)).free()
    except LabkitError as error:
        print(error.what, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
