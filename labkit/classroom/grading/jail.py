"""Build the jail a stranger's notebook runs in, and end it when it takes too much.

bubblewrap gives it namespaces of its own: no network, no processes but its own, and of all files only Python, labkit,
the course's data and finished models, all read-only; what it writes goes to a small disk in memory that dies with it.
Its files hold neither the notebooks handed in nor the hidden checks, whose folders are covered up. Then `lock.py`, the
first thing that runs inside, sets limits for each process and has the kernel refuse it what would get around them.

Memory is limited twice, without cgroups: by address space for each process, and by a watch from outside on what all
of them hold together, and on what the machine has left.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

import labkit
from labkit.classroom.grading.lock import PROCESSES
from labkit.errors import NotebookFailed
from labkit.models.store import home

INSTALL = (
    "install bubblewrap: apt install bubblewrap (Debian, Ubuntu), dnf install bubblewrap (Fedora); "
    "on Windows and macOS, grade in WSL2, a container or a virtual machine"
)
USER = 61_601  # a number that belongs to nobody: what a jail becomes where root grades
NOBODY = ("--unshare-user", "--uid", "1000", "--gid", "1000")
SWITCHING = ("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
SPACES = ("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")
SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/lib32", "/sbin")
SETTINGS = ("/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives")
LOOK_S = 0.2  # how often the watch looks
LEFT_SHARE = 0.04  # of the machine's memory: what must stay free
LABKIT = Path(labkit.__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Limits:
    """Say how much one notebook may take: seconds, bytes of memory and of disk, threads, open files."""

    seconds: float = 600
    memory: int = 4 * 2**30
    disk: int = 512 * 2**20
    threads: int = 256
    files: int = 1024


def command(
    limits: Limits, cover: Iterable[Path] = (), show: Iterable[Path] = (), slot: int = 0
) -> list[str]:
    """Return the words that start a program in a jail; `cover` hides paths that it would see, `show` adds some."""
    found = shutil.which("bwrap")
    if sys.platform != "linux" or not found:
        raise NotebookFailed(f"there is no bubblewrap on this machine ({sys.platform})", fix=INSTALL)
    root = os.geteuid() == 0 and _many_users()
    words = [found, *SPACES, *(SWITCHING if root else NOBODY)]
    words += [
        "--die-with-parent",
        "--new-session",
        "--clearenv",
        "--hostname",
        "lab",
        *_files(limits.disk, show, cover),
    ]
    path = ":".join(map(str, [LABKIT.parent, *show]))
    inside = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp/home"}
    inside |= {"LABKIT_HOME": "/tmp/labkit", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    inside |= {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    words += [word for name, value in inside.items() for word in ("--setenv", name, value)]
    numbers = [limits.seconds, limits.memory, limits.disk, limits.threads, limits.files]
    lock = [*(str(int(number)) for number in numbers), str(USER + slot if root else 0)]
    return [*words, "--", sys.executable, "-P", "-m", "labkit.classroom.grading.lock", *lock]


def _files(disk: int, show: Iterable[Path], cover: Iterable[Path]) -> list[str]:
    """Return what makes the jail's file system: all of it read-only but for `disk` bytes each in /tmp and /dev/shm."""
    words = [word for path in (*SYSTEM, *SETTINGS) for word in _system(Path(path))]
    words += ["--proc", "/proc", "--dev", "/dev"]
    for folder in ("/dev/shm", "/tmp"):
        words += ["--perms", "1777", "--size", str(disk), "--tmpfs", folder]
    shown = _shown(show)
    for parent in sorted({parent for path in shown for parent in path.parents} - {Path("/"), Path("/tmp")}):
        words += ["--perms", "0755", "--dir", str(parent)]  # bubblewrap's own would be closed to all but root
    words += [word for path in shown for word in ("--ro-bind", str(path), str(path))]
    words += _models()
    for path in map(str, cover):
        hidden = ["--size", "65536", "--tmpfs", path, "--remount-ro", path]
        words += hidden if Path(path).is_dir() else ["--ro-bind", "/dev/null", path]
    return [*words, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"]


def _many_users() -> bool:
    """Return whether this root may become `USER`: in a container without users of its own, it may not."""
    spans = [map(int, line.split()) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return any(first <= USER and USER + 100 < first + count for first, _, count in spans)


def _system(path: Path) -> list[str]:
    if path.is_symlink() and path.is_dir():
        return ["--symlink", os.readlink(path), str(path)]
    return ["--ro-bind", str(path), str(path)] if path.exists() else []


def _models() -> list[str]:
    """Show each finished model by itself, in folders in which a notebook can make more of its own."""
    words = ["--perms", "0777", "--dir", "/tmp/labkit", "--perms", "0777", "--dir", "/tmp/labkit/models"]
    for folder in sorted((home() / "models").glob("[!.]*")):
        inside = f"/tmp/labkit/models/{folder.name}"
        words += ["--perms", "0777", "--dir", inside]
        for path in sorted(folder.glob("[!.]*")):
            words += ["--ro-bind", str(path), f"{inside}/{path.name}"]
    return words


def _shown(more: Iterable[Path]) -> list[Path]:
    """Return the folders of Python, labkit and its data, outer ones first, without those that /usr holds."""
    datasets = LABKIT.parent / "datasets"
    wanted = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parents[1]]
    wanted += [LABKIT, *more, *([datasets] if datasets.is_dir() else [])]
    return sorted({path.absolute() for path in wanted if not path.absolute().is_relative_to("/usr")})


def visible(path: Path) -> bool:
    """Return whether a jail shows `path`, or something in it: students' work must not be there."""
    places = [*map(Path, SYSTEM), *_shown(()), home() / "models"]
    path = path.resolve()
    return any(
        path.is_relative_to(place.resolve()) or place.resolve().is_relative_to(path) for place in places
    )


def probe(limits: Limits, cover: Sequence[Path]) -> None:
    """Start a jail and look around in it; raise `NotebookFailed` where it cannot be made, or does not hold."""
    words = [*command(limits, cover), "labkit.classroom.grading.probe", *map(str, cover)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    if done.returncode or done.stdout.strip() != "holds":
        why = (done.stdout + done.stderr).strip().splitlines() or ["no answer"]
        raise NotebookFailed(
            f"bubblewrap cannot shut a notebook in here ({why[-1][:300]})",
            fix="allow user namespaces (sysctl kernel.unprivileged_userns_clone=1 and, on Ubuntu, "
            "kernel.apparmor_restrict_unprivileged_userns=0), or grade as root",
        )


def watch(process: subprocess.Popen[bytes], limits: Limits, until: float) -> str:
    """Wait for a jail to end, or end it at `until` (monotonic) or when memory runs out; return why, "" if by itself."""
    total = psutil.virtual_memory().total
    while process.poll() is None:
        if time.monotonic() > until:
            end(process)
            return "time limit"
        below = _below(process.pid)
        if len(below) > PROCESSES:
            end(process)
            return "process limit"
        if _held(below) > limits.memory or psutil.virtual_memory().available < LEFT_SHARE * total:
            end(process)
            return "memory limit"
        time.sleep(LOOK_S)
    return ""


def end(process: subprocess.Popen[Any]) -> None:
    """Kill a jail: bubblewrap's own process dies, and with its first child the kernel ends all that are inside."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait()


def _below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _held(below: Sequence[psutil.Process]) -> int:
    """Return the bytes that processes hold; where there are several, pages that they share count once."""
    return sum(_own(process, shared=len(below) > 3) for process in below)


def _own(process: psutil.Process, shared: bool) -> int:
    try:
        rss = int(process.memory_info().rss)
        return int(process.memory_full_info().pss) if shared else rss
    except psutil.AccessDenied:
        return rss
    except psutil.Error:  # it has just ended
        return 0
