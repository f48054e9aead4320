"""Start JupyterLab, Notebook or Voilà on a folder, and drive it in Chromium (Debian: `apt install chromium`).

Screenshots are left in `.screenshots/`, which git ignores.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[2]
TOKEN = "labkit-test"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false"},
    "notebook-extension/tracker": {"windowingMode": "none"},  # else what is out of sight is not in the page
}
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


@contextmanager
def serving(folder: Path, app: str = "jupyterlab", **settings: str) -> Iterator[str]:
    """Start "jupyterlab", "notebook" or "voila" on a folder, with settings of its own; yield its address."""
    places = {kind: folder / f".{kind}" for kind in ("config", "settings", "workspaces")}
    for name, values in SETTINGS.items():
        file = places["settings"] / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--expose-app-in-browser", "--allow-root", f"--ServerApp.root_dir={folder}"]
    if app == "voila":
        options = [str(folder)]
    command = [sys.executable, "-m", app, "--no-browser", f"--port={port}", *options]
    environment = {
        "JUPYTER_CONFIG_DIR": str(places["config"]),
        "JUPYTERLAB_SETTINGS_DIR": str(places["settings"]),
        "JUPYTERLAB_WORKSPACES_DIR": str(places["workspaces"]),
        "JUPYTER_TOKEN": TOKEN,
        **settings,
    }
    with (folder / "jupyter.log").open("w") as log:
        server = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log)
        try:
            yield wait_for(f"http://127.0.0.1:{port}", server)
        finally:
            server.terminate()
            server.wait(20)


def wait_for(url: str, server: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and server.poll() is None:
        try:
            httpx.get(url, headers={"Authorization": f"token {TOKEN}"}, timeout=30)
            return url
        except httpx.HTTPError:
            time.sleep(0.2)
    raise AssertionError(f"{server.args} did not come up")


@contextmanager
def browser_page(height: int = 1600) -> Iterator[Page]:
    if CHROMIUM is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no Chromium: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser.new_page(viewport={"width": 1280, "height": height}, reduced_motion="reduce")
        browser.close()


def require(app: str) -> None:
    """Skip where an application is not installed; in CI that is a failure."""
    if find_spec(app) is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"not installed: pip install {app}")


def run_notebook(page: Page, timeout_s: float = 180) -> None:
    """Run all cells of the notebook that is open in JupyterLab or Notebook; fail on a cell's error."""
    page.wait_for_function(READY, timeout=180_000)
    page.evaluate(RUN_ALL)
    page.wait_for_function(ENDED, timeout=timeout_s * 1e3)
    page.wait_for_function(READY, timeout=180_000)
    cells = page.evaluate(CODE_CELLS)
    assert [e["ename"] + ": " + e["evalue"] for c in cells for e in c["errors"]] == []
    assert all(cell["count"] for cell in cells)


def shoot(page: Page, name: str) -> None:
    """Keep a screenshot."""
    shots = ROOT / ".screenshots"
    shots.mkdir(exist_ok=True)
    page.screenshot(path=shots / f"{name}.png")
