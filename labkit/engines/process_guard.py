"""Run a server no longer than its owner lives: `python process_guard.py SECONDS COMMAND…`.

The owner holds the other end of standard input. When that end closes, because the owner let go of the server or
died, however suddenly, the server is asked to end, and killed if it is still there after SECONDS. This works alike
on Linux, macOS and Windows. It imports nothing of labkit, so it starts quickly and in any environment.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def main() -> int:
    """Start the command, wait for it, and return its exit code (128 + the signal's number, as a shell does)."""
    grace, command = float(sys.argv[1]), sys.argv[2:]
    try:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as exc:
        print(f"{command[0]}: {exc.strerror}", file=sys.stderr, flush=True)
        return 127
    threading.Thread(target=end_with_owner, args=(server, grace), daemon=True).start()
    code = server.wait()
    send(server, kill=True)  # what the server started and left behind
    return code if code >= 0 else 128 - code


def end_with_owner(server: subprocess.Popen[bytes], grace: float) -> None:
    """Wait until the owner is gone, then end the server."""
    while os.read(0, 1):
        pass
    send(server)
    try:
        server.wait(grace)
    except subprocess.TimeoutExpired:
        send(server, kill=True)


def send(server: subprocess.Popen[bytes], kill: bool = False) -> None:
    """Ask the server and all it started to end, or kill them. Windows knows only the latter."""
    if sys.platform == "win32":
        server.kill()
        return
    try:
        os.killpg(server.pid, signal.SIGKILL if kill else signal.SIGTERM)
    except ProcessLookupError:  # all gone
        pass


if __name__ == "__main__":
    code = main()
    os._exit(code)  # without waiting for the thread that reads standard input
