"""Code that a model wrote, behind walls: each test attacks one of them."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from labkit.agents import sandbox
from labkit.agents.permissions import Permissions
from labkit.agents.sandbox import run_python
from labkit.agents.tools import Guarded
from labkit.errors import ToolDenied


@pytest.fixture(scope="module")
def jail() -> Iterator[None]:
    """Skip, with the reason, where code cannot be shut in. What the attacks started must be gone in the end."""
    try:
        assert run_python("print(6 * 7)") == "42\n"
    except ToolDenied as denied:
        pytest.skip(denied.what)
    yield
    time.sleep(0.2)
    assert not [
        p.pid for p in psutil.process_iter(["cmdline"]) if "shut in" in " ".join(p.info["cmdline"] or [])
    ]


@pytest.mark.parametrize(
    ("attack", "says"),
    [
        ("import os\nwhile True: os.fork()", "Operation not permitted"),
        ("import subprocess; subprocess.run(['sh', '-c', ':(){ :|:& };:'])", "Operation not permitted"),
        ("import os; os.posix_spawn('/bin/sh', ['sh'], {})", "Operation not permitted"),
        ("import multiprocessing as m; m.Process(target=print).start()", "Operation not permitted"),
        ("import socket; socket.create_connection(('127.0.0.1', 22), 2)", "Operation not permitted"),
        (
            "import socket; socket.socket(socket.AF_UNIX).connect('/run/docker.sock')",
            "Operation not permitted",
        ),
        ("import os; os.setsid()", "Operation not permitted"),
        ("x = 'a' * 10**9", "MemoryError"),
        ("open('/tmp/big', 'wb').write(b'x' * 10**7)", "File too large"),
        ("open('/usr/x', 'w')", "Read-only file system"),
        ("open('/etc/passwd')", "No such file"),
        ("def f(): return f()\nf()", "RecursionError"),
        ("def", "SyntaxError"),
        ("import sys; sys.exit(3)", "[ended with status 3]"),
        ("print('\\ud800')", "UnicodeEncodeError"),
        ("\ud800", "SyntaxError"),
        ("\0", "null bytes"),
    ],
)
def test_it_cannot(jail: None, attack: str, says: str) -> None:
    assert says in run_python(attack)


def test_it_sees_python_and_nothing_else(jail: None, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("1234")
    seen = run_python("import os; print(os.listdir('/'), os.listdir('/tmp'), dict(os.environ), os.getpid())")
    assert "'home'" not in seen and "'etc'" not in seen and "'proc'" not in seen and " [] " in seen
    assert "HOME" not in seen and "LABKIT" not in seen
    assert "FileNotFoundError" in run_python(f"print(open({str(tmp_path / 'secret.txt')!r}).read())")
    assert run_python("import json, statistics; print(statistics.mean([1, 2, 3]))") == "2\n"


def test_it_cannot_mount_the_machine_again(jail: None) -> None:
    look = "import ctypes, os\nlibc = ctypes.CDLL(None)\n"
    look += (
        "print(libc.mount(b'none', b'/tmp', b'tmpfs', 0, None), libc.unshare(0x10000000), os.listdir('/old'))"
    )
    assert run_python(look) == "-1 -1 []\n"


@pytest.mark.parametrize(
    "attack",
    [
        "print('begun')\nwhile True: pass",
        "print('begun')\nimport time; time.sleep(99)",
        "print('begun')\nimport os, time; os.close(1); os.close(2); time.sleep(99)",
        "print('begun')\nimport signal, time\nfor n in range(1, 32):\n"
        "    if n not in (9, 19): signal.signal(n, signal.SIG_IGN)\ntime.sleep(99)",
        "print('begun')\nimport threading, time\nwhile True:\n"
        "    threading.Thread(target=time.sleep, args=(99,)).start()",
    ],
)
def test_it_ends_at_its_deadline(jail: None, attack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "SECONDS", 3)
    began = time.monotonic()
    said = run_python(attack)
    assert said.startswith("begun\n") and "[stopped: out of time]" in said
    assert time.monotonic() - began < 40


def test_its_output_is_limited(jail: None) -> None:
    said = run_python("while True: print('x' * 1000)")
    assert 90_000 < len(said) < 110_000 and "[ended" in said


def test_it_is_a_tool(jail: None) -> None:
    tool = Guarded(run_python, seconds=30, allow=Permissions(processes=True))
    told = tool.start({"code": "print(sum(range(10)))"})()
    assert (told.text, told.denied) == ("45\n", ())
    assert tool.schema["function"]["parameters"]["required"] == ["code"]


def test_where_it_cannot_be_shut_in_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform == "linux":
        monkeypatch.setattr(sandbox, "SPACES", ["sh", "-c", "echo 'unshare: not permitted'; exit 1", "sh"])
        with pytest.raises(ToolDenied, match="cannot be shut in here: unshare: not permitted"):
            run_python("print(1)")
        monkeypatch.setattr(sandbox, "SPACES", ["no-such-command"])
        with pytest.raises(ToolDenied, match="cannot be shut in here"):
            run_python("print(1)")
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ToolDenied, match="on darwin"):
        run_python("print(1)")


def test_too_much_code_is_refused() -> None:
    with pytest.raises(ToolDenied, match="characters of code"):
        run_python("x" * 200_000)
    assert os.path.exists(sandbox.WORKER)
