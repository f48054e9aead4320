"""`labkit start` opens a real JupyterLab: here only, behind its token, and gone after Ctrl-C."""

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from labkit.classroom.start import command

ADDRESS = re.compile(rb"http://127\.0\.0\.1:(\d+)(\S*)\?token=(\w+)")
READY_S, GONE_S = 60, 15


def write_labs(folder: Path) -> Path:
    folder.mkdir()
    (folder / "01_trial.ipynb").write_text(
        '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
    )
    return folder


def read_address(server: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Read what the server prints until its address is there."""
    assert server.stdout
    seen, until = b"", time.monotonic() + READY_S
    while time.monotonic() < until and server.poll() is None:
        if select.select([server.stdout], [], [], 1)[0]:
            seen += os.read(server.stdout.fileno(), 4096)
        if found := ADDRESS.search(seen):
            return int(found[1]), found[2].decode(), found[3].decode()
    raise AssertionError(f"no address in {READY_S} s: {seen.decode()}")


@pytest.fixture
def taken() -> Iterator[int]:
    """Hold a port, so that JupyterLab has to take another."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        yield int(holder.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path, taken: int) -> Iterator[subprocess.Popen[bytes]]:
    labs = write_labs(tmp_path / "labs")
    places = {
        name: str(tmp_path / name) for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR")
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "labkit", "start", "01", "--no-browser", "--port", str(taken)],
        env={**os.environ, **places, "LABKIT_LABS": str(labs)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="select() reads no pipes on Windows")
def test_jupyterlab_starts_guarded_and_stops(server: subprocess.Popen[bytes], taken: int) -> None:
    port, path, token = read_address(server)
    assert port != taken
    assert path == "/lab/tree/01_trial.ipynb"
    root = f"http://127.0.0.1:{port}"
    assert httpx.get(f"{root}{path}?token={token}").status_code == 200
    assert [f["name"] for f in httpx.get(f"{root}/api/contents?token={token}").json()["content"]] == [
        "01_trial.ipynb"
    ]
    assert httpx.get(f"{root}/api/contents").status_code == 403
    assert httpx.get(f"{root}/api/contents?token=wrong").status_code == 403
    page = httpx.get(f"{root}/lab?token={token}", follow_redirects=True).text
    assert "apputils-extension:announcements" in page.partition("disabledExtensions")[2][:2000]
    started = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    listening = {c.laddr.ip for p in started for c in p.net_connections() if c.status == "LISTEN"}
    assert listening == {"127.0.0.1"}
    server.send_signal(signal.SIGINT)
    assert server.wait(GONE_S) == 0
    assert [p for p in psutil.wait_procs(started, GONE_S)[1] if p.status() != "zombie"] == []


def test_command_never_opens_the_server_up(tmp_path: Path) -> None:
    line = command(tmp_path, None, 8888, browser=True)
    assert "--ServerApp.ip=127.0.0.1" in line and "--no-browser" not in line
    assert not re.search(r"token|password|disable_check_xsrf|allow_origin|0\.0\.0\.0", " ".join(line))


def test_missing_labs_are_a_message(tmp_path: Path) -> None:
    environment = {**os.environ, "LABKIT_LABS": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "labkit", "start"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "there are no labs" in done.stderr and "LABKIT_LABS" in done.stderr
    assert "Traceback" not in done.stderr
