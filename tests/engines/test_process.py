"""A server process starts, tells when it does not, and never outlives its owner."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from labkit.engines.process import ServerProcess, ServerSettings, free_port
from labkit.errors import EngineFailed, EngineTimeout

SERVE = """
import http.server, signal, subprocess, sys
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "parent" in sys.argv:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("ready", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
POSIX = pytest.mark.skipif(os.name == "nt", reason="needs signals")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    return tmp_path


def settings(code: str = SERVE, *args: str, **changes: float) -> ServerSettings:
    port = free_port()
    command = (sys.executable, "-c", code, str(port), *args)
    return ServerSettings("test", command, f"http://127.0.0.1:{port}/", **{"grace": 0.5, **changes})  # type: ignore[arg-type]


def gone(process: psutil.Process, within: float = 10.0) -> bool:
    try:
        return process.wait(within) is None or not process.is_running()
    except psutil.TimeoutExpired:
        return False


def logs(home: Path) -> list[Path]:
    return list((home / "logs").iterdir())


def test_a_server_answers_and_is_gone_after_stop(home: Path) -> None:
    server = ServerProcess(settings())
    process = psutil.Process(server.pid)
    assert not server.ended() and server.tail().startswith("ready")
    server.stop()
    server.stop()
    assert server.ended() and gone(process)
    assert not logs(home)


@POSIX
def test_one_that_will_not_end_is_killed_with_what_it_started() -> None:
    server = ServerProcess(settings(SERVE, "stubborn", "parent"))
    process = psutil.Process(server.pid)
    (child,) = process.children()
    server.stop()
    assert gone(process) and gone(child)


def test_a_server_that_does_not_start_tells_what_it_said_last(home: Path) -> None:
    with pytest.raises(EngineFailed, match="exit code 3.*no such model") as caught:
        ServerProcess(settings("import sys; print('no such model'); sys.exit(3)"))
    assert str(logs(home)[0]) in caught.value.fix


def test_a_command_that_is_not_there_is_an_error() -> None:
    with pytest.raises(EngineFailed, match="no-such-program"):
        ServerProcess(ServerSettings("test", ("no-such-program",), "http://127.0.0.1:1/"))


def test_a_server_that_stays_silent_is_stopped() -> None:
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(EngineTimeout, match="not ready after 0.5 s") as caught:
        ServerProcess(settings("import time; time.sleep(600)", start_timeout=0.5))
    assert "start_timeout" in caught.value.fix
    assert set(psutil.Process().children(recursive=True)) <= before


@POSIX
def test_a_server_that_dies_tells_how(home: Path) -> None:
    server = ServerProcess(settings())
    os.kill(server.pid, signal.SIGKILL)
    assert server.ended(within=10)
    assert "SIGKILL" in server.failure().what
    with pytest.raises(EngineFailed):
        _ = server.pid
    server.stop()
    assert logs(home), "the log of a server that died is kept"


OWNER = """
import sys, time
from labkit.engines.process import ServerProcess, ServerSettings
server = ServerProcess(ServerSettings("test", tuple(sys.argv[2:]), sys.argv[1], grace=0.5))
print(server.pid, flush=True)
if sys.stdin.readline().strip() == "forget":
    del server
    print("forgotten", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("end", ["kill", "exit", "forget"])
def test_a_server_never_outlives_its_owner(end: str) -> None:
    wanted = settings()
    line = [sys.executable, "-c", OWNER, wanted.ready, *wanted.command]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdin and owner.stdout
        server = psutil.Process(int(owner.stdout.readline()))
        guard = server.parent()
        assert guard and guard.ppid() == owner.pid
        if end == "kill":
            owner.kill()
        else:
            owner.stdin.write(f"{end}\n")
            owner.stdin.flush()
        assert gone(server) and gone(guard)
        owner.kill()


def test_ports_are_free() -> None:
    assert len({free_port() for _ in range(5)}) > 1
