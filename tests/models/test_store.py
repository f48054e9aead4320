"""Files on disk: whole or not there, and a clear sentence when the disk says no."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labkit.errors import ModelFileInvalid, ModelNotFound, OptionInvalid, StorageFailed
from labkit.models import store

ROOT = Path(__file__).parents[2]


def make(path: Path, content: bytes = b"weights") -> None:
    with store.atomic_file(path) as temp:
        temp.write_bytes(content)
    store.seal(path, made_from="a test", made_by="pytest")


def test_home_is_what_the_user_says_or_the_cache_folder(
    monkeypatch: pytest.MonkeyPatch, labkit_home: Path
) -> None:
    assert store.home() == labkit_home
    monkeypatch.setenv("LABKIT_HOME", "~/lab")
    assert store.home() == Path.home() / "lab"
    monkeypatch.delenv("LABKIT_HOME")
    assert store.home().name == "labkit"


@pytest.mark.parametrize("alias", ["..", "../x", "/etc", "a/b", "", ".", ".hidden", "a\\b", "a\0b", "a\n"])
def test_a_name_that_is_a_path_is_refused(alias: str) -> None:
    with pytest.raises(OptionInvalid):
        store.path_of(alias)
    with pytest.raises(OptionInvalid):
        store.remove(alias)


@pytest.mark.parametrize("part", ["..", "../other", "/etc/passwd", "a/../../x"])
def test_a_part_that_leaves_the_folder_is_refused(part: str) -> None:
    with pytest.raises(OptionInvalid):
        store.path_of("nano", part)


def test_a_link_that_leaves_home_is_not_followed(labkit_home: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (labkit_home / "models").mkdir(parents=True)
    (labkit_home / "models" / "evil").symlink_to(outside)
    with pytest.raises(OptionInvalid):
        store.remove("evil")
    make(store.file_of("nano", "F16"))
    (labkit_home / "models" / "nano" / "link").symlink_to(outside)
    store.remove("nano")
    assert (outside / "precious").exists()


def test_an_atomic_file_appears_whole(labkit_home: Path) -> None:
    path = store.file_of("nano", "F16")
    with store.atomic_file(path) as temp:
        temp.write_bytes(b"new")
        assert not path.exists() and temp.parent == path.parent
    assert path.read_bytes() == b"new" and os.listdir(path.parent) == ["F16.gguf"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_write_leaves_the_old_file_and_no_temporary(error: type[BaseException]) -> None:
    path = store.file_of("nano", "F16")
    make(path, b"old")
    before = sorted(os.listdir(path.parent))
    with pytest.raises(error), store.atomic_file(path) as temp:
        temp.write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"old" and sorted(os.listdir(path.parent)) == before


def test_a_home_below_a_regular_file_is_refused_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("LABKIT_HOME", str(home))
        with pytest.raises(StorageFailed, match="LABKIT_HOME=") as caught:
            store.require_space(1)
        assert str(home) in caught.value.what and "folder" in str(caught.value)
        assert store.local_models() == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc, where nobody can write")
def test_a_folder_nobody_can_write_to_is_refused_even_for_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", "/proc/labkit")
    for work in (lambda: store.require_space(1), lambda: make(store.file_of("nano", "F16"))):
        with pytest.raises(StorageFailed, match="LABKIT_HOME="):
            work()
    with pytest.raises(StorageFailed, match="LABKIT_HOME="), store.lock(store.file_of("nano", "F16")):
        pytest.fail("a lock was made in /proc")


FILL = """
import resource, sys
from labkit.errors import StorageFailed
from labkit.models import store
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
path = store.file_of("nano", "F16")
try:
    with store.atomic_file(path) as temp:
        temp.write_bytes(bytes(200_000))
except StorageFailed as error:
    print(error)
    print(sorted(p.name for p in path.parent.iterdir()))
