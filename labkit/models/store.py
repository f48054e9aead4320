"""Model files on disk: where they live, and how a half-made one is never taken for whole.

Everything is under `home()`. A file is written beside its place and renamed into it, then sealed: `FILE.json`
keeps its sha256, size and origin. A file without its seal was never finished. What is inside is unknown here.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

from labkit.errors import ModelFileInvalid, ModelNotFound, OptionInvalid, StorageFailed

MOVE_HOME = "set LABKIT_HOME to a folder with room that you may write to, as in LABKIT_HOME=~/labkit"
MAKE_ROOM = "make room (labkit models rm NAME), or " + MOVE_HOME
REASONS = {
    errno.ENOSPC: ("the disk is full", MAKE_ROOM),
    errno.EDQUOT: ("your disk quota is used up", MAKE_ROOM),
    errno.EFBIG: ("the file is larger than is allowed here", MOVE_HOME),
    errno.EROFS: ("the file system is read-only", MOVE_HOME),
    errno.EACCES: ("you have no permission", MOVE_HOME),
    errno.EPERM: ("you have no permission", MOVE_HOME),
    errno.ENOTDIR: ("part of the path is a file, not a folder", MOVE_HOME),
    errno.EEXIST: ("a file of that name is in the way", MOVE_HOME),
}


@dataclass(frozen=True, slots=True)
class Record:
    """Keep what a finished file is: content, size in bytes, origin, maker, and when (ISO 8601, UTC)."""

    sha256: str
    bytes: int
    made_from: str
    made_by: str
    when: str


@dataclass(frozen=True, slots=True)
class LocalModel:
    """Name one finished file of a model on this disk."""

    alias: str
    variant: str
    path: Path
    record: Record


def home() -> Path:
    """Return the folder of everything labkit keeps: LABKIT_HOME, or the system's cache folder for labkit."""
    chosen = os.environ.get("LABKIT_HOME")
    return Path(chosen).expanduser().absolute() if chosen else Path(platformdirs.user_cache_dir("labkit"))


def path_of(alias: str, *parts: str) -> Path:
    """Return a path in a model's own folder; raise `OptionInvalid` for one that would leave it."""
    if not re.fullmatch(r"\w[\w.-]*", alias):
        raise OptionInvalid(f"{alias!r} cannot be a model's name", fix="see the names: labkit models")
    folder = home() / "models" / alias
    path = folder.joinpath(*parts)
    if ".." in path.parts or not path.resolve().is_relative_to(folder.parent.resolve() / alias):
        raise OptionInvalid(f"{path} is outside {folder}", fix="use a plain file name")
    return path


def file_of(alias: str, variant: str) -> Path:
    """Return where the GGUF file of a variant belongs."""
    return path_of(alias, f"{variant}.gguf")


def mend(path: Path) -> str:
    """Say how to replace a broken file."""
    if path.is_relative_to(home() / "models") and path.parent != home() / "models":
        alias = path.relative_to(home() / "models").parts[0]
        return f"labkit models rm {alias}, then labkit models pull {alias}"
    return "get the file again, or take a model from the list: labkit models"


