"""Run Python code that a model wrote where it can do no harm: it sees Python's own library and nothing else.

Linux namespaces take away the network, other processes and all files but Python's, which it may only read; the
kernel refuses it new processes and sockets; time, memory and output are limited. Where util-linux's `unshare` is
missing or may not make namespaces, the code is refused, and the reason said.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from labkit.errors import ToolDenied

SECONDS, MAX_CODE = 8, 100_000
WORKER = Path(__file__).with_name("sandbox_worker.py")
SPACES = "unshare --user --map-root-user --net --pid --ipc --uts --mount --fork --kill-child".split()
# A new root in memory, with some folders of the old one, read-only; the worker lets go of the rest (/old).
NEW_ROOT = """mount -t tmpfs -o size=16m,mode=755 none /mnt && cd /mnt && mkdir old tmp || exit
while [ "$1" != -- ]; do
  mkdir -p "./${1%/*}"
  if [ -L "$1" ]; then ln -s "$(readlink "$1")" ".$1"
  elif [ -d "$1" ]; then mkdir -p ".$1" && mount --rbind "$1" ".$1" && mount -o remount,bind,ro ".$1" || exit; fi
  shift
done
shift; pivot_root . old && cd /tmp && exec "$@"
"""


def run_python(code: str) -> str:
    """Run Python code and return what it prints.

    It sees no files, no network and no other process, and has 8 s, 256 MB and 100 kB of output. Raises `ToolDenied`
    where it cannot be shut in, or for more than 100 kB of code.
    """
    if sys.platform != "linux" or len(code) > MAX_CODE:
        raise ToolDenied(
            f"{len(code):,} characters of code on {sys.platform}", fix="100 kB at most, on Linux or WSL2"
        )
    with (
        os.fdopen(os.memfd_create("code"), "w+b") as source,
        os.fdopen(os.memfd_create("said"), "w+b") as said,
    ):
        source.write(code.encode("utf-8", "replace"))
        source.seek(0)
        status = _wait(source.fileno(), said.fileno())
        said.seek(0)
        first, _, printed = said.read().decode("utf-8", "replace").partition("\n")
    if first != "shut in":
        raise ToolDenied(f"code cannot be shut in here: {first or 'no answer'}", fix="allow user namespaces")
    how = {0: "", -signal.SIGKILL: "[stopped: out of time]"}.get(status, f"[ended with status {status}]")
    return printed + how


def _wait(source: int, said: int) -> int:
    """Run the worker behind all walls; return its status."""
    python, home = os.path.realpath(sys.executable), os.path.realpath(sys.base_prefix)
    seen = ["/usr", "/bin", "/lib", "/lib64", *([] if f"{home}/".startswith("/usr/") else [home])]
    jail = [*SPACES, "sh", "-c", NEW_ROOT, "sh", *seen, "--", python, *"-I -S -u -c".split()]
    child = subprocess.Popen(
        # `timeout` ends all of them, even if this process dies meanwhile.
        ["timeout", "--signal=KILL", str(SECONDS), *jail, WORKER.read_text("utf-8")],
        stdin=source,
        stdout=said,
        stderr=subprocess.STDOUT,
        env={"PATH": f"{os.defpath}:/sbin:/usr/sbin", "LANG": "C.UTF-8"},
        start_new_session=True,
    )
    try:
        return child.wait()
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
