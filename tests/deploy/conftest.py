"""What the tests of deployments share."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_stand_in import Upstream

NPM = Path(__file__).parents[2] / "build" / "npm"
PACKAGES = ("wrangler@4.40.0", "dockerfile-utils@0.16.3", "@vercel/routing-utils@6.6.0")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def npm(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return npm's folder with its tools in it: wrangler (and workerd), a reader of Dockerfiles, Vercel's."""
    modules = NPM / "node_modules"
    if not (modules / ".bin" / "wrangler").exists():
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(NPM), *PACKAGES]
        subprocess.run(command, check=True, timeout=600)
    monkeypatch.setenv("PATH", f"{modules / '.bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("NODE_PATH", str(modules))
    return modules
