"""Find the checks that students never see: entry points of packages of your own.

    [project.entry-points."labkit.hidden_checks"]
    01 = "our_course_secrets.lab01:CHECKS"

with `CHECKS = {"q3": test}`: a test gets the same answers as the public one, after that one passed, and
raises `labkit.checks.core.Wrong` for a reason, or returns. Give the package a top-level name of its own: that folder
is what a notebook's jail covers up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from labkit.errors import OptionInvalid

GROUP = "labkit.hidden_checks"


def hidden_checks(lab: str) -> dict[str, Callable[..., Any]]:
    """Return a lab's hidden tests by question; raise `OptionInvalid` for an entry point that gives none."""
    found: dict[str, Callable[..., Any]] = {}
    for point in entry_points(group=GROUP, name=lab):
        checks = point.load()
        if not isinstance(checks, Mapping) or not all(map(callable, checks.values())):
            raise OptionInvalid(
                f"the hidden checks {point.value} of lab {lab} are {checks!r:.60}",
                fix='make it a dict of functions, as in CHECKS = {"q3": test}',
            )
        if twice := found.keys() & checks.keys():
            raise OptionInvalid(
                f"two packages hide checks of lab {lab} {min(twice)}", fix="uninstall one of them"
            )
        found |= checks
    return found


def covered() -> list[Path]:
    """Return every file and folder that holds hidden checks, with what Python and pip keep of them."""
    return sorted({path for point in entry_points(group=GROUP) for path in _places(point) if path.exists()})


def _places(point: EntryPoint) -> list[Path]:
    name = point.module.partition(".")[0]
    spec = find_spec(name)  # looks for a file, and imports nothing
    if spec is None or (spec.origin is None and not spec.submodule_search_locations):
        raise OptionInvalid(
            f"hidden checks name {point.value}, and there is no {name}", fix=f"pip install {name}"
        )
    places = [Path(place) for place in spec.submodule_search_locations or ()]
    if not places and spec.origin:
        file = Path(spec.origin)
        places = [file, *file.parent.glob(f"__pycache__/{name}.*")]
    about = getattr(point.dist, "_path", None)  # the folder of its metadata: RECORD names the files
    return [place.resolve() for place in (*places, *([Path(about)] if about else []))]


def shown() -> list[Path]:
    """Return the folders to import hidden checks from, for the process that judges."""
    return sorted({path.parent for path in covered() if path.parent.name != "__pycache__"})
