"""The first thing that runs in a jail: give up what is left of privilege, set limits, then become the program.

    python -m labkit.classroom.grading.lock SECONDS MEMORY DISK THREADS FILES USER MODULE [ARGUMENTS]

Limits bind each process. The kernel is told to refuse what would get around them, for this program and all that it
starts: namespaces (in which a stranger could mount), and memory that no process holds (memfd, System V, keys).
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import runpy
import struct
import sys

from labkit.agents import sandbox_worker as bpf

PROCESSES = 64  # how many may be in a jail: the watch outside ends one that holds more
# Numbers of unshare, setns, mount, memfd_create, shmget, msgget, add_key, keyctl, bpf, ptrace, perf_event_open,
# userfaultfd, open_tree, move_mount, fsopen, io_uring_setup and memfd_secret.
NEW = (428, 429, 430, 425, 447)
REFUSED = {
    "x86_64": (272, 308, 165, 319, 29, 68, 248, 250, 321, 101, 298, 323, *NEW),
    "aarch64": (97, 268, 40, 279, 194, 186, 217, 219, 280, 117, 241, 282, *NEW),
}


def program() -> list[tuple[int, int, int, int]]:
    """Return the filter of system calls; clone may make processes, and no user namespace."""
    audit, clone, _ = bpf.CALLS[platform.machine()]
    steps = [(bpf.LOAD, 0, 0, 4), (bpf.EQUAL, 1, 0, audit), (bpf.RETURN, 0, 0, bpf.KILL), (bpf.LOAD, 0, 0, 0)]
    steps += [(bpf.AT_LEAST, 0, 1, 0x40000000), (bpf.RETURN, 0, 0, bpf.KILL)]
    steps += [(bpf.EQUAL, 0, 1, bpf.CLONE3), (bpf.RETURN, 0, 0, bpf.UNKNOWN)]  # its flags cannot be read
    for number in REFUSED[platform.machine()]:
        steps += [(bpf.EQUAL, 0, 1, number), (bpf.RETURN, 0, 0, bpf.REFUSE)]
    steps += [(bpf.EQUAL, 0, 3, clone), (bpf.LOAD, 0, 0, 16), (bpf.ANY_BIT, 0, 1, bpf.CLONE_NEWUSER)]
    return [*steps, (bpf.RETURN, 0, 0, bpf.REFUSE), (bpf.RETURN, 0, 0, bpf.ALLOW)]


def lock(seconds: int, memory: int, disk: int, threads: int, files: int, user: int) -> None:
    """Become nobody (where root started this), limit, and filter; exit if any of it fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    if user:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    limits = {"AS": memory, "CPU": seconds + 1, "FSIZE": disk, "NPROC": threads, "NOFILE": files, "CORE": 0}
    for name, most in limits.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
    steps = program()
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    filtered = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(code)))
    numbers = [ctypes.c_ulong(number) for number in (1, 0, 0, 0)]
    failed = libc.prctl(bpf.NO_NEW_PRIVILEGES, *numbers)
    if failed or libc.prctl(bpf.SECCOMP, ctypes.c_ulong(bpf.FILTER), ctypes.byref(filtered), *numbers[2:]):
        sys.exit(f"a door stays open: {os.strerror(ctypes.get_errno())}")


def furnish() -> None:
    """Make a home and a folder to work in."""
    for folder in ("/tmp/home", "/tmp/work"):
        os.mkdir(folder)
    os.chdir("/tmp/work")


def main() -> None:
    """Lock, then run the module that is named."""
    *numbers, module = sys.argv[1:8]
    lock(*map(int, numbers))
    furnish()
    sys.argv = sys.argv[7:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
