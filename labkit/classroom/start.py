"""Open JupyterLab on the labs: on this machine only, behind Jupyter's own token, and without the network."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from labkit.errors import LabkitError

# Its page_config.json takes out JupyterLab's news and update prompts, which ask the network.
CONFIG = Path(__file__).parent / "jupyter"


def start(folder: Path, lab: Path | None = None, port: int = 8888, browser: bool = True) -> int:
    """Run JupyterLab until Ctrl-C and return its exit code. Where it can, it takes this process's place."""
    if find_spec("jupyterlab") is None:
        raise LabkitError("JupyterLab is not installed", fix="pip install 'labkit[widgets]'")
    places = [str(CONFIG), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, places))
    line = command(folder, lab, port, browser and has_browser())
    if sys.platform != "win32":
        sys.stdout.flush()
        # No process in between: Ctrl-C, a signal or a closed terminal reaches JupyterLab itself.
        os.execv(line[0], line)
    child = subprocess.Popen(line)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:  # the console has sent it to the child as well
            continue


def command(folder: Path, lab: Path | None, port: int, browser: bool) -> list[str]:
    """Return JupyterLab's command line. A port that is taken makes Jupyter try the next ones.

    At log level WARN Jupyter still prints the address with its token.
    """
    opened = f"/lab/tree/{lab.relative_to(folder).as_posix()}" if lab else "/lab"
    flags = ["-y", *([] if browser else ["--no-browser"])]
    if sys.platform != "win32" and os.geteuid() == 0:
        flags.append("--allow-root")  # a container has no other user
    return [
        *(sys.executable, "-m", "jupyterlab", *flags),
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        f"--ServerApp.root_dir={folder}",
        f"--LabApp.default_url={opened}",
        "--Application.log_level=WARN",
        "--LabApp.extension_manager=readonly",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]


def has_browser() -> bool:
    """Say whether a browser window can open here; on a machine without a screen it cannot."""
    if sys.platform != "linux":
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "WSL_DISTRO_NAME"))
