"""`labkit deploy`: render files for a platform, check a service, run an edge deployment on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labkit.errors import EngineFailed, EngineUnavailable, LabkitError, OptionInvalid

if TYPE_CHECKING:
    from labkit.deploy.cluster import Cluster

deploy = typer.Typer(help="Bring a gateway or edge agents to where they run.", no_args_is_help=True)


@deploy.command()
def render(
    kind: Annotated[
        list[str] | None, typer.Argument(help="docker, compose, kubernetes, …; all without.")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="A TOML file with settings.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("deploy"),
) -> None:
    """Write the files of a deployment, and say which validator reads which."""
    from labkit.deploy import render as maker
    from labkit.deploy.settings import Deployment
    from labkit.deploy.validators import kind_of

    files = maker.render(Deployment.read(settings), tuple(kind or ()))
    for path in maker.write(files, out):
        print(f"{path}  {kind_of(path)}".rstrip())


@deploy.command("settings")
def show_settings(
    settings: Annotated[
        Path | None, typer.Option(help="A TOML file to lay over them.", show_default=False)
    ] = None,
) -> None:
    """Print all settings with their values, as TOML."""
    import json
    from dataclasses import asdict

    from labkit.deploy.settings import Deployment

    for name, value in asdict(Deployment.read(settings)).items():
        print(f"{name} = {json.dumps(value)}")


@deploy.command()
def validate(
    folder: Annotated[Path, typer.Argument(help="A folder of rendered files.")] = Path("deploy"),
) -> None:
    """Let each file's own tool read it; exit code 1 if one is wrong."""
    from labkit.deploy.validators import kind_of
    from labkit.deploy.validators import validate as ask

    wrong = 0
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and kind_of(path)):
        try:
            said = ask(kind_of(file), file)
        except EngineUnavailable as error:
            print(f"not checked {file}  {error.what}: {error.fix}")
            continue
        wrong += bool(said)
        print(f"{'fail' if said else 'pass':11} {file}  {said}".rstrip())
    raise typer.Exit(1 if wrong else 0)


@deploy.command()
def check(
    url: Annotated[str, typer.Argument(help="The address of a running gateway.")] = "http://127.0.0.1:8000",
    model: Annotated[str, typer.Option(help="The model to ask.")] = "nano",
    state: Annotated[Path | None, typer.Option(help="Its state folder.", show_default=False)] = None,
    backup: Annotated[Path | None, typer.Option(help="Its newest backup.", show_default=False)] = None,
    pid: Annotated[int, typer.Option(help="Its process; with --stop the shutdown is tried.")] = 0,
    burst: Annotated[int, typer.Option(min=0, help="Requests to send, to reach the limit.")] = 0,
    forbidden: Annotated[str, typer.Option(help="A text that it must refuse.", show_default=False)] = "",
    stop: Annotated[bool, typer.Option("--stop", help="End the service, to see how it ends.")] = False,
    cacert: Annotated[
        Path | None, typer.Option(help="The authority of its certificate.", show_default=False)
    ] = None,
) -> None:
    """Go through the production checklist. Keys come from LABKIT_KEY and LABKIT_ADMIN_KEY; exit code 1 on a failure."""
    from labkit.deploy.checklist import Service, go_through

    keys = os.environ.get("LABKIT_KEY", ""), os.environ.get("LABKIT_ADMIN_KEY", "")
    trust = str(cacert) if cacert else True
    found = go_through(
        Service(url.rstrip("/"), *keys, model, state, backup, pid, stop, burst, forbidden, trust)
    )
    for finding in found:
        print(finding)
    raise typer.Exit(1 if any(finding.verdict == "fail" for finding in found) else 0)


@deploy.command()
def up(
    file: Annotated[Path, typer.Argument(help="A single-device or distributed-edge YAML file.")],
    state: Annotated[Path | None, typer.Option(help="Go on with this state.", show_default=False)] = None,
    namespaces: Annotated[
        bool, typer.Option("--namespaces", help="A network of its own for each node (Linux, root).")
    ] = False,
) -> None:
    """Run an edge deployment on this machine, a process for each node, until Ctrl-C or SIGTERM.

    Type `cut NODE` to take a node's cable out, `mend NODE` to put it back.
    """
    import signal
    import threading

    from labkit.deploy.cluster import Cluster

    if not file.is_file():
        raise OptionInvalid(f"there is no file {file}", fix="labkit deploy render edge")
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with Cluster(file, state, namespaces) as cluster:
        for node in cluster.spec.nodes:
            agents = ", ".join(agent.name for agent in node.agents)
            print(f"{node.id:12} {cluster.url(node.id)}  {agents}", flush=True)
        print(f"{cluster.network}; state: {cluster.state}; Ctrl-C ends it", file=sys.stderr, flush=True)
        threading.Thread(target=_obey, args=(cluster,), daemon=True).start()
        while not ended.wait(1.0):
            gone = [id for id, process in cluster.processes.items() if process.ended()]
            if gone:
                raise EngineFailed(f"node {gone[0]} has ended", fix="labkit deploy up again with --state")


def _obey(cluster: Cluster) -> None:
    """Cut and mend as the lines of standard input say, until it ends."""
    for line in sys.stdin:
        word, _, node = line.strip().partition(" ")
        try:
            if word not in ("cut", "mend"):
                raise OptionInvalid(f"{word!r:.40} is no command", fix="cut NODE or mend NODE")
            (cluster.cut if word == "cut" else cluster.mend)(node)
            print(f"{node}: {word}", flush=True)
        except LabkitError as error:
            print(error, file=sys.stderr, flush=True)
