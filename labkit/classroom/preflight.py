"""Before the day: is this machine, or this hub, ready for the labs? And are all machines of a class?

Every line names what was found and, where that is not enough, what to type. It reuses what `labkit doctor` sees.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
import webbrowser
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import labkit
from labkit.engines.doctor import doctor
from labkit.engines.report import Report
from labkit.errors import LabkitError, OptionInvalid
from labkit.models.store import storage_errors

GB = 1e9
PYTHON = (3, 11)
MEMORY_GB = 1.5  # JupyterLab, a kernel and nano with its widgets, with room for a second notebook
DISK_GB = 1.0  # what the labs write: levels of nano, indexes, records
PACKAGES = ("jupyterlab", "ipykernel", "ipywidgets", "anywidget", "plotly", "nbclient", "nbconvert")
SHIPPED = ("nano", "pico")
JUPYTER_PORT = 8888
BROWSERS = ("firefox", "chromium", "chromium-browser", "google-chrome", "microsoft-edge")


@dataclass(frozen=True, slots=True)
class Check:
    """Hold one line; `ok` is None for what is only worth knowing."""

    name: str
    ok: bool | None
    found: str
    fix: str = ""

    def __str__(self) -> str:
        verdict = {True: "ok", False: "FAIL", None: "note"}[self.ok]
        return f"{verdict:<5} {self.name:<12} {self.found}" + (f"\n{'':<19}→ {self.fix}" if self.fix else "")


def preflight(class_url: str = "", deep: bool = True) -> list[Check]:
    """Check this machine; with `deep`, every installed engine must generate a token. Takes seconds, not minutes."""
    report = doctor(deep)
    return [
        _python(),
        *_packages(),
        *_engines(report),
        _memory(report),
        _disk(report),
        *_models(report),
        *_ports(report),
        _labs(),
        _browser(),
        *([_class(class_url)] if class_url else []),
    ]


def _check(name: str, good: bool, found: str, fix: str) -> Check:
    """Return a line that says what to type only where that is needed."""
    return Check(name, good, found, "" if good else fix)


def _python() -> Check:
    found = f"{platform.python_version()} on {sys.platform}"
    return _check(
        "python", sys.version_info >= PYTHON, found, f"Python {'.'.join(map(str, PYTHON))} or newer"
    )


def _packages() -> Iterator[Check]:
    yield Check("labkit", True, labkit.__version__)
    pins, wrong = _pins(), []
    for name in PACKAGES:
        try:
            here = version(name)
        except PackageNotFoundError:
            yield Check("jupyter", False, f"{name} is not installed", "pip install 'labkit[widgets]'")
            continue
        if pins.get(name, here) != here:
            wrong.append(f"{name} {here}, and the class has {pins[name]}")
    if wrong:
        yield Check("versions", None, "; ".join(wrong), "pip install -c constraints.txt 'labkit[widgets]'")
    elif pins:
        yield Check("versions", True, "those of constraints.txt")


def _pins() -> dict[str, str]:
    """Return the versions that the class installs, where there is a clone or a bundle."""
    from labkit.classroom.runner import labs_folder

    try:
        text = (labs_folder().parent / "constraints.txt").read_text("utf-8")
    except (OSError, LabkitError):
        return {}
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE))


def _engines(report: Report) -> Iterator[Check]:
    able = [e for e in report.engines if e.runs_models and e.found.installed]
    working = [e for e in able if e.works]
    if not working:
        fixes = [problem.fix for problem in report.problems if problem.fix]
        fix = next(iter(fixes), "pip install 'labkit[llamaserver]', then labkit doctor --deep")
        yield Check("engine", False, "none runs a model", fix)
    for engine in able:
        # One engine carries the labs; another that is installed and broken stops only its own lab.
        ok = True if engine.works else None if working else False
        yield Check(engine.name, ok, str(engine), "" if engine.works else engine.found.fix)


def _memory(report: Report) -> Check:
    free, total = report.machine.memory_available / GB, report.machine.memory_total / GB
    fix = f"close programs, or take a machine with {MEMORY_GB:g} GB free"
    return _check("memory", free >= MEMORY_GB, f"{free:.1f} GB free of {total:.1f} GB", fix)


def _disk(report: Report) -> Check:
    cache = report.cache
    if cache.problem:
        return Check("disk", False, cache.problem, cache.fix)
    fix = f"make {DISK_GB:g} GB free, or set LABKIT_HOME to a folder with room"
    return _check("disk", cache.free_bytes >= DISK_GB * GB, str(cache), fix)


def _models(report: Report) -> Iterator[Check]:
    for name in SHIPPED:
        sizes = [m.bytes for m in report.models if m.alias == name]
        found = f"{len(sizes)} files, {sum(sizes) / 1e6:,.0f} MB" if sizes else "its weights are missing"
        yield _check(name, bool(sizes), found, "pip install --force-reinstall --no-deps labkit")
    others = sorted({m.alias for m in report.models} - set(SHIPPED))
    if others:
        yield Check("models", None, f"also here: {', '.join(others)}")


def _ports(report: Report) -> Iterator[Check]:
    for port in report.ports:
        if port.taken:
            # Every program here can take another port; the note tells who has the usual one.
            fix = "labkit start --port 8889" if port.number == JUPYTER_PORT else ""
            yield Check("port", None, f"{port.number} {port}", fix)
    free = [str(port.number) for port in report.ports if not port.taken]
    yield Check("ports", True, f"free: {', '.join(free) or 'none of the usual ones'}")


def _labs() -> Check:
    from labkit.classroom.runner import labs_folder, labs_in

    try:
        folder = labs_folder()
    except LabkitError as error:
        return Check("labs", False, error.what, error.fix)
    return Check("labs", True, f"{len(labs_in(folder))} in {folder}")


def _browser() -> Check:
    if os.environ.get("JUPYTERHUB_USER"):
        return Check("browser", True, "on a hub: the student's own")
    try:
        known = webbrowser.get()
        name = getattr(known, "name", "") or type(known).__name__
    except webbrowser.Error:
        name = next(filter(None, map(shutil.which, BROWSERS)), "")
    fix = "install a browser, or open the address that labkit start prints from another machine"
    return _check("browser", bool(name), name or "none found", fix)


def _class(url: str) -> Check:
    import httpx

    try:
        code = httpx.get(url, timeout=10).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        reason = str(exc) or type(exc).__name__
        fix = "ask your instructor for the address"
        return Check("class", False, f"{url} does not answer: {reason}", fix)
    return _check("class", code < 500, f"{url} answers {code}", "ask your instructor")


@dataclass(frozen=True, slots=True)
class Result:
    """Hold one machine's checks, as they travel to the instructor."""

    machine: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Return whether nothing failed."""
        return all(check.ok is not False for check in self.checks)

    def json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"machine": self.machine, "ok": self.ok, "checks": [asdict(check) for check in self.checks]}


def collect(folder: Path) -> list[Result]:
    """Read the JSON files that students sent; a file that is none is a machine that failed."""
    if not folder.is_dir():
        raise OptionInvalid(f"there is no folder {folder}", fix="labkit classroom preflight --collect FOLDER")
    with storage_errors(folder, "read"):
        files = sorted(folder.glob("*.json"))
        return [_read(file.stem, file.read_bytes()) for file in files]


def _read(name: str, text: bytes) -> Result:
    try:
        found = json.loads(text)
        checks = [Check(**row) for row in found["checks"]]
        sound = all(
            isinstance(c.name, str) and isinstance(c.found, str) and c.ok in (True, False, None)
            for c in checks
        )
        if not (checks and sound and isinstance(found["machine"], str)):
            raise ValueError
    except (ValueError, TypeError, KeyError, RecursionError):
        bad = Check("file", False, "no preflight's JSON", "labkit classroom preflight --json > NAME.json")
        return Result(name, (bad,))
    return Result(f"{name} ({found['machine']})", tuple(checks))


def table(results: list[Result]) -> str:
    """Return one line a machine, what failed and what mends it, then how many are ready."""
    lines = []
    for one in results:
        failed = [check for check in one.checks if check.ok is False]
        lines.append(f"{'ok' if one.ok else 'FAIL':<5} {_printable(one.machine)}")
        lines += [_printable(f"      {c.name}: {c.found} → {c.fix}") for c in failed]
    return "\n".join([*lines, f"{sum(one.ok for one in results)} of {len(results)} machines are ready"])


def _printable(text: str) -> str:
    """Keep a stranger's text from moving the cursor or colouring the screen."""
    return "".join(c if c.isprintable() else "�" for c in text)[:300]
