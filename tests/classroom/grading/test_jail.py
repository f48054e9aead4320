"""The jail itself: what it shows, what it refuses, and how it ends."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from labkit.classroom.grading import jail
from labkit.classroom.grading.jail import Limits
from labkit.errors import NotebookFailed

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is for Linux"),
]
LIMITS = Limits(seconds=60, memory=10**9, disk=2 * 10**7)


@pytest.fixture(params=["as it comes", "without users of its own"])
def limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Limits:
    """Try both ways in: where root grades, and where a user does."""
    if request.param != "as it comes":
        monkeypatch.setattr(jail, "_many_users", lambda: False)
    return LIMITS


def inside(limits: Limits, code: str, tmp_path: Path, **more: list[Path]) -> list[str]:
    """Run code in a jail, as a module that is shown there, and return what it prints."""
    (tmp_path / "shown").mkdir(exist_ok=True)
    (tmp_path / "shown" / "trial_in_jail.py").write_text(code)
    words = jail.command(limits, more.get("cover", ()), [tmp_path / "shown"])
    done = subprocess.run([*words, "trial_in_jail"], capture_output=True, text=True, timeout=120)
    return done.stdout.splitlines() + done.stderr.splitlines()


def test_it_holds(limits: Limits) -> None:
    jail.probe(limits, ())


def test_it_shows_its_own_folder_and_little_else(limits: Limits, tmp_path: Path) -> None:
    code = "import os\nprint(os.getcwd(), os.listdir('.'), os.listdir('/tmp/home'))\nprint(*sorted(os.environ))\n"
    code += "print(sorted(os.listdir('/proc/self/fd')))\nopen('mine', 'w').write('x')\nprint(os.listdir('.'))"
    where, names, files, own = inside(limits, code, tmp_path)
    assert where == "/tmp/work [] []" and own == "['mine']"
    assert "HOME LABKIT_HOME LANG" in names and "USER" not in names and "SSH" not in names
    assert files == "['0', '1', '2', '3']"


def test_what_is_covered_cannot_be_read(limits: Limits, tmp_path: Path) -> None:
    code = "from pathlib import Path\nhere = Path(__file__).parent\n"
    code += "print(list((here / 'secrets').iterdir()))\ntry: print((here / 'secret.py').read_text())\n"
    code += "except OSError as e: print('closed')\n"
    code += "try: (here / 'secrets' / 'mine').touch()\nexcept OSError as e: print('read-only')"
    (tmp_path / "shown" / "secrets").mkdir(parents=True)
    (tmp_path / "shown" / "secrets" / "a.py").write_text("SECRET")
    (tmp_path / "shown" / "secret.py").write_text("SECRET")
    cover = [tmp_path / "shown" / "secrets", tmp_path / "shown" / "secret.py"]
    folder, file, own = inside(limits, code, tmp_path, cover=cover)
    assert folder == "[]" and file in ("", "closed") and own == "read-only"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = bytearray(2 * 10**9)", "MemoryError"),
        ("open('/tmp/junk', 'wb').write(b'x' * 10**8)", "File too large"),
        ("[open(f'/tmp/junk{n}', 'wb').write(b'x' * 15_000_000) for n in range(3)]", "No space left"),
        ("[open('/dev/null') for n in range(2000)]", "Too many open files"),
        ("import os; os.open('/dev/sda', os.O_RDONLY)", "No such file"),
        ("import os; os.memfd_create('x')", "Operation not permitted"),
        ("import ctypes; print(ctypes.CDLL(None).unshare(0x10000000))", "-1"),
        ("import ctypes; print(ctypes.CDLL(None).mount(b'n', b'/tmp', b'tmpfs', 0, 0))", "-1"),
        ("import socket; socket.create_connection(('192.0.2.1', 9), timeout=2)", "Network is unreachable"),
        ("import os; os.setuid(0)", "[Errno"),
        ("import subprocess; print(subprocess.run(['unshare', '-Ur', 'true']).returncode)", "1"),
    ],
)  # fmt: skip
def test_limits_bind(limits: Limits, tmp_path: Path, code: str, said: str) -> None:
    assert said in "\n".join(inside(limits, code, tmp_path))


def test_threads_and_own_servers_work(limits: Limits, tmp_path: Path) -> None:
    code = "import socket, threading\ns = socket.create_server(('127.0.0.1', 0))\n"
    code += "t = threading.Thread(target=lambda: s.accept()[0].send(b'hello')); t.start()\n"
    code += "print(socket.create_connection(s.getsockname()).recv(9)); t.join()"
    assert inside(limits, code, tmp_path) == ["b'hello'"]


@contextmanager
def running(limits: Limits, code: str, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    (tmp_path / "shown").mkdir(exist_ok=True)
    (tmp_path / "shown" / "trial_in_jail.py").write_text(code)
    process = subprocess.Popen([*jail.command(limits, (), [tmp_path / "shown"]), "trial_in_jail"])
    try:
        yield process
    finally:
        jail.end(process)


MANY = "import os, time\nfor n in range({}):\n    os.fork() or ({}, time.sleep(600))\n"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import time; time.sleep(600)", "time limit"),
        (MANY.format(15, "bytearray(b'x' * 10**8)") + "time.sleep(600)", "memory limit"),
        (MANY.format(40, "os.setsid()"), ""),
        (MANY.format(70, "os.setsid()") + "time.sleep(600)", "process limit"),
        ("pass", ""),
    ],
)  # fmt: skip
def test_nothing_outlives_a_jail(limits: Limits, tmp_path: Path, code: str, why: str) -> None:
    with running(limits, code, tmp_path) as process:
        seconds = 8 if why == "time limit" else 60
        below: list[psutil.Process] = []
        while not below and process.poll() is None:
            below = psutil.Process(process.pid).children(recursive=True)
        assert jail.watch(process, limits, time.monotonic() + seconds) == why
        assert process.poll() is not None
        gone, alive = psutil.wait_procs(below, timeout=30)
        assert not alive


def test_a_jail_that_does_not_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    false = tmp_path / "bwrap"
    false.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done; shift; exec "$@"\n')
    false.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(NotebookFailed, match="cannot shut a notebook in"):
        jail.probe(LIMITS, ())
