"""`labkit serve`: share a model over HTTP with programs on this machine."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

LOOPBACK = ("127.0.0.1", "localhost")
MAX_REQUESTS = 64


def serve(
    api: Annotated[str, typer.Option(help="Which API to speak: ollama.")] = "ollama",
    model: Annotated[
        str, typer.Option(help="A model to offer beside nano and pico, or a .gguf file.")
    ] = "nano",
    engine: Annotated[str, typer.Option(help="auto: llamaserver, else llamacpp.")] = "auto",
    host: Annotated[str, typer.Option(help="This machine's own address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Ollama's own, unless told.")] = 11434,
    context: Annotated[int, typer.Option(min=0, help="Tokens; 0 is the engine's own choice.")] = 2048,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the engine.")] = None,
) -> None:
    """Answer as an Ollama daemon would, on a labkit engine, until Ctrl-C."""
    from labkit.errors import EngineUnavailable, OptionInvalid

    if api != "ollama":
        raise OptionInvalid(f"--api cannot be {api!r:.40}", fix="--api ollama")
    if host not in LOOPBACK:
        raise OptionInvalid(
            f"{host!r:.80} is open to others, and there are no keys yet", fix="--host 127.0.0.1"
        )
    try:
        import uvicorn

        from labkit.serving.ollama_api import create_app
    except ImportError as exc:
        raise EngineUnavailable(f"{exc.name} is not installed", fix="pip install 'labkit[serve]'") from exc
    from labkit.engines.ports import look
    from labkit.serving.ollama_models import Models

    if (taken := look(port)).taken:
        raise EngineUnavailable(f"port {port} is {taken}", fix=f"--port {port % 65535 + 1}")
    options: dict[str, Any] = {name: n for name, n in (("context", context), ("threads", threads)) if n}
    models = Models(model, _engine() if engine == "auto" else engine, options)
    print(f"Ollama's API at http://{host}:{port}, by {models.kind.name}; Ctrl-C ends it.", file=sys.stderr)
    app = create_app(models)
    uvicorn.run(app, host=host, port=port, log_level="warning", limit_concurrency=MAX_REQUESTS)


def _engine() -> str:
    """Choose the engine that serves many at once, if it is installed."""
    from labkit.engines.registry import choose, engine_class

    return "llamaserver" if engine_class("llamaserver").available().installed else choose()[0]
