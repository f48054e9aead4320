"""`labkit classroom`: follow a class, check its machines, and make what an instructor brings."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from labkit.errors import EngineUnavailable, OptionInvalid

classroom = typer.Typer(
    help="Run a workshop: follow a class, check machines, make what you bring.", no_args_is_help=True
)


@classroom.command()
def serve(
    host: Annotated[
        str, typer.Option(help="An address of this machine; others need LABKIT_CLASS_KEY.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where students report.")] = 8010,
    state: Annotated[Path | None, typer.Option(help="Go on with this folder.", show_default=False)] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="A certificate's file, as PEM.", show_default=False)
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key's file.", show_default=False)] = None,
) -> None:
    """Collect what students report, and show the class on a page, until Ctrl-C."""
    try:
        import uvicorn

        from labkit.classroom.server import Doors, create_app
    except ImportError as exc:
        raise EngineUnavailable(
            f"{exc.name} is not installed", fix="pip install 'labkit[classroom]'"
        ) from exc
    from labkit.classroom.board import Board
    from labkit.engines.ports import require_free
    from labkit.models.store import home
    from labkit.serving.settings import LOOPBACK

    told = {"token": os.environ.get("LABKIT_INSTRUCTOR_KEY", "")}
    doors = Doors(host, port, os.environ.get("LABKIT_CLASS_KEY", ""), **{k: v for k, v in told.items() if v})
    require_free(port)
    if bool(tls_cert) != bool(tls_key):
        raise OptionInvalid("a certificate and its key go together", fix="--tls-cert FILE --tls-key FILE")
    board = Board((state or home() / "classroom") / "class.sqlite")
    where = f"{'https' if tls_cert else 'http'}://{_address(host)}:{port}"
    print(f"Students type: labkit classroom join {where}")
    print(f"The class is at {where}/?token={doors.token}", flush=True)
    if host not in LOOPBACK and not tls_cert:
        print("Keys travel in the clear: give it --tls-cert and --tls-key.", file=sys.stderr)
    tls: dict[str, Any] = {"ssl_certfile": tls_cert, "ssl_keyfile": tls_key}
    app = create_app(board, doors)
    uvicorn.run(app, host=host, port=port, log_level="warning", server_header=False, **tls)


def _address(host: str) -> str:
    """Return what others type to reach this machine."""
    if host != "0.0.0.0":
        return f"[{host}]" if ":" in host else host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only settles which address would be used
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])


@classroom.command()
def join(
    url: Annotated[str, typer.Argument(help="As your instructor says.", envvar="LABKIT_CLASS_URL")],
    name: Annotated[str, typer.Option(help="A pseudonym; one is made up without.")] = "",
) -> None:
    """Report your progress to a class from now on: results of checks under a pseudonym, no code and no answers."""
    from labkit.checks.report import Reporter

    reporter = Reporter()
    member = reporter.join(url, name, os.environ.get("LABKIT_CLASS_KEY", ""))
    print(f"You are {member.name!r} at {member.url}.")
    print("Sent: lab, exercise, right or wrong, hints and solutions shown, and when. Nothing that you write.")
    print("labkit classroom leave ends it.")
    try:
        reporter.send()
    except EngineUnavailable as error:
        print(f"{error.what}. What you do is kept here and sent later.", file=sys.stderr)


@classroom.command()
def leave() -> None:
    """Report nothing any more; what was sent stays with the class, your own record with you."""
    from labkit.checks.report import Reporter

    print("You have left the class." if Reporter().leave() else "You were in no class.")


@classroom.command()
def progress(
    send: Annotated[bool, typer.Option("--send", help="Send now what waits for the network.")] = False,
) -> None:
    """Show your own record on this machine, and whether a class hears of it."""
    from labkit.checks.report import Reporter
    from labkit.classroom.board import Student

    reporter = Reporter()
    you = Student("", 0.0)
    you.follow(reporter.journal.read()[0])
    for lab in sorted(you.seconds):
        right = ", ".join(sorted(name for found, name in you.right if found == lab)) or "none"
        print(f"{lab:<10} {you.seconds[lab] / 60:5.0f} min   solved: {right}")
    member = reporter.membership
    print(f"{reporter.journal.path}" if you.seconds else "no exercise was checked on this machine yet")
    if member:
        sent = f", {reporter.send()} sent now" if send else ""
        print(f"reported to {member.url} as {member.name!r}{sent}; {reporter.unsent()} events wait")
    else:
        print("reported to nobody")


@classroom.command()
def hub(
    folder: Annotated[Path, typer.Argument(help="Where to write.")] = Path("hub"),
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE, as in students=40.", show_default=False)
    ] = None,
) -> None:
    """Write a JupyterHub's files for this class (TLJH, and Zero to JupyterHub), and print the students' link."""
    from labkit.classroom.hub import read, render
    from labkit.deploy.render import write

    told = read(settings or [])
    for path in write(render(told), folder):
        print(path)
    print(told.link)


@classroom.command()
def preflight(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for --collect.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Let no engine generate a token.")] = False,
    class_url: Annotated[
        str, typer.Option(help="See whether the class answers.", envvar="LABKIT_CLASS_URL")
    ] = "",
    gather: Annotated[
        Path | None, typer.Option("--collect", help="A folder of students' JSON files.", show_default=False)
    ] = None,
) -> None:
    """Check this machine or hub before the day, or read what many have found; exit code 1 if something fails."""
    import json
    import platform
    from contextlib import redirect_stdout

    from labkit.classroom import preflight as look

    if gather:
        results = look.collect(gather)
        print(look.table(results))
        raise typer.Exit(0 if results and all(one.ok for one in results) else 1)
    with redirect_stdout(sys.stderr):  # what an engine says while it loads is no part of the table
        result = look.Result(platform.node(), tuple(look.preflight(class_url, deep=not quick)))
    if as_json:
        print(json.dumps(result.json(), indent=1))
    else:
        print(*result.checks, sep="\n")
        print("Ready." if result.ok else "Not ready: mend what is marked FAIL.")
    raise typer.Exit(0 if result.ok else 1)


@classroom.command()
def bundle(
    folder: Annotated[Path, typer.Argument(help="A new folder, as on a USB stick.")],
    extras: Annotated[
        str, typer.Option(help="What to install besides labkit.")
    ] = "widgets,llamacpp,llamaserver,agents,rag,ollama,serve",
    model: Annotated[list[str] | None, typer.Option(help="A model that was pulled here, too.")] = None,
    solutions: Annotated[bool, typer.Option("--solutions", help="Take the solved labs along.")] = False,
    wheel: Annotated[list[Path] | None, typer.Option(help="A wheel of your own to take as it is.")] = None,
) -> None:
    """Collect wheels, labs, data sets and models, with a script that installs them where there is no network."""
    import labkit
    from labkit.classroom.bundle import bundle as make

    root = Path(labkit.__file__).resolve().parents[1]
    print(make(root, folder, extras, tuple(model or ()), solutions, tuple(wheel or ())))
    print(f"On a student's machine: python3 {folder / 'install.py'}")


@classroom.command()
def pack(
    folder: Annotated[Path, typer.Argument(help="Where to write.")] = Path("instructor"),
    times: Annotated[Path, typer.Option(help="Seconds that `make notebooks` measured.")] = Path(
        "build/lab_times.jsonl"
    ),
    reveal: Annotated[
        str, typer.Option(help="Where the slides find reveal.js: an address or a folder.", show_default=False)
    ] = "",
) -> None:
    """Write what an instructor reads before the day: overview, routes, a page and slides for each lab."""
    from labkit.classroom import pack as maker
    from labkit.classroom.runner import labs_folder
    from labkit.classroom.timing import read

    measured = read(times)
    for path in maker.write(folder, maker.labs(labs_folder()), measured, reveal):
        print(path)
    if not measured:
        print(f"There is no {times}, so no seconds are in it: make notebooks", file=sys.stderr)
