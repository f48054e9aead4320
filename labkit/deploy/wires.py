"""What joins the nodes of a cluster on one machine, and can be cut: relays between ports, or cables between namespaces.

`Ports` runs anywhere. `Namespaces` gives each node a network of its own, as a machine has, and takes its cable out: for
Linux's root. In both a customer stands in front of a node, and reaches it whether its cable is in or not.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import permutations
from typing import Protocol

from labkit.engines.process import free_port
from labkit.errors import EngineUnavailable

NEWNET = 0x40000000  # CLONE_NEWNET of Linux' sched.h
LAN, DOOR = "198.18.0.", 8000  # a range that is kept for tests (RFC 2544), and nobody's outside
WAIT_S = 5.0


class Line:
    """Carry connections to an address, until it is cut: then what is under way breaks, and nothing new starts.

    `inside` is a process in whose network the address is ("" on this side: 0).
    """

    def __init__(self, to: int, inside: int = 0) -> None:
        self.to, self.inside, self.whole = to, inside, True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break what is under way, and let nothing through."""
        self.whole = False
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Cut it for good."""
        self.cut()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                came, _ = self._listener.accept()
            except OSError:
                return
            if self.whole:
                threading.Thread(target=self._carry, args=(came,), daemon=True).start()
            else:
                came.close()

    def _carry(self, came: socket.socket) -> None:
        with came, suppress(OSError):
            if self.inside:
                _enter(self.inside)
            with socket.create_connection(("127.0.0.1", self.to), timeout=5) as goes:
                self._pass_on(came, goes)

    def _pass_on(self, came: socket.socket, goes: socket.socket) -> None:
        ends = {came: goes, goes: came}
        self._open |= ends.keys()
        try:
            while self.whole:
                for one in select.select(list(ends), [], [], 1.0)[0]:
                    data = one.recv(65_536)
                    if not data or not self.whole:
                        return
                    ends[one].sendall(data)
        finally:
            self._open -= ends.keys()


class Wires(Protocol):
    """Say what a cluster needs: where a node listens and finds its peers, where customers find it; cut, mend, close."""

    name: str

    def listens(self, id: str) -> str:
        """Return the address at which a node is to listen."""

    def url(self, id: str) -> str:
        """Return where customers find a node."""

    def peers(self, id: str) -> dict[str, str]:
        """Return where a node finds the others."""

    def command(self, id: str, command: Sequence[str]) -> tuple[str, ...]:
        """Return the command that runs this one where the node is."""

    def cut(self, id: str) -> None:
        """Cut a node off from the others."""

    def mend(self, id: str) -> None:
        """Mend that."""

    def close(self) -> None:
        """Take everything down."""


class Ports:
    """Join nodes by relays: each node has a port, and a line to every other one that can be cut."""

    name = "separate ports"

    def __init__(self, ids: Iterable[str]) -> None:
        self._ports = {id: free_port() for id in ids}
        self._lines = {(a, b): Line(self._ports[b]) for a, b in permutations(self._ports, 2)}

    def listens(self, id: str) -> str:
        """Return a port of the loopback."""
        return f"127.0.0.1:{self._ports[id]}"

    def url(self, id: str) -> str:
        """Return the same, as a URL."""
        return f"http://{self.listens(id)}"

    def peers(self, id: str) -> dict[str, str]:
        """Return the near ends of this node's lines."""
        return {b: f"http://127.0.0.1:{line.port}" for (a, b), line in self._lines.items() if a == id}

    def command(self, id: str, command: Sequence[str]) -> tuple[str, ...]:
        """Change nothing."""
        return tuple(command)

    def cut(self, id: str) -> None:
        """Cut all lines to and from a node."""
        for ends, line in self._lines.items():
            if id in ends:
                line.cut()

    def mend(self, id: str) -> None:
        """Mend them."""
        for ends, line in self._lines.items():
            line.whole = line.whole or id in ends

    def close(self) -> None:
        """Close all lines."""
        for line in self._lines.values():
            line.close()


