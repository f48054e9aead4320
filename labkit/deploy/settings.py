"""What a deployment is: typed settings, checked before any file is rendered. They hold no secrets, only their names."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import labkit
from labkit.errors import OptionInvalid
from labkit.models.store import storage_errors

Rules = Mapping[str, tuple[re.Pattern[str], str]]  # by setting: what it must look like, and that in words
Ranges = Mapping[str, tuple[float, float]]
# RFC 1123, with room for "-canary" behind it, and no word that YAML reads otherwise.
LABEL = re.compile(r"(?!(on|off|yes|no|true|false|null|y|n)$)[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
HOST = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
IMAGE = re.compile(
    r"[a-z0-9]+([._/-][a-z0-9]+)*(:[0-9]+(/[a-z0-9._-]+)+)?(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
PLAIN = re.compile(r"[\w./:;=+@-]*", re.ASCII)  # goes into files of many kinds, so it needs no quoting in any
URL = re.compile(r"https?://[a-z0-9.-]+(:[0-9]+)?", re.ASCII)
RULES: Rules = {
    "name": (LABEL, "lower-case letters, digits and -, 40 at most"),
    "host": (HOST, "a host name, as in agents.example.org"),
    "image": (IMAGE, "an image with its version, as in registry.example.org/labkit:0.1.0"),
    "base_image": (IMAGE, "an image with its version"),
    "vllm_image": (IMAGE, "an image with its version"),
    "gateway": (URL, "https://agents.example.org"),
    "backends": (PLAIN, "NAME=ENGINE_OR_URL;model=nano;threads=1, without blanks"),
    "gpu_node": (PLAIN, "a label's value, as in nvidia-l4"),
    "vllm_model": (PLAIN, "a name on the Hugging Face hub"),
    "binary": (PLAIN, "the path of the labkit command"),
}
RANGES: Ranges = {
    "port": (1024, 65_535),
    "replicas": (1, 1000),
    "max_replicas": (1, 1000),
    "cpu": (0.1, 256),
    "memory_gb": (0.25, 4096),
    "grace": (1, 600),
    "queue_target": (1, 1000),
    "cpu_target": (10, 95),
    "lambda_memory_mb": (128, 10_240),
}
IMAGES = ("image", "base_image", "vllm_image")


def check(settings: Any, rules: Rules, ranges: Ranges) -> None:
    """Raise `OptionInvalid` for the first setting whose type, look or size is wrong."""
    for one in fields(settings):
        value: Any = getattr(settings, one.name)
        kind: type = type(one.default)
        if type(value) not in ({kind, int} if kind is float else {kind}):
            raise OptionInvalid.of(one.name, value, f"a value of type {kind.__name__}")
        pattern, want = rules.get(one.name, (None, ""))
        if pattern and not pattern.fullmatch(value):
            raise OptionInvalid.of(one.name, value, want)
        low, high = ranges.get(one.name, (0, 0))
        if high and not low <= value <= high:
            raise OptionInvalid.of(one.name, value, f"from {low:g} to {high:g}")


@dataclass(frozen=True, slots=True)
class Deployment:
    """Settle how the gateway is deployed. Every file is rendered from these values.

    `grace` is seconds for streams to end. HPA keeps about `queue_target` requests waiting a replica and `cpu_target`
    percent of its cores busy. `gpu_node` is the value of the node label `accelerator`. `gateway` is the address under
    which fronts (Lambda, Vercel, Worker) reach it. There is no PostgreSQL: the gateway has no use for it. Each replica
    keeps keys and quotas in SQLite, and what replicas share, the cache, is in Redis.
    """

    name: str = "labkit"
    image: str = f"registry.example.org/labkit:{labkit.__version__}"
    base_image: str = "python:3.12-slim"
    host: str = "agents.example.org"
    port: int = 8000
    backends: str = "nano=llamaserver;model=nano;threads=1"
    replicas: int = 2
    max_replicas: int = 8
    cpu: float = 1.0
    memory_gb: float = 2.0
    grace: int = 20
    queue_target: int = 4
    cpu_target: int = 70
    gpu_node: str = "nvidia-l4"
    vllm_image: str = "vllm/vllm-openai:v0.11.0"
    vllm_model: str = "Qwen/Qwen2.5-0.5B-Instruct-AWQ"
    gateway: str = "https://agents.example.org"
    lambda_memory_mb: int = 256
    binary: str = "/opt/labkit/bin/labkit"

    def __post_init__(self) -> None:
        check(self, RULES, RANGES)
        for name in IMAGES:
            tag = getattr(self, name).rpartition("/")[2]
            if (":" not in tag and "@" not in tag) or tag.endswith(":latest"):
                raise OptionInvalid(
                    f"{name} {getattr(self, name)!r:.80} is not pinned", fix="name:version, not latest"
                )
        if self.max_replicas < self.replicas:
            raise OptionInvalid(
                f"max_replicas {self.max_replicas} is below replicas", fix=f"{self.replicas} or more"
            )

    @classmethod
    def read(cls, file: Path | None = None, **changes: Any) -> Self:
        """Read a TOML file, and lay `changes` over it; raise `OptionInvalid` with what is wrong."""
        found: dict[str, Any] = {}
        if file:
            try:
                with storage_errors(file, "read"):
                    found = tomllib.loads(file.read_text("utf-8"))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
                raise OptionInvalid(
                    f"{file} is no TOML: {exc}", fix='lines such as: host = "agents.example.org"'
                ) from exc
        if unknown := set(found | changes) - {one.name for one in fields(cls)}:
            raise OptionInvalid(f"there is no setting {min(unknown)!r:.60}", fix="labkit deploy settings")
        return cls(**found | changes)
