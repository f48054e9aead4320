"""A real JupyterHub with the class's own settings: two students fetch the labs by the link, and run lab 01 at once.

Needs the extra `hub` and `npm install -g configurable-http-proxy`, which is JupyterHub's own proxy.
"""

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import pytest
from class_server import class_server, fixed_port

from labkit.classroom.hub import Hub, render

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
STUDENTS = ("anna", "ben")
LAB = "01_meet_your_machine.ipynb"
PROXY = shutil.which("configurable-http-proxy")
# Everything that has to do with students comes from the rendered TLJH snippet; here is what a test machine needs.
CONFIG = """
c = get_config()
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_port = {hub_port}
c.ConfigurableHTTPProxy.command = [{proxy!r}]
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api_port}"
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = {homes!r} + "/{{username}}"
c.Spawner.cmd = [{python!r}, "-m", "jupyterhub.singleuser"]
c.Spawner.args = ["--allow-root"]
c.Spawner.start_timeout = 300
c.Spawner.env_keep = ["PATH", "PYTHONPATH", "LANG", "OMP_NUM_THREADS"]
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allowed_users = {students!r}
c.JupyterHub.services = [{{"name": "test", "api_token": {token!r}}}]
c.JupyterHub.load_roles = [{{
    "name": "test", "services": ["test"], "scopes": ["admin:users", "admin:servers", "access:servers"],
}}]
load_subconfig({snippet!r})
c.Spawner.http_timeout = 300
"""


@dataclass(frozen=True)
class Running:
    """Name a hub that runs: its address, and headers that may do everything."""

    url: str
    headers: dict[str, str]
    homes: Path


@contextmanager
def running_hub(folder: Path, **settings: Any) -> Iterator[Running]:
    missing = [name for name in ("jupyterhub", "nbgitpuller") if find_spec(name) is None]
    if missing or not PROXY:
        why = f"missing: {', '.join(missing) or 'npm install -g configurable-http-proxy'}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    token, port, homes = secrets.token_hex(16), fixed_port(), folder / "homes"
    snippet = folder / "labkit.py"
    snippet.write_text(render(Hub(**settings))["tljh/labkit.py"])
    places = {
        "hub_port": fixed_port(),
        "api_port": fixed_port(),
        "homes": str(homes),
        "snippet": str(snippet),
    }
    told = {"port": port, "proxy": PROXY, "python": sys.executable, "students": set(STUDENTS), "token": token}
    (folder / "jupyterhub_config.py").write_text(CONFIG.format(**told, **places))
    log = (folder / "hub.log").open("w")
    command = [sys.executable, "-m", "jupyterhub", "-f", "jupyterhub_config.py"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    headers = {"Authorization": f"token {token}"}
    try:
        wait_until(f"http://127.0.0.1:{port}/hub/api/", headers)
        yield Running(f"http://127.0.0.1:{port}", headers, homes)
    finally:
        process.terminate()  # it stops the students' servers and the proxy
        process.wait(60)
        log.close()


def wait_until(url: str, headers: dict[str, str], wanted: str = "") -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(url, headers=headers, trust_env=False, timeout=30)
            if answer.status_code == 200 and wanted in answer.text:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"{url} did not come up")


def repository(folder: Path) -> str:
    """Make a git repository of the labs as students get them."""
    clone = folder / "course"
    shutil.copytree(ROOT / "labs", clone / "labs", ignore=shutil.ignore_patterns("solutions", "source"))
    author = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for words in (["init", "-q", "-b", "main"], ["add", "."], [*author, "commit", "-qm", "The labs"]):
        subprocess.run(["git", *words], cwd=clone, check=True)
    return clone.as_uri()


