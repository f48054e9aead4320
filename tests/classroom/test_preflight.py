"""Preflight on this machine, on machines that lack something, and on what students send."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from labkit.classroom import preflight as module
from labkit.classroom.preflight import Check, Result, collect, preflight, table
from labkit.cli import app
from labkit.engines.doctor import doctor
from labkit.engines.ports import Port
from labkit.engines.report import Cache, Report
from labkit.errors import OptionInvalid
from labkit.types import Availability


@pytest.fixture(scope="module")
def report() -> Report:
    return doctor()


def found(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_this_machine_is_ready() -> None:
    checks = preflight(deep=False)
    needed = {"python", "labkit", "memory", "disk", "nano", "pico", "ports", "labs"}
    assert needed <= {check.name for check in checks}
    assert [str(c) for c in checks if c.ok is False and c.name not in ("browser", "memory")] == []


def test_each_engine_generates_a_token(monkeypatch: pytest.MonkeyPatch, report: Report) -> None:
    broken = tuple(replace(e, usable=False if e.runs_models else None) for e in report.engines)
    (first, *rest) = list(module._engines(replace(report, engines=broken)))
    assert first.ok is False and first.fix and all(check.ok is False for check in rest)
    one_works = tuple(replace(e, usable=e.name == "onnx") if e.runs_models else e for e in report.engines)
    checks = list(module._engines(replace(report, engines=one_works)))
    assert {check.ok for check in checks} == {True, None}


def test_no_engine_at_all_says_what_to_install(report: Report) -> None:
    gone = tuple(
        replace(e, found=Availability(False, reason="x", fix="pip install x")) for e in report.engines
    )
    (check,) = module._engines(replace(report, engines=gone))
    assert check.ok is False and check.fix.startswith("pip install")


def test_too_little_memory_disk_and_models(report: Report) -> None:
    small = replace(report.machine, memory_available=10**9)
    assert module._memory(replace(report, machine=small)).ok is False
    assert module._disk(replace(report, cache=Cache(Path("/x"), 10**8))).ok is False
    full = module._disk(replace(report, cache=Cache(Path("/x"), 0, "cannot write", "set LABKIT_HOME")))
    assert (full.ok, full.fix) == (False, "set LABKIT_HOME")
    assert {check.ok for check in module._models(replace(report, models=()))} == {False}


def test_a_port_that_is_taken_is_noted(report: Report) -> None:
    taken = replace(
        report, ports=(Port(8888, "JupyterLab", True, "TornadoServer"), Port(8000, "labkit", False))
    )
    note, free = module._ports(taken)
    assert (note.ok, note.fix) == (None, "labkit start --port 8889") and "8000" in free.found


def test_a_folder_without_labs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABKIT_LABS", str(tmp_path))
    assert module._labs().ok is False and module._pins() == {}


def test_other_versions_than_the_class_are_noted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("plotly==1.0\nipykernel==0.1 ; sys_platform != 'win32'\n")
    (tmp_path / "labs").mkdir()
    (tmp_path / "labs" / "01_a.ipynb").touch()
    monkeypatch.setenv("LABKIT_LABS", str(tmp_path / "labs"))
    check = found(list(module._packages()))["versions"]
    assert check.ok is None and "the class has 1.0" in check.found and "the class has 0.1" in check.found


def test_on_a_hub_the_browser_is_the_students(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_USER", "anna")
    assert module._browser().ok


def test_a_class_that_does_not_answer() -> None:
    check = module._class("http://127.0.0.1:9")
    assert check.ok is False and check.fix


def test_machines_are_collected_in_one_table(tmp_path: Path) -> None:
    good = Result("lab-pc", (Check("python", True, "3.12"), Check("port", None, "8888 taken")))
    bad = Result("old\x1b[31m", (Check("memory", False, "0.5 GB free", "close programs"),))
    (tmp_path / "anna.json").write_text(json.dumps(good.json()))
    (tmp_path / "ben.json").write_text(json.dumps(bad.json()))
    (tmp_path / "cara.json").write_text("[]")
    (tmp_path / "dan.json").write_bytes(b"\xff{")
    results = collect(tmp_path)
    text = table(results)
    assert [one.ok for one in results] == [True, False, False, False]
    assert "1 of 4 machines are ready" in text and "close programs" in text and "\x1b" not in text
    with pytest.raises(OptionInvalid):
        collect(tmp_path / "none")


def test_the_commands_go_together(tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["classroom", "preflight", "--quick", "--json"])
    (tmp_path / "this.json").write_text(said.stdout)
    assert said.exit_code == (0 if json.loads(said.stdout)["ok"] else 1)
    both = CliRunner().invoke(app, ["classroom", "preflight", "--collect", str(tmp_path)])
    assert (both.exit_code, "of 1 machines are ready" in both.stdout) == (said.exit_code, True)
    assert (
        CliRunner().invoke(app, ["classroom", "preflight", "--collect", str(tmp_path / "x")]).exit_code != 0
    )
