"""Run a stranger's Python in the jail that `sandbox.py` builds: close the last doors, set limits, run what comes in.

It imports nothing of labkit: its own text is what a bare Python there gets as `-c`.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
import sys

LIMITS = {"AS": 256 * 2**20, "CPU": 8, "FSIZE": 100_000, "NOFILE": 64, "CORE": 0}  # bytes, seconds, files
CLONE_THREAD, CLONE_NEWUSER, MNT_DETACH = 0x10000, 0x10000000, 2
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL, REFUSE, UNKNOWN = 0x7FFF0000, 0x80000000, 0x50001, 0x50026
# A machine's audit number, its clone, and those of fork, vfork, socket, setsid, setpgid and unshare that it has.
CALLS = {
    "x86_64": (0xC000003E, 56, (57, 58, 41, 112, 109, 272)),
    "aarch64": (0xC00000B7, 220, (198, 157, 154, 97)),
}
CLONE3, IO_URING = 435, 425


def program() -> list[tuple[int, int, int, int]]:
    """Return a filter of system calls (BPF: what to do, jump if true, jump if false, value): no process, no socket."""
    audit, clone, refused = CALLS[platform.machine()]
    steps = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, audit), (RETURN, 0, 0, KILL), (LOAD, 0, 0, 0)]
    steps += [(AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, KILL)]  # the same calls by other numbers (x32)
    steps += [(EQUAL, 0, 1, CLONE3), (RETURN, 0, 0, UNKNOWN)]  # libc takes clone: its flags can be read
    for number in (*refused, IO_URING):
        steps += [(EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE)]
    steps += [(EQUAL, 0, 3, clone), (LOAD, 0, 0, 16), (ANY_BIT, 1, 0, CLONE_THREAD)]  # threads may be
    return [*steps, (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)]


def close_doors() -> None:
    """Leave the old root and the power over mounts, then install the filter: RLIMIT_NPROC would not bind root."""
    libc, steps = ctypes.CDLL(None, use_errno=True), program()
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    filtered = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(code)))
    numbers = [ctypes.c_ulong(number) for number in (1, 0, 0, 0)]
    failed = libc.umount2(b"/old", MNT_DETACH) or libc.unshare(CLONE_NEWUSER)
    failed = failed or libc.prctl(NO_NEW_PRIVILEGES, *numbers)
    if failed or libc.prctl(SECCOMP, ctypes.c_ulong(FILTER), ctypes.byref(filtered), *numbers[2:]):
        sys.exit(f"a door stays open: {os.strerror(ctypes.get_errno())}")


def main() -> None:
    """Run what comes on standard input, after a line that says that all is shut; print an error's last line."""
    source = sys.stdin.buffer.read()
    close_doors()
    for name, most in LIMITS.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
    print("shut in")
    try:
        exec(compile(source, "code", "exec"), {"__name__": "__main__"})
    except Exception as error:
        print(f"{type(error).__name__}: {error}"[:2000])


if __name__ == "__main__":
    main()
