"""Read files of JSON lines; a bad line is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from labkit.errors import LabkitError

T = TypeVar("T")


def read_lines(
    path: Path, read: Callable[[Any], T], what: str, fix: str, kind: type[LabkitError] = LabkitError
) -> list[T]:
    """Return what `read` makes of each line's JSON; raise `kind` with file and line of what is no `what`."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as exc:
        raise kind(
            f"{path} cannot be read: {exc.strerror}", fix=f"give a .jsonl file, a {what} a line"
        ) from exc
    found = []
    for at, line in enumerate(lines, 1):
        try:
            found.append(read(json.loads(line.decode("utf-8"))))
        except (LabkitError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as exc:
            why = f"it has no {exc}" if isinstance(exc, KeyError) else str(exc)
            raise kind(f"{path}, line {at} is no {what}: {why:.200}", fix=fix) from exc
    return found
