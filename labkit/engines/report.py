"""What doctor found: typed parts, and the ways to show them. It looks at nothing itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from html import escape
from pathlib import Path
from typing import Any

from labkit.engines.ports import Port
from labkit.models.hardware import Machine
from labkit.types import Availability

GB = 1e9


@dataclass(frozen=True, slots=True)
class EngineState:
    """Say whether an engine is installed, and, where it was tried, whether it really works.

    `usable` is None when nobody tried; `seconds` is the time of loading nano and generating one token.
    `runs_models` is false for an engine without a model (echo).
    """

    name: str
    found: Availability
    runs_models: bool = True
    usable: bool | None = None
    seconds: float = 0.0

    @property
    def works(self) -> bool:
        """Return whether it is installed, and no trial has failed."""
        return self.found.installed and self.usable is not False

    def __str__(self) -> str:
        version = f" {self.found.version}" if self.found.version else ""
        if not self.found.installed:
            return f"not installed: {self.found.reason}"
        if self.usable is False:
            return f"installed{version}, does not work: {self.found.reason}"
        if self.usable:
            return f"usable{version}, nano's first token after {self.seconds:.2f} s"
        return f"installed{version}" + ("" if self.runs_models else f", {self.found.reason}")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """Name one model file on this machine: a variant that is ready, or the weights that labkit ships."""

    alias: str
    variant: str
    path: Path
    bytes: int

    def __str__(self) -> str:
        return f"{self.variant}, {self.bytes / 1e6:,.1f} MB"


@dataclass(frozen=True, slots=True)
class Cache:
    """Describe the folder labkit keeps its files in; `problem` says why it cannot be written to."""

    path: Path
    free_bytes: int
    problem: str = ""
    fix: str = ""

    def __str__(self) -> str:
        state = self.problem or f"{self.free_bytes / GB:,.1f} GB free"
        return f"{self.path}: {state}"


@dataclass(frozen=True, slots=True)
class Problem:
    """Say what is wrong and what to type."""

    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what}\n  → {self.fix}"


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """Hold everything doctor found; `print` it, or let a notebook show it.

    `deep` tells whether engines were tried; only then is one called usable. Sizes are bytes.
    """

    machine: Machine
    engines: tuple[EngineState, ...]
    models: tuple[ModelFile, ...]
    ports: tuple[Port, ...]
    cache: Cache
    deep: bool = False

    @property
    def ok(self) -> bool:
        """Return whether a lab can run: an engine for models, and a cache that can be written to."""
        return self._has_engine and not self.cache.problem

    @property
    def _has_engine(self) -> bool:
        return any(engine.runs_models and engine.works for engine in self.engines)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Return what does not work, each with what to type. An engine that is not installed is one
        only if no other is."""
        broken = [e for e in self.engines if e.runs_models and e.usable is False]
        found = [Problem(f"{e.name}: {e.found.reason}", e.found.fix) for e in broken]
        if not broken and not self._has_engine:
            found.append(Problem("no engine that runs a model is installed", self._first_install()))
        if not self.models:
            found.append(Problem("there is no model on this machine", "labkit models   lists what to pull"))
        if self.cache.problem:
            found.append(Problem(self.cache.problem, self.cache.fix))
        return tuple(found)

    def _first_install(self) -> str:
        fixes = [e.found.fix for e in self.engines if e.runs_models and e.found.fix]
        return fixes[0] if fixes else "pip install 'labkit[llamacpp]'"

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Yield what was found as (topic, name, text)."""
        yield from (("machine", name, text) for name, text in machine_rows(self.machine))
        yield from (("engines", e.name, str(e)) for e in self.engines)
        yield from (("models", m.alias, str(m)) for m in self.models)
        yield from (("ports", str(p.number), str(p)) for p in self.ports)
        yield "cache", "folder", str(self.cache)

    def json(self) -> dict[str, Any]:
        """Return everything as plain dicts, lists, numbers and strings."""
        return {"ok": self.ok, "problems": _plain(self.problems), **_plain(self)}

    def __repr__(self) -> str:
        count = len(self.problems)
        return f"<Report: {'ok' if self.ok else 'not ok'}, {count} problem{'' if count == 1 else 's'}>"

    def __str__(self) -> str:
        rows = list(self.rows())
        width = max(len(name) for _, name, _ in rows)
        lines, before = [], ""
        for topic, name, text in rows:
            lines += [""] if before and topic != before else []
            lines.append(f"{'' if topic == before else topic:<8}  {name:<{width}}  {text}")
            before = topic
        return "\n".join([*lines, "", *(str(p) for p in self.problems), self._verdict()])

    def _repr_html_(self) -> str:
        # No colours of its own: it takes those of the notebook's theme, light or dark.
        rows, before = [], ""
        for topic, name, text in self.rows():
            head = "" if topic == before else f"<b>{escape(topic)}</b>"
            rows.append(f"<tr>{_cell(head)}{_cell(escape(name))}{_cell(escape(text))}</tr>")
            before = topic
        problems = "".join(
            f"<p>{escape(p.what)}<br>→ <code>{escape(p.fix)}</code></p>" for p in self.problems
        )
        return f"<table>{''.join(rows)}</table>{problems}<p><b>{escape(self._verdict())}</b></p>"

    def _verdict(self) -> str:
        if not self.ok:
            return "Not ready: mend what is said above."
        return "Ready." if self.deep else "Ready, as far as can be seen without trying: labkit doctor --deep"


def _cell(html: str) -> str:
    return f'<td style="text-align:left">{html}</td>'


def machine_rows(machine: Machine) -> Iterator[tuple[str, str]]:
    """Yield what a student should know of the machine, as (name, text)."""
    m = machine
    yield "system", f"{m.os} on {m.arch}, Python {m.python}"
    yield "processor", m.cpu
    yield "cores", f"{m.usable_cores} usable, {m.physical_cores} physical, {m.logical_cores} logical"
    if m.load is not None:
        yield (
            "load",
            f"{m.load:.1f}" + ("; busy, so figures will be worse" if m.load > m.usable_cores else ""),
        )
    yield "memory", f"{m.memory_available / GB:.1f} GB free of {m.memory_total / GB:.1f} GB"
    for gpu in m.gpus:
        shared = ", shared with the processor" if gpu.shared else ""
        yield (
            "GPU",
            f"{gpu.name}, {gpu.memory_free / GB:.1f} GB free of {gpu.memory_total / GB:.1f} GB{shared}",
        )
    if not m.gpus:
        yield "GPU", "none found"
    yield "NPU", m.npu or "none found"
    if m.battery:
        plugged = "plugged in" if m.battery.plugged else "not plugged in, so it may slow down"
        yield "battery", f"{m.battery.percent:.0f} %, {plugged}"


def _plain(value: Any) -> Any:
    """Reduce dataclasses, paths and sets to what JSON has."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
