"""Keep nbclient from sleeping through a kernel's answer (nbclient 0.11, jupyter_client 8.10, pyzmq 27.3).

What a cell puts into an `Output` widget makes nbclient send on the socket on which it waits for the answer,
and jupyter_client sends past the asyncio side of that socket. An answer that comes in just then is taken in
without waking the reader: the cell stalls for a second, or for ever. Seen with errors inside `with out:`:
150 such cells took 17–32 s, and one notebook in about 60 hung. Looking at the socket once more after each
send mends it: 2 s, and no hang in 3,000 cells.

As a pytest plugin (`-p labkit.classroom.wakeup`) it does the same for nbmake.
"""

from __future__ import annotations

from typing import Any


def apply() -> None:
    """Make every asyncio kernel client look for answers after it has sent; calling it again is harmless."""
    from jupyter_client.channels import ZMQSocketChannel

    before = ZMQSocketChannel.send
    if getattr(before, "labkit_wakeup", False):
        return

    def send(self: ZMQSocketChannel, msg: dict[str, Any]) -> None:
        before(self, msg)
        # pyzmq calls this after its own sends, for the same reason; a blocking socket has no such method.
        look = getattr(self.socket, "_schedule_remaining_events", None)
        if look:
            look()

    send.labkit_wakeup = True  # type: ignore[attr-defined]
    ZMQSocketChannel.send = send  # type: ignore[method-assign]


def pytest_configure() -> None:
    """Apply it to the nbclient inside nbmake."""
    apply()
