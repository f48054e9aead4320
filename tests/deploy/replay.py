"""Do what a Dockerfile says without Docker: each stage is a folder, each RUN a command that has it for its root.

The base image is this machine's own userland (`/usr`, read-only, and a copy of `/etc`), with the Python that runs the
tests where an image has it: `/usr/local`. All else of a stage is empty at first. RUN has the network, what is started
at the end has a network of its own, without a way out. It needs root, and Linux.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from docker.utils.build import exclude_paths

PLACES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Mounts of its own for each command, gone with it. /usr/local gets this Python, wherever it lies on this machine.
ENTER = """
mount --make-rprivate /
mount --bind /usr "$ROOT/usr" && mount -o remount,bind,ro "$ROOT/usr"
[ "$PYTHON" = /usr ] || mount --bind "$PYTHON" "$ROOT/usr/local"
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
for place in $LOCAL; do mkdir -p "$ROOT$place" && mount --bind "$place" "$ROOT$place"; done
ip link set lo up 2>/dev/null || true
exec chroot --userspec="$USERSPEC" "$ROOT" /bin/sh -c 'cd "$0" && exec "$@"' "$WORKDIR" "$@"
"""
FLAG = re.compile(r"--(\w[\w-]*)=(\S+)\s*")


@dataclass
class Stage:
    """Hold one stage: its folder, and what its instructions have set."""

    root: Path
    env: dict[str, str] = field(default_factory=lambda: {"PATH": PLACES})
    args: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    workdir: str = "/"
    health: list[str] = field(default_factory=list)
    entry: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def enter(self, command: list[str], *, alone: bool = False, inside: int = 0) -> list[str]:
        """Return the command that runs this one in the stage; `alone` without a network, or `inside` a process' own."""
        told = {"ROOT": str(self.root), "USERSPEC": self.user, "WORKDIR": self.workdir, "LOCAL": local()}
        told["PYTHON"] = sys.base_prefix
        # Two environments: that of the mounts, and that of the stage, which begins at nothing.
        clean = ["env", "-i", *(f"{name}={value}" for name, value in (self.env | self.args).items())]
        way = ["nsenter", f"--net=/proc/{inside}/ns/net"] if inside else []
        words = ["env", *(f"{name}={value}" for name, value in told.items()), *way, "unshare", "--mount"]
        return [*words, *["--net"] * alone, "sh", "-ec", ENTER, "enter", *clean, *command]


def local() -> str:
    """Return folders outside of /usr that a command needs: this Python's, and an index or wheels on this disk."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True
    ).stdout
    found = {re.sub("/simple/?$", "", path) for path in re.findall(r"(?:file://|['\s])(/[\w./-]+)", told)}
    found.add(sys.base_prefix)  # where this Python looks for its own libraries
    return " ".join(
        sorted(path for path in found if Path(path).is_dir() and not path.startswith(("/usr", "/etc")))
    )


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions and what stands behind them; comments and continued lines are read as Docker does."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [
        (word.upper(), rest.strip())
        for word, _, rest in (
            line.strip().partition(" ") for line in re.sub(r"\\\n", " ", lines).splitlines()
        )
        if word
    ]


def replay(dockerfile: Path, context: Path, folder: Path) -> Stage:
    """Do all instructions; return the last stage. Raises `CalledProcessError` with what a command that failed said."""
    stages: dict[str, Stage] = {}
    stage = Stage(folder)
    ignored = dockerfile.with_name("Dockerfile.dockerignore").read_text("utf-8").splitlines()
    sent = exclude_paths(str(context), [line for line in ignored if line and line[0] != "#"])
    for word, rest in instructions(dockerfile.read_text("utf-8")):
        if word == "FROM":
            name = rest.partition(" AS ")[2] or str(len(stages))
            stage = stages[name] = Stage(made(folder / name))
        else:
            follow(stage, word, rest, stages, context, sent)
    return stage


def made(root: Path) -> Path:
    """Make the root of a base image."""
    for name in ("usr", "proc", "dev", "tmp", "root"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    shutil.copytree("/etc", root / "etc", symlinks=True)
    return root


def follow(
    stage: Stage, word: str, rest: str, stages: dict[str, Stage], context: Path, sent: set[str]
) -> None:
    """Follow one instruction; one that is not known here is an error."""
    if word in ("ENV", "ARG"):
        pairs = dict(pair.split("=", 1) for pair in shlex.split(rest))
        known = stage.env | stage.args
        told = {k: re.sub(r"\$\{?(\w+)\}?", lambda m: known.get(m[1], ""), v) for k, v in pairs.items()}
        (stage.env if word == "ENV" else stage.args).update(told)
    elif word == "RUN":
        told = [
            f"{k}={v}" for k, v in os.environ.items() if k.startswith("PIP_") or k.lower().endswith("_proxy")
        ]
        command = stage.enter(["env", *told, *(f"{k}={v}" for k, v in stage.env.items()), "sh", "-ec", rest])
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, rest, done.stdout, done.stderr)
    elif word == "COPY":
        copy(stage, rest, stages, context, sent)
    elif word == "HEALTHCHECK":
        stage.health = json.loads(FLAG.sub("", rest).partition("CMD ")[2])
    elif word in ("ENTRYPOINT", "CMD"):
        setattr(stage, "entry" if word == "ENTRYPOINT" else "command", json.loads(rest))
    elif word == "USER":
        stage.user = rest
    elif word == "WORKDIR":
        stage.workdir = rest
        (stage.root / rest[1:]).mkdir(parents=True, exist_ok=True)
    elif word not in ("VOLUME", "EXPOSE", "STOPSIGNAL"):
        raise ValueError(f"{word} is not known here")


def copy(stage: Stage, rest: str, stages: dict[str, Stage], context: Path, sent: set[str]) -> None:
    """Copy from the context what .dockerignore let through, or from another stage."""
    flags = dict(FLAG.findall(rest))
    *names, target = FLAG.sub("", rest).split()
    into = stage.root / (target[1:] if target.startswith("/") else f"{stage.workdir[1:]}/{target}")
    if "from" in flags:
        (name,) = names
        shutil.copytree(stages[flags["from"]].root / name[1:], into, symlinks=True)
        return
    for name in names:
        files = [one for one in sent if one == name or one.startswith(f"{name}/")]
        if not files:
            raise FileNotFoundError(f"COPY {name}: it is not in what Docker is sent")
        for one in (one for one in files if (context / one).is_file()):
            inner = Path(one).relative_to(name) if (context / name).is_dir() else Path(name)
            (into / inner).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(context / one, into / inner)


@contextmanager
def container(stage: Stage, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start what the image starts, as its user, in a network of its own."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            stage.enter([*stage.entry, *stage.command], alone=True), stdout=file, stderr=file
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def healthy(stage: Stage, process: subprocess.Popen[bytes], seconds: float = 120.0) -> bool:
    """Run the health check again and again, as Docker does, until it passes, the process ends, or time is up."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        check = stage.enter(stage.health, inside=process.pid)
        if subprocess.run(check, capture_output=True).returncode == 0:
            return True
        time.sleep(1)
    return False
