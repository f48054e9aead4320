"""How a gateway runs: typed settings from a profile and LABKIT_SERVE_… variables. Secrets come from there alone."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from labkit.errors import OptionInvalid
from labkit.models.store import home

PREFIX = "LABKIT_SERVE_"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PROFILES: dict[str, dict[str, Any]] = {
    "dev": {},
    "staging": {"keys": True},
    "prod": {"keys": True, "wait": 15.0, "stall": 15.0, "idle": 1800.0},
}
TASKS = ("chat", "tools", "json", "embed")
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,39}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Backend:
    """Describe what answers: an engine of this kit (`url_or_engine="llamaserver"`), or a server's URL.

    Without `task_classes` it takes every task. `weight` is its share among backends of the same model: a canary has
    0.05, say. `options` are the engine's own; the key for a URL is in the variable `key_env`.
    """

    name: str
    url_or_engine: str = "auto"
    model: str = "nano"
    task_classes: tuple[str, ...] = ()
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    key_env: str = ""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise OptionInvalid(f"a backend cannot be named {self.name!r:.60}", fix="letters, digits, . _ -")
        if unknown := set(self.task_classes) - set(TASKS):
            raise OptionInvalid(f"there is no task class {unknown.pop()!r:.40}", fix=", ".join(TASKS))
        if not (isinstance(self.weight, int | float) and 0 < self.weight <= 1000):
            raise OptionInvalid.of("weight", self.weight, "more than 0, at most 1000")

    @property
    def url(self) -> str:
        """Return the server's URL, or nothing for an engine."""
        return self.url_or_engine if "://" in self.url_or_engine else ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `NAME=ENGINE_OR_URL;model=nano;weight=0.1;tasks=chat+tools;threads=1`; only the first part must be."""
        first, *rest = text.strip().split(";")
        name, found, target = first.partition("=")
        pairs = dict(part.split("=", 1) for part in rest if "=" in part)
        if not found or not target or len(pairs) < len(rest):
            raise OptionInvalid(f"{text!r:.80} is no backend", fix="NAME=ENGINE_OR_URL;model=nano;weight=1")
        own = {key: pairs.pop(key) for key in ("model", "key_env") if key in pairs}
        tasks = tuple(filter(None, pairs.pop("tasks", "").split("+")))
        weight = _value(float, "weight", pairs.pop("weight", "1"))
        options = {key: _option(value) for key, value in pairs.items()}
        return cls(name, target, task_classes=tasks, weight=weight, options=options, **own)


@dataclass(frozen=True, slots=True)
class Settings:
    """Settle how a gateway runs. Times are seconds; 0 switches off what may be absent.

    `slots` requests run at once and `queue` wait; the first token is due after `wait`, the next one after `stall`;
    on SIGTERM streams have `grace` to end. `context` is tokens a prompt is trimmed to. `deny` (regular expression)
    refuses prompts, `mask` blots out of answers and of the audit log. `idle` unloads a model nobody uses.
    `traces` is a file or a collector's address that gets OpenTelemetry spans.
    """

    profile: str = "dev"
    host: str = "127.0.0.1"
    port: int = 8000
    backends: tuple[Backend, ...] = (Backend("nano"),)
    state: str = ""
    keys: bool = False
    slots: int = 16
    queue: int = 64
    wait: float = 30.0
    stall: float = 30.0
    grace: float = 20.0
    max_body: int = 2 * 2**20
    max_tokens: int = 512
    context: int = 0
    requests_per_minute: int = 120
    tokens_per_day: int = 1_000_000
    cache: str = "exact"
    cache_ttl: float = 3600.0
    cache_threshold: float = 0.95
    cache_url: str = field(default="", repr=False)
    deny: str = ""
    mask: str = ""
    audit_text: bool = False
    batch: int = 4
    memory_gb: float = 0.0
    idle: float = 0.0
    tls_cert: str = ""
    tls_key: str = ""
    traces: str = ""

    @classmethod
    def read(cls, profile: str = "", env: Mapping[str, str] | None = None, **changes: Any) -> Self:
        """Lay variables over a profile, and `changes` over both; raise `OptionInvalid` with what is wrong."""
        env = os.environ if env is None else env
        profile = profile or env.get(f"{PREFIX}PROFILE", "dev")
        if profile not in PROFILES:
            raise OptionInvalid(f"there is no profile {profile!r:.40}", fix=", ".join(PROFILES))
        found: dict[str, Any] = {"profile": profile, **PROFILES[profile]}
        for one in fields(cls):
            text = env.get(PREFIX + one.name.upper())
            if one.name == "backends" and text:
                found["backends"] = tuple(map(Backend.parse, text.split()))
            elif text is not None and one.name not in ("profile", "backends"):
                found[one.name] = _value(type(one.default), one.name, text)
        return cls(**found | changes)

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and not (math.isfinite(value) and 0 <= value <= 2**40):
                raise OptionInvalid.of(one.name, value, "0 or more")
        if self.host not in LOOPBACK and not self.keys:
            raise OptionInvalid(
                f"{self.host!r:.60} is open to others, and no keys are demanded", fix="--profile prod"
            )
        if bool(self.tls_cert) != bool(self.tls_key):
            raise OptionInvalid("TLS needs both a certificate and its key", fix="tls_cert and tls_key")
        if self.cache not in ("off", "exact", "semantic"):
            raise OptionInvalid.of("cache", self.cache, "off, exact or semantic")
        if len({backend.name for backend in self.backends}) < max(1, len(self.backends)):
            raise OptionInvalid(
                "backends need a name each, and one must be there", fix="--backend a=llamaserver"
            )
        for name in ("deny", "mask"):
            try:
                re.compile(getattr(self, name))
            except re.error as exc:
                raise OptionInvalid(
                    f"{name} is no regular expression: {exc}", fix="test it in Python"
                ) from exc

    @property
    def folder(self) -> Path:
        """Return where keys, quotas, cache and audit log are."""
        return Path(self.state) if self.state else home() / "serve"


def _value(kind: type, name: str, text: str) -> Any:
    if kind is bool:
        if text.lower() in ("1", "true", "yes", "0", "false", "no", ""):
            return text.lower() in ("1", "true", "yes")
    else:
        try:
            return kind(text)
        except ValueError:
            pass
    raise OptionInvalid.of(name, text, f"a value of type {kind.__name__}")


def _option(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
