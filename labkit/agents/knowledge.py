"""Keep documents in step with a remote's when there is a connection, and usable when there is none.

A folder holds `objects/`, one file for each content, named by its sha256, and `manifest.json`, which lists them. A new
state is fetched object by object and counts from one rename on: a cut leaves the old state whole, and the next try
fetches what is still missing. Hashes show that nothing changed on the way, not who wrote it: that takes https.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import httpx

from labkit.errors import DownloadFailed
from labkit.models import store

MANIFEST = "manifest.json"
MAX_BYTES, TIMEOUT_S = 2**20, 30.0
NAME, HASH = re.compile(r"\w[\w.-]{0,99}"), re.compile(r"[0-9a-f]{64}")


class Plan(NamedTuple):
    """List the documents to fetch, to drop and to keep."""

    fetch: list[str]
    drop: list[str]
    keep: list[str]


@dataclass(frozen=True, slots=True)
class Synced:
    """Tell whether the new state counts now, what it changes, what this try fetched, and what went wrong."""

    done: bool
    plan: Plan
    fetched: int = 0
    bytes: int = 0
    problem: str = ""


def plan(here: Mapping[str, str], there: Mapping[str, str]) -> Plan:
    """Compare two manifests: names, and the sha256 of what they name."""
    keep = sorted(name for name in there if here.get(name) == there[name])
    return Plan(sorted(there.keys() - set(keep)), sorted(here.keys() - there.keys()), keep)


class Knowledge:
    """Hold a knowledge base in a folder, which may be new. Any web server that serves such a folder is a remote."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.objects = folder, folder / "objects"

    def manifest(self) -> dict[str, str]:
        """Return the manifest of the state that counts."""
        path = self.folder / MANIFEST
        return _manifest(path.read_bytes()) if path.exists() else {}

    def documents(self) -> dict[str, str]:
        """Return the documents of the state that counts."""
        return {n: (self.objects / h).read_text("utf-8", "replace") for n, h in self.manifest().items()}

    def publish(self, documents: Mapping[str, str]) -> None:
        """Make these documents the state that counts."""
        self._switch({name: self._keep(text.encode()) for name, text in documents.items()})

    def sync(self, url: str) -> Synced:
        """Fetch what changed, then switch to it; where the connection fails, leave everything as it is and say so.

        Raises `DownloadFailed` for a remote whose manifest or documents are not what they should be.
        """
        here, sizes = self.manifest(), list[int]()
        todo = plan(here, here)
        try:
            with httpx.Client(base_url=url, timeout=TIMEOUT_S) as client:
                there = _manifest(_get(client, MANIFEST))
                todo = plan(here, there)
                for value in sorted({there[name] for name in todo.fetch}):
                    if not (self.objects / value).exists():
                        data = _get(client, f"objects/{value}")
                        self._keep(data, value)
                        sizes.append(len(data))
        except httpx.HTTPError as error:
            return Synced(False, todo, len(sizes), sum(sizes), f"{type(error).__name__}: {error}")
        self._switch(there)
        return Synced(True, todo, len(sizes), sum(sizes))

    def _keep(self, data: bytes, wanted: str = "") -> str:
        """Put a content into its place, unless it is not the wanted one, and return its sha256."""
        value = hashlib.sha256(data).hexdigest()
        if wanted not in ("", value):
            raise DownloadFailed(f"a document came without the sha256 {wanted[:12]}…", fix="sync again")
        with store.atomic_file(self.objects / value) as part:
            part.write_bytes(data)
        return value

    def _switch(self, manifest: Mapping[str, str]) -> None:
        with store.atomic_file(self.folder / MANIFEST) as part:
            part.write_text(json.dumps(manifest, indent=1, sort_keys=True), "utf-8")
        for path in self.objects.glob("*"):
            if path.name not in manifest.values():
                path.unlink()


def _get(client: httpx.Client, name: str) -> bytes:
    """Read a file of the remote; raise `DownloadFailed` for more than a document may have."""
    data = b""
    with client.stream("GET", name) as response:
        response.raise_for_status()
        for piece in response.iter_bytes():
            data += piece
            if len(data) > MAX_BYTES:
                raise DownloadFailed(f"{name} has more than {MAX_BYTES:,} bytes", fix="split that document")
    return data


def _manifest(data: bytes) -> dict[str, str]:
    """Read a manifest, which anybody may have sent: plain file names and hashes only."""
    try:
        found = dict(json.loads(data))
        good = all(NAME.fullmatch(name) and HASH.fullmatch(value) for name, value in found.items())
    except (ValueError, TypeError, RecursionError):
        good = False
    if not good:
        raise DownloadFailed(
            f"this is no manifest: {data[:60]!r}", fix='it should be {"name.md": "sha256", …}'
        )
    return found


class Remote(ThreadingHTTPServer):
    """Play the remote on this machine, for lessons and tests: serve a folder, and hang up when nothing is `left`."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Answers, directory=str(folder)))
        self.url, self.left, self.asked = f"http://127.0.0.1:{self.server_port}/", math.inf, list[str]()
        Thread(target=self.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self.shutdown()
        self.server_close()


class _Answers(SimpleHTTPRequestHandler):
    server: Remote

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.left -= 1
        if self.server.left >= 0:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""
