"""Look around in a jail as a hostile notebook would, and say "holds" if there is nothing to find.

python -m labkit.classroom.grading.probe [COVERED_PATH …]
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import labkit


def open_doors(*covered: str) -> Iterator[str]:
    """Name what a notebook could do that it must not."""
    if sum(name.isdigit() for name in os.listdir("/proc")) > 3:  # bubblewrap's, this one, and a spare
        yield "other processes can be seen"
    if len(socket.if_nameindex()) > 1:
        yield "there is a network"
    if _works(lambda: socket.create_connection(("192.0.2.1", 80), timeout=1)):
        yield "a connection was made"
    for folder in (Path(labkit.__file__).parent, Path(sys.prefix), Path("/"), Path("/dev"), Path("/usr")):
        if _works((folder / "trial").touch):
            yield f"{folder} can be written to"
    for path in map(Path, covered):
        if _works(partial(_look, path)):
            yield f"{path} can be read"
    if find_spec("IPython") is None:
        yield "IPython is not installed: pip install 'labkit[classroom]'"
    if os.geteuid() == 0 or _works(lambda: os.setuid(0)):
        yield "it is root"


def _look(path: Path) -> object:
    return next(path.iterdir()) if path.is_dir() else next(iter(path.read_bytes()))


def _works(trial: Callable[[], object]) -> bool:
    try:
        trial()
    except (OSError, StopIteration):
        return False
    return True


if __name__ == "__main__":
    print("; ".join(open_doors(*sys.argv[1:])) or "holds")
