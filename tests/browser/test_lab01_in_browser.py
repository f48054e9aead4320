"""A student's first minutes: lab 01 in a real JupyterLab, in a real browser.

Screenshots are left in `.screenshots/`. Needs Chromium (Debian: `apt install chromium`).
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, sync_playwright

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]
LAB = "01_meet_your_machine.ipynb"
TOKEN = "labkit-test"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# JupyterLab reports a kernel as idle before it can take a command; the session context knows better.
READY = """() => {
  const context = window.jupyterapp?.shell.currentWidget?.sessionContext
  return context?.isReady && context.session?.kernel?.status === 'idle'
}"""
# Not awaited: the command's promise would wait for any dialog that pops up.
RUN_ALL = "() => { jupyterapp.commands.execute('notebook:run-all-cells'); return 1 }"
CODE_CELLS = """() => [...(jupyterapp.shell.currentWidget.content.model.cells ?? [])]
  .filter(cell => cell.type === 'code')
  .map(cell => ({
    count: cell.executionCount,
    errors: cell.outputs.toJSON().filter(output => output.output_type === 'error'),
  }))"""
# A failed cell ends the run: those below it never get a count.
ENDED = f"""() => {{
  const cells = ({CODE_CELLS})()
  return cells.length && (cells.every(c => c.count) || cells.some(c => c.errors.length))
}}"""


@pytest.fixture
def jupyter(tmp_path: Path) -> Iterator[str]:
    """Start JupyterLab on a copy of the labs, with settings of its own; yield its address."""
    shutil.copytree(ROOT / "labs", tmp_path / "labs")
    for kind in ("config", "settings", "workspaces"):
        (tmp_path / kind).mkdir()
    news = tmp_path / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text(json.dumps({"fetchNews": "false"}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", f"--port={port}"]
    options = [
        f"--IdentityProvider.token={TOKEN}",
        "--expose-app-in-browser",
        f"--ServerApp.root_dir={tmp_path}",
    ]
    settings = {
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces"),
    }
    with (tmp_path / "jupyter.log").open("w") as log:
        server = subprocess.Popen([*command, *options], env=os.environ | settings, stdout=log, stderr=log)
        try:
            yield wait_for(f"http://127.0.0.1:{port}", server)
        finally:
            server.terminate()
            server.wait(20)


def wait_for(url: str, server: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            httpx.get(f"{url}/api", headers={"Authorization": f"token {TOKEN}"}).raise_for_status()
            return url
        except httpx.HTTPError:
            time.sleep(0.2)
    raise AssertionError("JupyterLab did not come up")


@pytest.fixture
def page() -> Iterator[Page]:
    if CHROMIUM is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no Chromium: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser.new_page(viewport={"width": 1280, "height": 1600})
        browser.close()


def test_lab_01_runs_from_top_to_bottom(jupyter: str, page: Page) -> None:
    page.goto(f"{jupyter}/lab/tree/labs/{LAB}?token={TOKEN}&reset")
    page.wait_for_function(READY, timeout=60_000)
    page.evaluate(RUN_ALL)
    page.wait_for_function(ENDED, timeout=180_000)
    page.wait_for_function(READY, timeout=60_000)
    shots = ROOT / ".screenshots"
    shots.mkdir(exist_ok=True)
    page.screenshot(path=shots / "lab01.png")
    errors = [e["ename"] + ": " + e["evalue"] for c in page.evaluate(CODE_CELLS) for e in c["errors"]]
    assert errors == []
    assert all(cell["count"] for cell in page.evaluate(CODE_CELLS))
    assert page.locator(".jp-Dialog").count() == 0
