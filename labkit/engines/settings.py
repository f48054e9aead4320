"""Check the options of `load(…)` that are an engine's own, before the engine does anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from labkit.errors import OptionInvalid

Settings = TypeVar("Settings")


def settings_of(kind: type[Settings], engine: str, options: Mapping[str, Any]) -> Settings:
    """Make the dataclass `kind` from `options`; raise `OptionInvalid`, with what exists, for an unknown name."""
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in options:
        if name not in known:
            raise OptionInvalid(f"{engine} has no option {name!r}", fix=f"choose from: {', '.join(known)}")
    return kind(**options)


def require_seconds(name: str, value: object) -> None:
    """Raise `OptionInvalid` unless `value` is more than 0 seconds and at most a day."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 86_400:
        raise OptionInvalid.of(name, value, "seconds, more than 0")