def fetch_labs(hub: Running, student: str, repo: str) -> None:
    """Do what the students' link does: ask nbgitpuller to clone."""
    link = Hub(repo="https://git.example.org/course.git").link
    assert urlsplit(link).path == "/hub/user-redirect/git-pull"
    asked = urlencode({"repo": repo, "branch": "main", "targetpath": "course"})
    url = f"{hub.url}/user/{student}/git-pull/api?{asked}"
    answer = httpx.get(url, headers=hub.headers, timeout=120, trust_env=False)
    assert '"phase": "finished"' in answer.text, answer.text[-500:]


async def run_lab(hub: Running, student: str) -> list[str]:
    """Run every cell of the student's own copy in their own server; return what failed."""
    import websockets

    base = f"{hub.url}/user/{student}/api"
    async with httpx.AsyncClient(headers=hub.headers, timeout=120, trust_env=False) as http:
        lab = (await http.get(f"{base}/contents/course/labs/{LAB}")).json()["content"]
        kernel = (await http.post(f"{base}/kernels", json={"path": f"course/labs/{LAB}"})).json()["id"]
        address = f"{base.replace('http', 'ws', 1)}/kernels/{kernel}/channels"
        async with websockets.connect(address, additional_headers=hub.headers, max_size=None) as socket:
            cells = ["".join(cell["source"]) for cell in lab["cells"] if cell["cell_type"] == "code"]
            failed = [error for cell in cells if (error := await execute(socket, cell))]
        await http.delete(f"{base}/kernels/{kernel}")
    return failed


async def execute(socket: Any, code: str) -> str:
    id = uuid.uuid4().hex
    header = {"msg_id": id, "msg_type": "execute_request", "session": id, "username": "", "version": "5.3"}
    content = {
        "code": code,
        "silent": False,
        "store_history": True,
        "allow_stdin": False,
        "stop_on_error": False,
    }
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    await socket.send(json.dumps(message))
    error = ""
    async with asyncio.timeout(600):
        async for text in socket:
            told = json.loads(text) if isinstance(text, str) else {}
            if told.get("parent_header", {}).get("msg_id") != id:
                continue
            if told["msg_type"] == "error":
                error = f"{told['content']['ename']}: {told['content']['evalue']}"
            if told["msg_type"] == "execute_reply":
                return error
    raise AssertionError("the kernel hung up")


async def both(hub: Running) -> list[list[str]]:
    return await asyncio.gather(*(run_lab(hub, student) for student in STUDENTS))


def test_two_students_run_lab_01_in_servers_of_their_own(tmp_path: Path) -> None:
    repo = repository(tmp_path)
    with class_server(tmp_path / "class") as school, running_hub(tmp_path) as hub:
        for student in STUDENTS:
            httpx.post(f"{hub.url}/hub/api/users/{student}", headers=hub.headers, timeout=60)
            started = httpx.post(f"{hub.url}/hub/api/users/{student}/server", headers=hub.headers, timeout=60)
            assert started.status_code in (201, 202), started.text
        for student in STUDENTS:
            wait_until(f"{hub.url}/user/{student}/api/status", hub.headers)
            fetch_labs(hub, student, repo)
        join(hub, school.url)
        assert asyncio.run(both(hub)) == [[], []]
        told = {row["name"]: row for row in school.summary()["students"]}
        stranger = httpx.get(f"{hub.url}/user/anna/api/status", timeout=60)
        assert stranger.status_code in (302, 403)
    assert set(told) == set(STUDENTS)
    assert {row["lab"] for row in told.values()} == {"01"}
    for student in STUDENTS:
        assert (hub.homes / student / "course" / "labs" / LAB).is_file()


def join(hub: Running, url: str) -> None:
    """Let both students opt in, as they would in a terminal of theirs."""
    for student in STUDENTS:
        home = {"HOME": str(hub.homes / student), "PYTHONPATH": str(ROOT)}
        settings = {k: v for k, v in os.environ.items() if k != "LABKIT_HOME" and not k.startswith("XDG")}
        command = [sys.executable, "-m", "labkit", "classroom", "join", url, "--name", student]
        subprocess.run(command, env=settings | home, check=True, stdout=subprocess.DEVNULL)