class Namespaces:
    """Give each node a network namespace, with a cable to a switch in one more; raise `EngineUnavailable` elsewhere.

    A namespace lives as long as a process in it: each is held by a `cat` that ends when this process does.
    """

    name = "network namespaces"

    def __init__(self, ids: Iterable[str]) -> None:
        self._held: list[subprocess.Popen[bytes]] = []
        self._place = {id: n for n, id in enumerate(ids, 1)}
        try:
            self._switch = self._hold()
            self._inside = {id: self._hold() for id in self._place}
            lines = ["link add name lan type bridge", "link set lan up"]
            for id, n in self._place.items():
                lines.append(f"link add name cable{n} type veth peer name lan netns {self._inside[id]}")
                lines.append(f"link set cable{n} master lan up")
            _ip(self._switch, *lines)
            for id, n in self._place.items():
                _ip(self._inside[id], f"addr add {LAN}{n}/24 dev lan", "link set lan up", "link set lo up")
        except EngineUnavailable:
            self.close()
            raise
        self._desks = {id: Line(DOOR, inside) for id, inside in self._inside.items()}

    def _hold(self) -> int:
        if not (shutil.which("unshare") and shutil.which("ip") and hasattr(os, "geteuid")):
            raise EngineUnavailable("unshare or ip is missing", fix="apt install util-linux iproute2")
        one = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        self._held.append(one)
        until, here = time.monotonic() + WAIT_S, os.readlink("/proc/self/ns/net")
        while one.poll() is None and time.monotonic() < until:
            with suppress(OSError):
                if os.readlink(f"/proc/{one.pid}/ns/net") != here:
                    return one.pid
            time.sleep(0.01)
        raise EngineUnavailable("this user may not make a network namespace", fix="run it as root, on Linux")

    def listens(self, id: str) -> str:
        """Return all addresses that the node's own network has."""
        return f"0.0.0.0:{DOOR}"

    def url(self, id: str) -> str:
        """Return the near end of a line into the node's network, which is not its cable."""
        return f"http://127.0.0.1:{self._desks[id].port}"

    def peers(self, id: str) -> dict[str, str]:
        """Return the others' addresses in the net between them."""
        return {other: f"http://{LAN}{n}:{DOOR}" for other, n in self._place.items() if other != id}

    def command(self, id: str, command: Sequence[str]) -> tuple[str, ...]:
        """Enter the node's network first."""
        return ("nsenter", f"--net=/proc/{self._inside[id]}/ns/net", *command)

    def cut(self, id: str) -> None:
        """Take the node's cable down at the switch: nobody is told, packets just do not arrive."""
        _ip(self._switch, f"link set cable{self._place[id]} down")

    def mend(self, id: str) -> None:
        """Bring it up again."""
        _ip(self._switch, f"link set cable{self._place[id]} up")

    def close(self) -> None:
        """Let the namespaces go, and the cables with them."""
        for line in getattr(self, "_desks", {}).values():
            line.close()
        for one in self._held:
            one.communicate()


def join(ids: Iterable[str], namespaces: bool) -> Wires:
    """Join nodes by namespaces if asked for and allowed, else by ports; `name` says which, and why."""
    ids = list(ids)
    if namespaces:
        try:
            return Namespaces(ids)
        except EngineUnavailable as error:
            ports = Ports(ids)
            ports.name = f"separate ports, for want of network namespaces: {error.what} ({error.fix})"
            return ports
    return Ports(ids)


def _ip(inside: int, *lines: str) -> None:
    command = ["nsenter", f"--net=/proc/{inside}/ns/net", "ip", "-batch", "-"]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise EngineUnavailable(f"ip: {done.stderr.strip()[:200]}", fix="a kernel with veth and bridge")


def _enter(process: int) -> None:
    """Move this thread, and no other one, into the network of a process."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/proc/{process}/ns/net") as space:
        if libc.setns(space.fileno(), NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
