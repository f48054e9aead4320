"""`labkit start`, which is the last step of `make lab`, gives an address within ten seconds."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]
LIMIT_S = 10


def test_start_prints_an_address_that_answers() -> None:
    command = [Path(sys.executable).parent / "labkit", "start"]
    settings = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")}
    began = time.monotonic()
    server = subprocess.Popen(
        command, cwd=ROOT, env=settings, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        assert server.stdout
        lines = (re.search(r"http://\S+", line) for line in server.stdout)
        address = next(filter(None, lines))[0]
        took = time.monotonic() - began
        page = httpx.get(address, follow_redirects=True)
    finally:
        server.terminate()
        server.communicate(timeout=20)
    assert page.status_code == 200 and "JupyterLab" in page.text
    assert took < LIMIT_S, f"{took:.1f} s"
