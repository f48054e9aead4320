"""Schemathesis sends what the OpenAPI description allows and what it does not, and finds nothing wrong.

LABKIT_LONG=1 takes 100 examples a rule instead of 5.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from running_gateway import Running, running

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("schemathesis") is None,
    reason="schemathesis is not installed: pip install 'labkit[dev]'",
)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway that can do all that the description offers; its answers are short."""
    backend = "box=llamaserver;model=nano;threads=1;embeddings=true;tasks=chat+tools+json+embed"
    with running(tmp_path_factory.mktemp("spec"), backend, requests_per_minute=0, max_tokens=8) as found:
        yield found


def findings(gateway: Running, folder: Path, examples: int) -> str:
    """Return what schemathesis says, nothing where it has no objection."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/openapi.json", "--no-color"]
    told = ["-n", str(examples), "--seed", "1", "--generation-database", "none", "--max-failures", "20"]
    told += ["--request-timeout", "60"]  # 256 texts to embed take a while on a busy machine
    done = subprocess.run([*command, *told], cwd=folder, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_schemathesis_finds_nothing(box: Running, tmp_path: Path) -> None:
    said = findings(box, tmp_path, examples=100 if os.environ.get("LABKIT_LONG") else 5)
    assert not said, said
