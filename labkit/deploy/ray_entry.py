"""The gateway as an application that `serve run` and a RayService import: `labkit.deploy.ray_entry:app`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ray import serve


def build() -> Any:
    """Return the gateway's application, made from LABKIT_SERVE_… variables inside the replica."""
    settings = import_module("labkit.serving.settings").Settings.read()
    return import_module("labkit.serving.app").create_app(settings)


app = serve.deployment(name="gateway", max_ongoing_requests=80)(serve.ingress(build)()).bind()
