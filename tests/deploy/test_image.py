"""The Dockerfile's steps, done one by one without Docker, give an image that starts, is healthy, and ends in order."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from replay import Stage, container, follow, healthy, instructions, replay

from labkit.deploy.render import render, write
from labkit.deploy.settings import Deployment

ROOT = Path(__file__).parents[2]


def refused() -> str:
    """Return why this machine gives nobody a root of one's own, "" if it does."""
    if sys.platform != "linux" or os.geteuid():
        return "a root of one's own needs Linux and its root"
    done = subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, text=True)
    return done.stderr.strip()


pytestmark = [pytest.mark.heavy, pytest.mark.skipif(bool(refused()), reason=refused() or "allowed")]
FILES = render(Deployment(), ("docker",))
# Run inside the image, as the health check is: what a caller without a key is told, and where the server writes.
ASK = """
import json, urllib.request as u, urllib.error
try:
    u.urlopen(u.Request("http://127.0.0.1:8000/v1/chat/completions", b"{}"), timeout=5)
except urllib.error.HTTPError as error:
    print(error.code)
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Return the last stage of the whole Dockerfile, pip's installation included: it takes minutes."""
    folder = tmp_path_factory.mktemp("image")
    write(FILES, folder)
    yield replay(folder / "Dockerfile", ROOT, folder / "stages")
    shutil.rmtree(folder)  # some hundred megabytes


@pytest.mark.timeout(900)
def test_the_image_is_healthy_and_ends_in_order(image: Stage, tmp_path: Path) -> None:
    with container(image, tmp_path / "log") as process:
        assert healthy(image, process), (tmp_path / "log").read_text()
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert re.search(r"^Uid:\s+10001\s", status, re.M) and re.search(r"^CapEff:\s+0+$", status, re.M)
        asked = image.enter(["python", "-c", ASK], inside=process.pid)
        assert subprocess.run(asked, capture_output=True, text=True).stdout.strip() == "401"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, (tmp_path / "log").read_text()
    state = image.root / "state"
    assert state.stat().st_mode & 0o777 == 0o700 and (state / "keys.sqlite").stat().st_uid == 10001
    assert not any((image.root / name).exists() for name in ("build", "state/.git", "opt/labkit/.git"))


@pytest.mark.parametrize(
    ("word", "old", "new"),
    [
        ("CMD", "--profile", "--profil"),
        ("HEALTHCHECK", "/health", "/heath"),
        ("USER", "10001:10001", "10002:10002"),
    ],
)
@pytest.mark.timeout(900)
def test_an_image_that_is_set_up_wrongly_never_gets_healthy(
    image: Stage, tmp_path: Path, word: str, old: str, new: str
) -> None:
    broken = replace(image)
    rest = [rest for name, rest in instructions(FILES["Dockerfile"]) if name == word][-1]
    assert old in rest
    follow(broken, word, rest.replace(old, new), {}, ROOT, set())
    with container(broken, tmp_path / "log") as process:
        assert not healthy(broken, process, seconds=15)


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("Dockerfile", "COPY labkit ./labkit", "COPY labkits ./labkit", "COPY labkits"),
        ("Dockerfile", "venv /opt/labkit", "venvs /opt/labkit", "venvs"),
        ("Dockerfile", "USER 10001", "USR 10001", "USR"),
        ("Dockerfile.dockerignore", "!pyproject.toml\n", "", "COPY pyproject.toml"),
    ],
)
def test_a_broken_step_stops_the_build(tmp_path: Path, name: str, old: str, new: str, said: str) -> None:
    text = FILES[name]
    assert old in text
    changed = {**FILES, name: text.replace(old, new, 1)}
    # No need to install anything: what is broken is found before or after.
    changed["Dockerfile"] = re.sub(r"RUN \S+ -m (pip install|venv /).*", "RUN true", changed["Dockerfile"])
    changed["Dockerfile"] = changed["Dockerfile"].replace(
        "COPY --from=build /opt/labkit", "COPY --from=build /build"
    )
    write(changed, tmp_path)
    with pytest.raises((subprocess.CalledProcessError, FileNotFoundError, ValueError)) as caught:
        replay(tmp_path / "Dockerfile", ROOT, tmp_path / "stages")
    assert said in f"{caught.value} {getattr(caught.value, 'stderr', '')}"


def test_what_is_started_is_json(tmp_path: Path) -> None:
    forms = [rest for word, rest in instructions(FILES["Dockerfile"]) if word in ("CMD", "ENTRYPOINT")]
    assert forms and all(isinstance(json.loads(rest), list) for rest in forms)
