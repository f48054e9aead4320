"""Fixtures of a running gateway (running_gateway.py)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from running_gateway import Running, running

if not all(map(importlib.util.find_spec, ("fastapi", "uvicorn", "prometheus_client"))):
    collect_ignore_glob = ["test_*.py"]  # needs the extra serve: pip install 'labkit[serve]'


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start gateways that end with the test: `start("a=echo", keys=True)`."""
    with ExitStack() as stack:

        def begin(*backends: str, **changes: Any) -> Running:
            state = changes.pop("state", None) or tmp_path / "state"
            return stack.enter_context(running(state, *backends, **changes))

        yield begin


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One gateway for a module: the echo engine under the model name nano, no keys."""
    with running(tmp_path_factory.mktemp("gateway"), "echo=echo", requests_per_minute=0) as found:
        yield found
