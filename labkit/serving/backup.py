"""Backup and restore of a gateway's state: keys, quotas and the audit log, in one file with a hash for each."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path

from filelock import FileLock, Timeout

from labkit.errors import ModelFileInvalid, StorageFailed
from labkit.models.store import atomic_file, storage_errors

DATABASE, LIST = "keys.sqlite", "manifest.json"


def back_up(state: Path, file: Path) -> Path:
    """Write a backup of the folder `state`, also while a gateway uses it; return the file. The cache is left out."""
    with tempfile.TemporaryDirectory() as temp, storage_errors(file):
        copy = Path(temp) / DATABASE
        with closing(sqlite3.connect(state / DATABASE)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        parts = {DATABASE: copy.read_bytes()}
        for log in sorted(state.glob("audit*.jsonl")):
            data = log.read_bytes()
            parts[log.name] = data[: data.rfind(b"\n") + 1]  # a line may be on its way
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()}
        with atomic_file(file) as part, tarfile.open(part, "w:gz") as tar:
            for name, data in {LIST: json.dumps(hashes).encode(), **parts}.items():
                about = tarfile.TarInfo(name)
                about.size, about.mode = len(data), 0o600
                tar.addfile(about, io.BytesIO(data))
    return file


def restore(file: Path, state: Path) -> Path:
    """Put the state of a backup in place of what is there; return the folder.

    Raises `ModelFileInvalid` if anything in the file is not what was backed up, before anything is changed, and
    `StorageFailed` while a gateway runs.
    """
    try:
        with tarfile.open(file) as tar:
            parts = {m.name: tar.extractfile(m).read() for m in tar.getmembers() if m.isfile()}  # type: ignore[union-attr]
        hashes = json.loads(parts.pop(LIST))
    except (OSError, EOFError, tarfile.TarError, KeyError, ValueError) as exc:
        raise ModelFileInvalid(
            f"{file} is no backup ({type(exc).__name__})", fix="take another file"
        ) from exc
    plain = all(name == DATABASE or (name.startswith("audit") and "/" not in name) for name in parts)
    if not plain or {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()} != hashes:
        raise ModelFileInvalid(f"{file} was damaged or changed", fix="take another backup")
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FileLock(state / ".audit.lock")
    try:
        with lock.acquire(timeout=0), storage_errors(state):
            for old in (*state.glob(f"{DATABASE}*"), *state.glob("audit*.jsonl")):
                old.unlink()
            for name, data in parts.items():
                with atomic_file(state / name) as part:
                    part.write_bytes(data)
                (state / name).chmod(0o600)
    except Timeout as exc:
        raise StorageFailed(f"a gateway uses {state}", fix="stop it first") from exc
    return state
