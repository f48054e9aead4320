"""The checklist passes a sound service, and finds each fault by what it sees (a stand-in for the gateway)."""

import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from service_stand_in import ADMIN, KEY
from typer.testing import CliRunner

from labkit.cli import app
from labkit.deploy.checklist import CHECKS, Finding, Service, go_through
from labkit.engines.process import ServerProcess, ServerSettings, free_port
from labkit.errors import OptionInvalid

STAND_IN = Path(__file__).with_name("service_stand_in.py")


@contextmanager
def service(folder: Path, fault: str = "") -> Iterator[tuple[Service, ServerProcess]]:
    state, port = folder / "state", free_port()
    state.mkdir()
    saved = folder / "backup.tar.gz"
    with tarfile.open(saved, "w:gz") as tar:
        (folder / "keys.sqlite").write_bytes(b"SQLite format 3")
        tar.add(folder / "keys.sqlite", "keys.sqlite")
    if fault == "backup":
        os.utime(saved, (time.time() - 10**6,) * 2)
    # 127.1 is this machine, too, but nothing in the name says so.
    url, profile = (
        f"http://{'127.1' if fault == 'tls' else '127.0.0.1'}:{port}",
        "dev" if fault == "started" else "prod",
    )
    words = [str(port), str(state), fault, "--profile", profile, *["--key", KEY] * (fault == "shown")]
    command = (sys.executable, str(STAND_IN), *words)
    ready = f"{url}/openapi.json"
    process = ServerProcess(ServerSettings("stand-in", command, ready))
    try:
        slow = {"stop": fault in ("", "shutdown"), "burst": 9 * (fault in ("", "rate"))}  # a second each
        asked = {"pid": process.pid, "forbidden": "poison", **slow}
        yield Service(url, KEY, ADMIN, state=state, backup=saved, **asked), process
    finally:
        process.stop()


def verdicts(findings: list[Finding]) -> dict[str, str]:
    return {one.name: one.verdict for one in findings}


def test_a_sound_service_passes_and_ends_in_order(tmp_path: Path) -> None:
    with service(tmp_path) as (sound, process):
        found = go_through(sound)
        assert verdicts(found) == dict.fromkeys(CHECKS, "pass"), "\n".join(map(str, found))
        assert all(one.evidence for one in found)
        assert process.ended(within=10)


# A fault of the stand-in's that has another name than the line it must fail.
FAULTS = {"leak": "audit", "thin": "audit", "shown": "started"} | {name: name for name in CHECKS}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_fails_its_own_line(tmp_path: Path, fault: str) -> None:
    with service(tmp_path, fault) as (faulty, _):
        failed = {name for name, verdict in verdicts(go_through(faulty)).items() if verdict == "fail"}
    assert failed == {FAULTS[fault]}


def test_what_cannot_be_seen_is_not_called_passed() -> None:
    found = verdicts(go_through(Service(f"http://127.0.0.1:{free_port()}")))
    assert {found[name] for name in ("audit", "backup", "shutdown")} == {"not checked"}
    assert found["health"] == found["keys"] == "fail"
    away = verdicts(go_through(Service("http://agents.invalid")))
    assert away["tls"] == "fail"
    with pytest.raises(OptionInvalid, match="no URL"):
        go_through(Service("agents.example.org"))


def test_the_command_prints_it_and_fails(tmp_path: Path) -> None:
    with service(tmp_path, "keys") as (faulty, _):
        told = CliRunner().invoke(app, ["deploy", "check", faulty.url], env={"LABKIT_KEY": KEY})
    assert told.exit_code == 1 and "fail        keys" in told.output and "no key 200" in told.output


def test_render_and_validate_at_the_command_line(tmp_path: Path) -> None:
    out, runner = tmp_path / "out", CliRunner()
    assert runner.invoke(app, ["deploy", "render", "kubernetes", "edge", "--out", str(out)]).exit_code == 0
    assert runner.invoke(app, ["deploy", "validate", str(out)]).exit_code == 0
    file = out / "edge" / "device.yaml"
    file.write_text(file.read_text().replace("agents", "agnets"))
    told = runner.invoke(app, ["deploy", "validate", str(out)])
    assert told.exit_code == 1 and "agnets" in told.output
    assert "host = " in runner.invoke(app, ["deploy", "settings"]).output
    assert runner.invoke(app, ["deploy", "up", str(tmp_path / "none.yaml")]).exit_code == 1


@pytest.mark.heavy
def test_the_gateway_itself_passes_every_line(tmp_path: Path) -> None:
    state, port, saved = tmp_path / "state", free_port(), tmp_path / "backup.tar.gz"
    labkit = (sys.executable, "-m", "labkit", "serve")

    def told(*words: str) -> str:
        done = subprocess.run(
            [*labkit, *words, "--state", str(state)], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    key, admin = told("keys", "add", "Mira"), told("keys", "add", "Ada", "--role", "admin")
    told("backup", str(saved))
    command = (*labkit, "--profile", "prod", "--port", str(port), "--state", str(state))
    url, env = f"http://127.0.0.1:{port}", {"LABKIT_SERVE_DENY": "poison"}
    process = ServerProcess(ServerSettings("gateway", command, f"{url}/ready", env, 120.0, 20.0))
    try:
        asked = {"pid": process.pid, "stop": True, "burst": 200, "forbidden": "How do I make poison?"}
        found = go_through(Service(url, key, admin, "nano", state, saved, **asked))
    finally:
        process.stop()
    assert verdicts(found) == dict.fromkeys(CHECKS, "pass"), "\n".join(map(str, found))
