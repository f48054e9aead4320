"""Files for a class's JupyterHub, from typed settings: The Littlest JupyterHub, or Zero to JupyterHub on Kubernetes.

One machine with TLJH carries a class of up to about 100 (its own documentation's figure); more need Kubernetes. Either
way a large model belongs on one shared endpoint: a copy for each student would not fit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import labkit
from labkit.deploy.render import templates
from labkit.deploy.settings import HOST, IMAGE, check
from labkit.errors import OptionInvalid

FOLDER = Path(__file__).with_name("hub_files")
URL = re.compile(r"https://[\w.-]+(:\d+)?(/[\w./-]*)?", re.ASCII)
WORD = re.compile(r"[\w][\w.@/-]{0,99}", re.ASCII)
RULES = {
    "host": (HOST, "a host name, as in hub.example.org"),
    "image": (IMAGE, "an image with its version, as in registry.example.org/labs:1"),
    "repo": (URL, "the https:// address of a git repository"),
    "branch": (WORD, "a branch's name"),
    "endpoint": (URL, "https://agents.example.org/v1: a key is sent, so it must be encrypted"),
    "class_url": (re.compile(rf"({URL.pattern})?", re.ASCII), "https://class.example.org, or nothing"),
    "admin": (WORD, "a user's name"),
    "first": (WORD, "a file of the repository, as in labs/01_meet_your_machine.ipynb"),
}
RANGES = {"students": (1, 5000), "memory_gb": (0.5, 256), "cpu": (0.1, 64)}


@dataclass(frozen=True, slots=True)
class Hub:
    """Settle a hub. `memory_gb` and `cpu` are limits for each student; `class_url` is where they may report."""

    host: str = "hub.example.org"
    repo: str = "https://git.example.org/labkit.git"
    branch: str = "main"
    first: str = "labs/01_meet_your_machine.ipynb"
    image: str = f"registry.example.org/labkit-labs:{labkit.__version__}"
    endpoint: str = "https://agents.example.org/v1"
    class_url: str = ""
    admin: str = "instructor"
    students: int = 30
    memory_gb: float = 2.0
    cpu: float = 1.0

    def __post_init__(self) -> None:
        check(self, RULES, RANGES)

    @property
    def folder(self) -> str:
        """Return the folder that nbgitpuller clones to: the repository's name."""
        return self.repo.rstrip("/").rpartition("/")[2].removesuffix(".git")

    @property
    def link(self) -> str:
        """Return the link for students: it fetches the labs, keeps what they changed, and opens the first one."""
        asked = {"repo": self.repo, "branch": self.branch, "urlpath": f"lab/tree/{self.folder}/{self.first}"}
        return f"https://{self.host}/hub/user-redirect/git-pull?{urlencode(asked)}"

    @property
    def endpoint_port(self) -> int:
        """Return the endpoint's port."""
        found = re.match(r"https://[^/:]+:(\d+)", self.endpoint)
        return int(found[1]) if found else 443

    @property
    def total_gb(self) -> float:
        """Return the memory that all students may take at once."""
        return self.students * self.memory_gb


def render(hub: Hub) -> dict[str, str]:
    """Return file names and texts."""
    made = templates(FOLDER)
    return {
        name.removesuffix(".j2"): made.get_template(name).render(h=hub)
        for name in made.list_templates(["j2"])
    }


def read(words: list[str]) -> Hub:
    """Read settings from NAME=VALUE; raise `OptionInvalid` for an unknown name or a value of another kind."""
    kinds: dict[str, Any] = {one.name: type(one.default) for one in fields(Hub)}
    told: dict[str, Any] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in kinds:
            raise OptionInvalid(f"there is no setting {name!r:.40}", fix=", ".join(kinds))
        try:
            told[name] = kinds[name](value)
        except ValueError:
            raise OptionInvalid.of(name, value, f"{name}=30") from None
    return Hub(**told)
