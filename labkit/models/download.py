"""Pulling a model's GGUF file from the Hugging Face hub, or the folder of another engine.

Bytes gather in a `.partial` folder, and the next pull goes on from there; only a file that is complete, has
the right sha256 and is a sound GGUF file moves to its place. (`hf_hub_download` starts again after an
interruption, so this uses the hub library's smaller parts.)
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from labkit.errors import DownloadFailed, LabkitError, ModelNotFound
from labkit.models.card import ModelCard, Ref
from labkit.models.gguf import inspect
from labkit.models.store import (
    atomic_file,
    file_of,
    hash_file,
    lock,
    path_of,
    require_space,
    seal,
    storage_errors,
    verified,
)

Progress = Callable[[int, int], None]

METADATA_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 15.0
ATTEMPTS = 3
FILES = ".files.json"
OFFLINE_WORDS = ("1", "on", "yes", "true")


class Remote(NamedTuple):
    """Describe a file on the hub; `sha256` is "" where the hub does not know it."""

    url: str
    size: int
    etag: str
    sha256: str


def pull(card: ModelCard, variant: str | None = None, progress: Progress | None = None) -> Path:
    """Download one variant of a model and return its path; a file that is here already is not fetched again.

    For a shipped model that is labkit's own folder of it. `progress` is called with (bytes so far, all
    bytes); without it a bar is drawn. Raises `DownloadFailed`, `ModelNotFound` or `StorageFailed`; the next
    `pull` then goes on where this one stopped.
    """
    ref = card.refs.get("llamacpp", Ref())
    if ref.random:
        raise ModelNotFound(f"{card.alias} is made, not pulled", fix=f"labkit models quantize {card.alias}")
    if ref.package:
        return Path(str(files("labkit.models"))) / ref.package
    if ref.file and not ref.repo:
        return Path(ref.file)
    if not ref.repo or not ref.file:
        raise ModelNotFound(f"{card.alias} has no GGUF file to pull", fix="choose another: labkit models")
    chosen = card.variant(variant)
    target = file_of(card.alias, chosen.quant)
    if verified(target):
        return target
    name = ref.file.format(quant=chosen.quant)
    with _sentences(card.alias, f"{ref.repo}/{name}"), lock(target):
        if not verified(target):
            remote = _look_up(ref, name)
            part = _partial(card.alias, chosen.quant, remote.etag)
            _fetch(remote, part, progress or _bar(f"{card.alias} {chosen.quant}"))
            _accept(part, target, chosen.sha256 or remote.sha256, f"{ref.repo}/{name}@{ref.revision}")
    return target


def pull_folder(card: ModelCard, engine: str, progress: Progress | None = None) -> Path:
    """Download what an engine runs as a folder (the ref's `file`, or its whole repository); return its path.

    FILES in it is written last: a folder without it was never finished. Raises as `pull` does.
    """
    ref = card.refs.get(engine, Ref())
    if not ref.repo:
        raise ModelNotFound(f"{card.alias} has no files for {engine} to pull", fix="labkit models")
    folder = path_of(card.alias, engine)
    listing = folder / FILES
    with _sentences(f"{card.alias} --engine {engine}", f"{ref.repo}/{ref.file}"), lock(folder):
        if not listing.is_file():
            names = _names(ref)
            for name in names:
                target = path_of(card.alias, engine, *Path(name).relative_to(ref.file).parts)
                if not verified(target):
                    remote = _look_up(ref, name)
                    part = _partial(card.alias, f"{engine}-{target.name.replace('.', '_')}", remote.etag)
                    _fetch(remote, part, progress or _bar(target.name))
                    origin = f"{ref.repo}/{name}@{ref.revision}"
                    _accept(part, target, remote.sha256, origin, gguf=False)
            with atomic_file(listing) as temp:
                temp.write_text(json.dumps(names, indent=1) + "\n", "utf-8")
    return folder


def pulled_folder(card: ModelCard, engine: str) -> Path:
    """Return a folder that `pull_folder` has finished; raise `ModelNotFound` with the command that gets it."""
    folder = path_of(card.alias, engine)
    if not (folder / FILES).is_file():
        command = f"labkit models pull {card.alias} --engine {engine}"
        raise ModelNotFound(f"{card.alias} for {engine} is not on this machine", fix=command)
    return folder


def _names(ref: Ref) -> list[str]:
    """List the files of a ref's folder on the hub, without those whose name begins with a dot."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    _refuse_offline(ref.repo)
    tree = HfApi(endpoint=_endpoint()).list_repo_tree(
        ref.repo, ref.file or None, recursive=True, revision=ref.revision
    )
    return [
        e.path for e in tree if isinstance(e, RepoFile) and e.size and not Path(e.path).name.startswith(".")
    ]


def _refuse_offline(what: str) -> None:
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in OFFLINE_WORDS:
        raise DownloadFailed(f"cannot pull {what}: HF_HUB_OFFLINE is set", fix="unset HF_HUB_OFFLINE")


def _look_up(ref: Ref, name: str) -> Remote:
    """Ask the hub for a file's address, size and hash, without fetching it."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    _refuse_offline(name)
    url = hf_hub_url(ref.repo, name, revision=ref.revision, endpoint=_endpoint())
    found = get_hf_file_metadata(url, timeout=METADATA_TIMEOUT_S, endpoint=_endpoint())
    if not found.etag or not found.size or not found.commit_hash:
        raise DownloadFailed(
            f"{_endpoint()} does not answer like a model hub", fix="check HF_ENDPOINT, or a proxy in between"
        )
    # The hub's etag of a large file is its sha256; of a small one it is a git hash.
    sha256 = found.etag if len(found.etag) == 64 else ""
    # By commit, so that what is fetched is what was looked up.
    url = hf_hub_url(ref.repo, name, revision=found.commit_hash, endpoint=_endpoint())
    return Remote(url, found.size, found.etag, sha256)


def _partial(alias: str, quant: str, etag: str) -> Path:
    """Return where the bytes gather, named by content: those of another version are dropped."""
    part = path_of(alias, ".partial", f"{quant}.{''.join(c for c in etag if c.isalnum())[:16]}")
    with storage_errors(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        for old in part.parent.glob(f"{quant}.*"):
            if old != part:
                old.unlink()
    return part


def _fetch(remote: Remote, part: Path, progress: Progress) -> None:
    """Get the bytes that are missing; go on after a cut as long as each attempt brings some."""
    require_space(remote.size - _length(part))
    for attempt in range(ATTEMPTS):
        before = _length(part)
        if before == remote.size:
            return
        try:
            _stream(remote, part, progress)
        except LabkitError:
            raise
        except Exception:  # whatever the network library calls a cut; the last one is passed on
            if attempt == ATTEMPTS - 1 or _length(part) <= before:
                raise
    if _length(part) != remote.size:
        part.unlink(missing_ok=True)
        raise DownloadFailed("the server sent another size than it announced", fix="try again")


def _stream(remote: Remote, part: Path, progress: Progress) -> None:
    from huggingface_hub import get_session, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    have = _length(part)
    headers = {**build_hf_headers(), "Accept-Encoding": "identity", "Range": f"bytes={have}-"}
    with get_session().stream("GET", remote.url, headers=headers, timeout=READ_TIMEOUT_S) as response:
        hf_raise_for_status(response)
        have = have if response.status_code == 206 else 0
        # The network library's errors are no OSErrors: what is mapped here comes from the disk.
        with storage_errors(part), part.open("rb+" if have else "wb") as file:
            file.seek(have)
            for piece in response.iter_bytes():
                have += len(piece)
                if have > remote.size:
                    break
                file.write(piece)
                progress(have, remote.size)


def _accept(part: Path, target: Path, sha256: str, origin: str, gguf: bool = True) -> None:
    """Move a complete file to its place, or drop it when it is not what was promised."""
    try:
        if sha256 and (seen := hash_file(part)) != sha256:
            raise DownloadFailed(f"{origin} has the sha256 {seen[:12]}…, not {sha256[:12]}…", fix="try again")
        if gguf:
            inspect(part)
    except LabkitError:
        part.unlink(missing_ok=True)
        raise
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, target)
    seal(target, made_from=origin, made_by="huggingface_hub")


@contextmanager
def _sentences(alias: str, what: str) -> Iterator[None]:
    """Turn every way a download can fail into one sentence and what to type next."""
    from huggingface_hub import errors

    again = f"labkit models pull {alias} goes on where this stopped"
    try:
        yield
    except LabkitError:
        raise
    except KeyboardInterrupt as error:
        raise DownloadFailed(f"the download of {what} was stopped", fix=again) from error
    except errors.OfflineModeIsEnabled as error:
        raise DownloadFailed(f"cannot pull {what}: offline mode is on", fix="unset HF_HUB_OFFLINE") from error
    except errors.GatedRepoError as error:
        fix = f"accept the licence at https://huggingface.co/{'/'.join(what.split('/')[:2])}, then: hf auth login"
        raise DownloadFailed(f"{what} is only for people who accepted its licence", fix=fix) from error
    except (
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.EntryNotFoundError,
        errors.HFValidationError,
    ) as error:
        raise ModelNotFound(f"there is no {what} at {_endpoint()}", fix="see: labkit models") from error
    except errors.HfHubHTTPError as error:
        code = error.response.status_code
        raise DownloadFailed(f"{_endpoint()} answered {code} for {what}", fix=f"later: {again}") from error
    except Exception as error:  # the network library's own errors; no reader should have to know them
        why = f"cannot get {what} from {_endpoint()} ({type(error).__name__})"
        fix = f"check the network, then: {again}; nano needs none"
        raise DownloadFailed(why, fix=fix) from error


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _bar(label: str) -> Progress:
    """Draw a progress bar, in a terminal or a notebook."""
    from tqdm.auto import tqdm

    bar: Any = None

    def show(done: int, total: int) -> None:
        nonlocal bar
        bar = bar or tqdm(total=total, desc=label, unit="B", unit_scale=True)
        bar.update(done - bar.n)
        if done >= total:
            bar.close()

    return show
