"""What several commands do with their options: lists of names, the model to load, a bar to move."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.engines.base import Model

Names = list[str] | None


def listed(values: Names) -> list[Any]:
    """Return the names of an option that may be given twice, or once as A,B."""
    return [name for value in values or [] for name in value.split(",") if name]


def opened(model: str, engine: str, variant: str | None, **options: Any) -> Model:
    """Load a model; which engine was chosen is no part of what a command prints."""
    from labkit.engines.registry import load

    with redirect_stdout(sys.stderr):
        return load(model, engine, variant, **options)


def shown_by(bar: Any) -> Callable[[int, int], None]:
    """Return what moves a bar to (done, in all)."""

    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return show
