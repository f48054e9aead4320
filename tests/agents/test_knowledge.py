"""The knowledge base is always whole: offline, after a cut, and against a remote that means harm."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.agents.knowledge import MAX_BYTES, Knowledge, Remote, plan
from labkit.errors import DownloadFailed

OLD = {"a.md": "# A\n", "b.md": "# B\n", "c.md": "# C – ü\n"}
NEW = {"a.md": "# A\n", "b.md": "# B, changed\n", "d.md": "# D\n", "e.md": "# A\n"}


@pytest.fixture
def office(tmp_path: Path) -> Knowledge:
    made = Knowledge(tmp_path / "office")
    made.publish(OLD)
    return made


@pytest.fixture
def device(tmp_path: Path) -> Knowledge:
    return Knowledge(tmp_path / "device")


@pytest.fixture
def remote(office: Knowledge) -> Iterator[Remote]:
    server = Remote(office.folder)
    yield server
    server.close()


def test_a_plan_compares_two_manifests() -> None:
    found = plan({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "9", "d": "4"})
    assert found == (["b", "d"], ["c"], ["a"])


def test_only_what_changed_travels(office: Knowledge, device: Knowledge, remote: Remote) -> None:
    assert device.documents() == {}
    first = device.sync(remote.url)
    assert (
        first.done and first.fetched == 3 and first.bytes == sum(len(text.encode()) for text in OLD.values())
    )
    assert device.documents() == OLD
    assert device.sync(remote.url).fetched == 0
    office.publish(NEW)
    second = device.sync(remote.url)
    assert second.done and device.documents() == NEW
    assert second.fetched == 2  # e.md has the content that a.md has already
    assert second.plan == (["b.md", "d.md", "e.md"], ["c.md"], ["a.md"])
    assert len(list(device.objects.iterdir())) == 3


def test_without_a_connection_the_old_state_stays(device: Knowledge, remote: Remote) -> None:
    assert device.sync(remote.url).done
    remote.close()
    offline = device.sync(remote.url)
    assert not offline.done and "Connect" in offline.problem and offline.plan.keep == sorted(OLD)
    assert device.documents() == OLD


@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_cut_leaves_the_old_state_whole_and_is_gone_on_from(
    left: int, office: Knowledge, device: Knowledge, remote: Remote
) -> None:
    assert device.sync(remote.url).done
    office.publish(NEW)
    remote.left = left
    cut = device.sync(remote.url)
    assert not cut.done and cut.fetched == max(0, left - 1) and cut.problem
    assert device.documents() == OLD
    remote.left = 100
    again = device.sync(remote.url)
    assert again.done and again.fetched == 2 - cut.fetched
    assert device.documents() == NEW


@pytest.mark.parametrize(
    "manifest",
    [
        '{"../../x.md": "%s"}' % ("0" * 64),
        '{"/etc/passwd": "%s"}' % ("0" * 64),
        '{".hidden": "%s"}' % ("0" * 64),
        '{"a\\u0000.md": "%s"}' % ("0" * 64),
        '{"a.md": "../../../x"}',
        '{"a.md": 7}',
        '["a.md"]',
        "null",
        "not json",
        "[" * 100_000,
        "\ufffd" * 9,
    ],
)
def test_a_hostile_manifest_changes_nothing(
    manifest: str, office: Knowledge, device: Knowledge, remote: Remote
) -> None:
    assert device.sync(remote.url).done
    (office.folder / "manifest.json").write_text(manifest, encoding="utf-8")
    with pytest.raises(DownloadFailed, match="no manifest"):
        assert device.sync(remote.url).done
    (office.folder / "manifest.json").unlink()
    assert not device.sync(remote.url).done  # 404
    assert device.documents() == OLD


def test_another_content_than_promised_or_too_much_of_it_is_refused(
    office: Knowledge, device: Knowledge, remote: Remote
) -> None:
    assert device.sync(remote.url).done
    office.publish(NEW)
    forged = office.objects / office.manifest()["d.md"]
    forged.write_text("# D, forged\n")
    with pytest.raises(DownloadFailed, match="sha256"):
        device.sync(remote.url)
    forged.write_bytes(b"x" * (MAX_BYTES + 1))
    with pytest.raises(DownloadFailed, match="more than"):
        device.sync(remote.url)
    assert device.documents() == OLD
    names = json.loads((device.folder / "manifest.json").read_text("utf-8"))
    assert set(names) == set(OLD)