"""


def test_a_write_the_system_cuts_short_leaves_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILL],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "larger than is allowed" in done.stdout and "LABKIT_HOME=" in done.stdout, done.stderr
    assert done.stdout.endswith("[]\n")


@pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="needs Linux's /dev/full, a disk that is always full"
)
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="disk is full") as caught, store.storage_errors(tmp_path / "x"):
        with open("/dev/full", "wb") as full:
            full.write(b"x")
    assert "labkit models rm" in caught.value.fix


def test_a_full_disk_leaves_nothing_half_made(labkit_home: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("cannot mount a small disk here; the two tests above cover the code")
    try:
        os.environ["LABKIT_HOME"] = str(disk / "home")
        make(store.file_of("nano", "F16"), bytes(60_000))
        with pytest.raises(StorageFailed, match="disk is full"):
            make(store.file_of("nano", "Q8_0"), bytes(300_000))
        assert [m.variant for m in store.local_models()] == ["F16"]
        assert sorted(os.listdir(store.path_of("nano"))) == ["F16.gguf", "F16.gguf.json"]
        with pytest.raises(StorageFailed, match="are needed"):
            store.require_space(10**6)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_work_that_cannot_fit_is_refused_before_it_starts(labkit_home: Path) -> None:
    with pytest.raises(StorageFailed, match="GB are needed"):
        store.require_space(10**18)
    store.require_space(1000)
    assert os.listdir(labkit_home) == []
    assert store.free_bytes() > 0 and store.free_bytes(labkit_home / "not" / "yet") > 0


def test_a_sealed_file_is_verified_until_it_changes() -> None:
    path = store.file_of("nano", "F16")
    with store.atomic_file(path) as temp:
        temp.write_bytes(b"weights")
    assert not store.verified(path), "a file without its seal counts as unfinished"
    record = store.seal(path, "nano", "pytest")
    assert record.sha256 == hashlib.sha256(b"weights").hexdigest() and record.bytes == 7
    assert store.verified(path) and store.verified(path, deep=True)
    path.write_bytes(b"weighty")
    assert store.verified(path) and not store.verified(path, deep=True)
    with pytest.raises(ModelFileInvalid, match="labkit models pull nano"):
        store.verify(path, deep=True)
    path.write_bytes(b"cut")
    assert not store.verified(path)


@pytest.mark.parametrize("seal", ["", "[]", "{}", '{"sha256": 1}', "\x00", '"x"', '{"bytes": "7"}'])
def test_a_broken_seal_is_no_seal(seal: str) -> None:
    path = store.file_of("nano", "F16")
    make(path)
    store.record_path(path).write_text(seal)
    assert not store.verified(path) and store.local_models() == []


def test_listing_and_removing() -> None:
    for quant in ("F16", "Q4_K_M", "Q4_K_S"):
        make(store.file_of("nano", quant))
    make(store.file_of("other", "F16"))
    store.path_of("nano", "half.gguf").write_bytes(b"no seal")
    partial = store.path_of("nano", ".partial", "Q4_K_M.abc")
    partial.parent.mkdir()
    partial.write_bytes(b"half")
    assert [(m.alias, m.variant) for m in store.local_models()] == [
        ("nano", "F16"),
        ("nano", "Q4_K_M"),
        ("nano", "Q4_K_S"),
        ("other", "F16"),
    ]
    assert store.remove("nano", "q4_k_m") > 7
    assert [m.variant for m in store.local_models() if m.alias == "nano"] == ["F16", "Q4_K_S"]
    assert not partial.exists()
    store.remove("nano")
    assert [m.alias for m in store.local_models()] == ["other"]
    for wrong in (("nano", None), ("other", "Q2_K"), ("never", None)):
        with pytest.raises(ModelNotFound, match="labkit models"):
            store.remove(*wrong)


def hold(path: Path, ready: str, seconds: float) -> None:
    with store.lock(path):
        Path(ready).write_text("")
        time.sleep(seconds)


def test_who_holds_a_lock_is_named_and_it_is_free_afterwards(tmp_path: Path) -> None:
    path, ready = store.file_of("nano", "F16"), tmp_path / "ready"
    child = multiprocessing.get_context("spawn").Process(target=hold, args=(path, str(ready), 1.5))
    child.start()
    while not ready.exists():
        time.sleep(0.02)
    time.sleep(0.05)
    with pytest.raises(StorageFailed, match=f"process {child.pid}"), store.lock(path, timeout=0.1):
        pytest.fail("two held the lock")
    with store.lock(path, timeout=20):
        pass
    child.join()
    child.close()


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    path, ready = store.file_of("nano", "F16"), tmp_path / "ready"
    child = multiprocessing.get_context("spawn").Process(target=hold, args=(path, str(ready), 60))
    child.start()
    while not ready.exists():
        time.sleep(0.02)
    child.kill()
    child.join()
    child.close()
    with store.lock(path, timeout=5):
        pass


def test_a_record_can_be_read_by_people() -> None:
    path = store.file_of("nano", "F16")
    make(path)
    record = json.loads(store.record_path(path).read_text())
    assert record.keys() == {"sha256", "bytes", "made_from", "made_by", "when"}
