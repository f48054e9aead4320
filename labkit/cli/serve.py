"""`labkit serve`: share models over HTTP: the gateway for a class, or Ollama's API for programs on this machine."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labkit.cli.top import top
from labkit.errors import EngineUnavailable, OptionInvalid

if TYPE_CHECKING:
    from labkit.serving.settings import Settings

LOOPBACK = ("127.0.0.1", "localhost")
MAX_REQUESTS = 64
State = Annotated[str, typer.Option(help="Folder of keys, quotas, cache and audit log.", show_default=False)]

serve = typer.Typer(help="Share models over HTTP.", invoke_without_command=True)
keys = typer.Typer(help="Make, list and revoke the keys of users.", no_args_is_help=True)
serve.add_typer(keys, name="keys")
serve.command()(top)


@serve.callback()
def run(
    context: typer.Context,
    api: Annotated[str, typer.Option(help="openai: the gateway; ollama: Ollama's API alone.")] = "openai",
    model: Annotated[str, typer.Option(help="A model, or a .gguf file.")] = "nano",
    engine: Annotated[str, typer.Option(help="auto: llamaserver, else llamacpp.")] = "auto",
    host: Annotated[str | None, typer.Option(help="This machine's own address, unless told.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="8000, or Ollama's own.")] = None,
    tokens: Annotated[int, typer.Option("--context", min=0, help="Tokens; 0: the engine's choice.")] = 2048,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the engine.")] = None,
    profile: Annotated[str, typer.Option(help="dev, staging or prod.", show_default=False)] = "",
    backend: Annotated[list[str] | None, typer.Option(help="NAME=ENGINE_OR_URL;model=nano;…")] = None,
    state: State = "",
    tls_cert: Annotated[str, typer.Option(help="A certificate's file, as PEM.")] = "",
    tls_key: Annotated[str, typer.Option(help="Its key's file.")] = "",
) -> None:
    """Serve until Ctrl-C. Everything else is set by LABKIT_SERVE_… variables (labkit/serving/settings.py)."""
    if context.invoked_subcommand:
        return
    options: dict[str, Any] = {k: n for k, n in (("context", tokens), ("threads", threads)) if n}
    if api == "ollama":
        return _ollama(model, engine, host or LOOPBACK[0], port or 11434, options)
    if api != "openai":
        raise OptionInvalid.of("--api", api, "--api openai, or --api ollama")
    told = {"host": host, "port": port, "state": state, "tls_cert": tls_cert, "tls_key": tls_key}
    _gateway(profile, {k: v for k, v in told.items() if v}, backend, (model, engine, options))


def _gateway(
    profile: str, told: dict[str, Any], backends: list[str] | None, one: tuple[str, str, dict[str, Any]]
) -> None:
    _need_serve()
    import os

    from labkit.engines.ports import require_free
    from labkit.engines.registry import engine_class
    from labkit.serving.settings import PREFIX, Backend, Settings

    model, engine, options = one
    if backends:
        told["backends"] = tuple(map(Backend.parse, backends))
    elif not os.environ.get(f"{PREFIX}BACKENDS"):
        if engine != "auto":
            engine_class(engine)
        options = options if engine in ("auto", "llamaserver", "llamacpp") else {}
        told["backends"] = (Backend("main", engine, model, options=options),)
    settings = Settings.read(profile, **told)
    require_free(settings.port)
    from labkit.serving.app import Server

    server = Server(settings)
    where = f"{'https' if settings.tls_cert else 'http'}://{settings.host}:{settings.port}"
    print(f"The gateway ({settings.profile}) is at {where}/v1; Ctrl-C ends it.", file=sys.stderr)
    if settings.host not in LOOPBACK and not settings.tls_cert:
        print("Keys travel in the clear: give it --tls-cert and --tls-key.", file=sys.stderr)
    server.run()


def _ollama(model: str, engine: str, host: str, port: int, options: dict[str, Any]) -> None:
    if host not in LOOPBACK:
        raise OptionInvalid(f"{host!r:.80} is open to others, and there are no keys here", fix="--api openai")
    _need_serve()
    import uvicorn

    from labkit.engines.ports import require_free
    from labkit.engines.registry import choose, engine_class
    from labkit.serving.ollama_api import create_app
    from labkit.serving.ollama_models import Models

    require_free(port)
    if engine == "auto":
        engine = "llamaserver" if engine_class("llamaserver").available().installed else choose()[0]
    models = Models(model, engine, options)
    print(f"Ollama's API at http://{host}:{port}, by {models.kind.name}; Ctrl-C ends it.", file=sys.stderr)
    app = create_app(models)
    uvicorn.run(app, host=host, port=port, log_level="warning", limit_concurrency=MAX_REQUESTS)


def _need_serve() -> None:
    for name in ("fastapi", "httptools", "prometheus_client", "uvicorn"):  # not imported: that takes long
        if find_spec(name) is None:
            raise EngineUnavailable(f"{name} is not installed", fix="pip install 'labkit[serve]'")


def _settings(state: str) -> Settings:
    from labkit.serving.settings import Settings

    return Settings.read(state=state) if state else Settings.read()


@keys.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    role: Annotated[str, typer.Option(help="student, batch, instructor or admin.")] = "student",
    tokens: Annotated[int, typer.Option(min=0, help="Tokens a day; 0: what the settings say.")] = 0,
    requests: Annotated[int, typer.Option(min=0, help="Requests a minute; 0: as set.")] = 0,
    state: State = "",
) -> None:
    """Make a key and print it, this once. A gateway that runs knows it within a second."""
    from labkit.serving.keys import Keys

    user, key = Keys(_settings(state).folder / "keys.sqlite").add(name, role, tokens, requests)
    print(f"{user.id} {user.role} {user.name}", file=sys.stderr)
    print(key)


@keys.command("list")
def list_keys(state: State = "") -> None:
    """List whose keys are valid; the keys themselves are not kept."""
    from labkit.serving.keys import Keys

    for user in Keys(_settings(state).folder / "keys.sqlite").list():
        limits = (
            f"{user.tokens_per_day or 'usual'} tokens/day, {user.requests_per_minute or 'usual'} requests/min"
        )
        print(f"{user.id}  {user.role:10}  {user.name:30}  {limits}")


@keys.command("revoke")
def revoke_key(id: Annotated[str, typer.Argument(help="The id in the list.")], state: State = "") -> None:
    """End a key. A gateway that runs refuses it within a second."""
    from labkit.serving.keys import Keys

    Keys(_settings(state).folder / "keys.sqlite").revoke(id)


@serve.command()
def backup(file: Path, state: State = "") -> None:
    """Write keys, quotas and audit log into one file, also while the gateway runs."""
    from labkit.serving.backup import back_up

    print(back_up(_settings(state).folder, file))


@serve.command()
def restore(file: Path, state: State = "") -> None:
    """Put back what a backup holds; the gateway must not run."""
    from labkit.serving.backup import restore as put_back

    print(put_back(file, _settings(state).folder))