@contextmanager
def storage_errors(path: Path, verb: str = "write") -> Iterator[None]:
    """Turn an `OSError` into a `StorageFailed` that says what to do."""
    try:
        yield
    except OSError as error:
        reason, fix = REASONS.get(error.errno or 0, (error.strerror or str(error), MOVE_HOME))
        raise StorageFailed(f"cannot {verb} {path}: {reason}", fix=fix) from error


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and renamed, otherwise removed.

    Raises `StorageFailed` when the disk is full, read-only or closed to you.
    """
    temp = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temp.touch()
            yield temp
            with temp.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(temp, path)
        finally:
            temp.unlink(missing_ok=True)


@contextmanager
def lock(path: Path, timeout: float = 600.0) -> Iterator[None]:
    """Hold the right to make `path`, across processes.

    Raises `StorageFailed` after `timeout` seconds of waiting, or where no lock can be made.
    """
    from filelock import FileLock, Timeout

    owner = path.with_name(f".{path.name}.owner")
    guard = FileLock(path.with_name(f".{path.name}.lock"))
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            guard.acquire(timeout=timeout, poll_interval=0.05)
        except Timeout:
            who = owner.read_text("utf-8") if owner.exists() else "another process"
            raise StorageFailed(
                f"{path.name} has been in the hands of {who} for {timeout:g} s",
                fix="wait until that is done, or stop it, and try again",
            ) from None
    try:
        with storage_errors(path):
            owner.write_text(f"process {os.getpid()}", "utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        guard.release()


def hash_file(path: Path) -> str:
    """Return the sha256 of a file in hex."""
    with storage_errors(path, "read"), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_path(path: Path) -> Path:
    """Return where the seal of a file is kept."""
    return path.with_name(path.name + ".json")


def seal(path: Path, made_from: str, made_by: str) -> Record:
    """Write the record that marks `path` as finished."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    record = Record(hash_file(path), path.stat().st_size, made_from, made_by, when)
    with atomic_file(record_path(path)) as temp:
        temp.write_text(json.dumps(asdict(record), indent=1) + "\n", "utf-8")
    return record


def record_of(path: Path) -> Record | None:
    """Read a file's record; None where there is none, or none that can be read."""
    try:
        found = Record(**json.loads(record_path(path).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return found if isinstance(found.bytes, int) else None


def verified(path: Path, *, deep: bool = False) -> bool:
    """Return whether `path` is finished and whole: sealed and of the right size; `deep` hashes it as well."""
    record = record_of(path)
    if record is None or not path.is_file() or path.stat().st_size != record.bytes:
        return False
    return not deep or hash_file(path) == record.sha256


def verify(path: Path, *, deep: bool = False) -> None:
    """Raise `ModelFileInvalid` unless `path` is `verified`."""
    if not verified(path, deep=deep):
        raise ModelFileInvalid(f"{path} is unfinished, or has changed since it was made", fix=mend(path))


def local_models() -> list[LocalModel]:
    """List the finished files on this disk, by model and variant."""
    found = []
    for path in sorted((home() / "models").glob("*/[!.]*")):
        record = record_of(path)
        if record is not None and verified(path):
            found.append(LocalModel(path.parent.name, path.stem, path, record))
    return found


def remove(alias: str, variant: str | None = None) -> int:
    """Delete a model's files, or those of one variant, and return how many bytes that freed.

    Raises `ModelNotFound` when there are none.
    """
    folder = path_of(alias)
    files = [*folder.glob("*"), *folder.glob(".partial/*")] if variant else [*folder.glob("*")]
    doomed = [path for path in files if variant is None or _belongs(path, variant)]
    if not doomed:
        what = f"{alias} {variant}" if variant else alias
        raise ModelNotFound(f"no files of {what} in {folder.parent}", fix="see what is here: labkit models")
    freed = 0
    with storage_errors(folder, "remove"):
        for path in doomed:
            freed += _size(path)
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        if variant is None:
            folder.rmdir()
    return freed


def _belongs(path: Path, variant: str) -> bool:
    name = path.name.lower().lstrip(".")
    return name == variant.lower() or name.startswith(f"{variant.lower()}.")


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(f.lstat().st_size for f in files if f.is_file())


def free_bytes(path: Path | None = None) -> int:
    """Return the free bytes on the disk that holds `path` (home, unless told)."""
    place = path or home()
    with storage_errors(place, "look at"):
        while not place.is_dir() and place != place.parent:
            place = place.parent
        return shutil.disk_usage(place).free


def require_space(size: int) -> None:
    """Raise `StorageFailed` unless `size` bytes can be written under `home()`, before work starts."""
    with atomic_file(home() / ".probe") as temp:
        temp.write_bytes(b"probe")
    (home() / ".probe").unlink(missing_ok=True)
    if (free := free_bytes()) < size:
        raise StorageFailed(
            f"{size / 1e9:.2f} GB are needed in {home()}, and {free / 1e9:.2f} GB are free", fix=MAKE_ROOM
        )
