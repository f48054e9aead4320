"""Pulling from a real server on this machine: whole, cut, resumed, refused, stopped."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub import COMMIT, Hub, serve

from labkit.errors import DownloadFailed, LabkitError, ModelFileInvalid, ModelNotFound, StorageFailed
from labkit.models import store
from labkit.models.card import ModelCard, Ref, Variant
from labkit.models.catalog import find
from labkit.models.download import pull


def card_for(sha256: str | None = None, size: int = 100_000) -> ModelCard:
    return ModelCard(
        alias="tiny",
        title="Tiny",
        params_b=0.001,
        license="MIT",
        context=256,
        capabilities=frozenset({"completion"}),
        refs={"llamacpp": Ref(repo="someone/tiny-GGUF", file="tiny-{quant}.gguf")},
        variants=(Variant("F16", 16.0, size, sha256),),
        default_variant="F16",
    )


CARD = card_for()


def quiet(done: int, total: int) -> None:
    """Show no progress."""


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    yield
    from huggingface_hub.utils._http import close_session

    close_session()


@pytest.fixture
def hub(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve(Hub(content=tiny_gguf.read_bytes())) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def finished() -> list[str]:
    return [m.variant for m in store.local_models()]


def nothing_looks_complete() -> bool:
    folder = store.path_of("tiny")
    return finished() == [] and not list(folder.glob("[!.]*"))


def test_a_file_is_pulled_verified_and_not_pulled_again(hub: Hub) -> None:
    seen: list[tuple[int, int]] = []
    path = pull(CARD, progress=lambda done, total: seen.append((done, total)))
    assert path == store.file_of("tiny", "F16") and path.read_bytes() == hub.content
    assert store.verified(path, deep=True)
    record = store.record_of(path)
    assert record and record.made_from == "someone/tiny-GGUF/tiny-F16.gguf@main"
    assert seen[-1] == (len(hub.content), len(hub.content))
    assert [method for method, *_ in hub.requests] == ["HEAD", "GET"]
    assert hub.requests[0][1] == "/someone/tiny-GGUF/resolve/main/tiny-F16.gguf"
    assert COMMIT in hub.requests[1][1], "what is fetched is the commit that was looked up"
    assert pull(CARD) == path and len(hub.requests) == 2
    assert not list(store.path_of("tiny", ".partial").iterdir())


def test_a_bar_is_drawn_unless_told_otherwise(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    pull(CARD)
    assert "tiny F16: 100%" in capsys.readouterr().err


def test_a_cut_in_mid_stream_is_resumed_at_once(hub: Hub) -> None:
    hub.cuts = [50_000]
    path = pull(CARD, progress=quiet)
    assert path.read_bytes() == hub.content
    assert [r for method, _, r in hub.requests if method == "GET"] == ["bytes=0-", "bytes=50000-"]


def test_a_download_that_keeps_breaking_off_is_resumed_by_the_next_pull(hub: Hub) -> None:
    hub.cuts = [20_000, 10_000, 5_000]
    with pytest.raises(DownloadFailed, match="labkit models pull tiny goes on"):
        pull(CARD, progress=quiet)
    assert nothing_looks_complete()
    seen: list[int] = []
    path = pull(CARD, progress=lambda done, total: seen.append(done))
    assert path.read_bytes() == hub.content and seen[0] > 35_000
    assert hub.requests[-1][2] == "bytes=35000-"


def test_a_server_that_sends_nothing_is_not_asked_for_ever(hub: Hub) -> None:
    hub.cuts = [0] * 99
    start = time.monotonic()
    with pytest.raises(DownloadFailed):
        pull(CARD, progress=quiet)
    assert time.monotonic() - start < 5 and nothing_looks_complete()
    assert sum(method == "GET" for method, *_ in hub.requests) == 1


def test_a_server_without_ranges_starts_again(hub: Hub) -> None:
    hub.ranges, hub.cuts = False, [20_000]
    assert pull(CARD, progress=quiet).read_bytes() == hub.content


def test_a_new_version_does_not_continue_the_old_one(hub: Hub) -> None:
    hub.cuts = [20_000, 0]
    with pytest.raises(DownloadFailed):
        pull(CARD, progress=quiet)
    hub.content = hub.content[:-1] + b"\x07"
    assert pull(CARD, progress=quiet).read_bytes() == hub.content


@pytest.mark.parametrize("who", ["hub", "card"])
def test_a_wrong_hash_is_refused_and_dropped(who: str, hub: Hub) -> None:
    if who == "hub":
        hub.etag = "0" * 64
    with pytest.raises(DownloadFailed, match="sha256"):
        pull(card_for("0" * 64) if who == "card" else CARD, progress=quiet)
    assert nothing_looks_complete() and not list(store.path_of("tiny", ".partial").iterdir())


def test_what_is_no_gguf_file_is_refused_and_dropped(hub: Hub) -> None:
    hub.content, hub.etag = b"<html>Welcome to the hotel's network</html>", "short"
    with pytest.raises(ModelFileInvalid, match="web page"):
        pull(CARD, progress=quiet)
    assert nothing_looks_complete() and not list(store.path_of("tiny", ".partial").iterdir())


@pytest.mark.parametrize("change", [-1, +5])
def test_another_size_than_announced(change: int, hub: Hub) -> None:
    hub.send = hub.content[:change] if change < 0 else hub.content + bytes(change)
    with pytest.raises(DownloadFailed):
        pull(CARD, progress=quiet)
    assert nothing_looks_complete()


def test_a_server_that_is_no_hub(hub: Hub) -> None:
    hub.plain = True
    with pytest.raises(DownloadFailed, match="does not answer like a model hub"):
        pull(CARD, progress=quiet)


@pytest.mark.parametrize(
    ("status", "code", "error", "words"),
    [
        (404, "EntryNotFound", ModelNotFound, "there is no someone/tiny-GGUF/tiny-F16.gguf"),
        (404, "RevisionNotFound", ModelNotFound, "there is no"),
        (404, "RepoNotFound", ModelNotFound, "there is no"),
        (401, "RepoNotFound", ModelNotFound, "there is no"),
        (403, "GatedRepo", DownloadFailed, "accept the licence at https://huggingface.co/someone/tiny-GGUF"),
        (403, "", DownloadFailed, "answered 403"),
        (429, "", DownloadFailed, "answered 429"),
        (500, "", DownloadFailed, "answered 500"),
        (503, "", DownloadFailed, "answered 503"),
    ],
)
def test_an_answer_that_is_no_file(
    status: int, code: str, error: type[LabkitError], words: str, hub: Hub
) -> None:
    hub.status, hub.error_code = status, code
    start = time.monotonic()
    with pytest.raises(error, match=words) as caught:
        pull(CARD, progress=quiet)
    assert time.monotonic() - start < 5
    assert type(caught.value) is error and caught.value.fix and "\n" not in caught.value.what
    assert nothing_looks_complete()


def test_a_closed_port_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(DownloadFailed, match="from http://127.0.0.1") as caught:
            pull(CARD, progress=quiet)
    assert time.monotonic() - start < 5 and "network" in caught.value.fix and nothing_looks_complete()


def test_a_server_that_stays_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(DownloadFailed, match="cannot get"):
            pull(CARD, progress=quiet)
    assert time.monotonic() - start < 8


def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    start = time.monotonic()
    with pytest.raises(DownloadFailed, match="from http://hub.invalid"):
        pull(CARD, progress=quiet)
    assert time.monotonic() - start < 8


def test_offline_is_honoured_without_a_request(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadFailed, match="unset HF_HUB_OFFLINE"):
        pull(CARD, progress=quiet)
    assert hub.requests == []


def test_ctrl_c_stops_with_a_sentence_and_the_next_pull_goes_on(hub: Hub) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(DownloadFailed, match="was stopped") as caught:
        pull(CARD, progress=stop)
    assert "labkit models pull tiny" in caught.value.fix and nothing_looks_complete()
    assert pull(CARD, progress=quiet).read_bytes() == hub.content


LIMITED = """
import resource
from test_download import CARD, quiet
from labkit.errors import StorageFailed
from labkit.models.download import pull
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    pull(CARD, progress=quiet)
except StorageFailed as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_is_named(hub: Hub) -> None:
    here = Path(__file__).parent
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parents[1])])}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], env=env, capture_output=True, text=True, timeout=60
    )
    assert "larger than is allowed" in done.stdout and "LABKIT_HOME=" in done.stdout, done.stderr
    assert nothing_looks_complete()


def test_no_room_is_said_before_anything_is_fetched(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    (Path(os.environ["LABKIT_HOME"]).parent / "file").write_text("")
    monkeypatch.setenv("LABKIT_HOME", str(Path(os.environ["LABKIT_HOME"]).parent / "file" / "home"))
    with pytest.raises(StorageFailed, match="LABKIT_HOME="):
        pull(CARD, progress=quiet)
    assert not any(method == "GET" for method, *_ in hub.requests)


def test_models_that_need_no_pull(hub: Hub, tiny_gguf: Path) -> None:
    assert pull(find("nano")).name == "nano"
    assert pull(find(str(tiny_gguf))) == tiny_gguf
    with pytest.raises(ModelNotFound, match="no GGUF file"):
        pull(ModelCard("x", "X", 1.0, "MIT", 1, frozenset(), variants=CARD.variants))
    with pytest.raises(ModelNotFound, match="no variant"):
        pull(CARD, "Q2_K")
    assert hub.requests == []
