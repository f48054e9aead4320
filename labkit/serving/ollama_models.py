"""The models behind the Ollama-compatible endpoint: names, uploaded files, and what is loaded for how long.

What came with `create` lives as long as the endpoint does. Nothing here knows HTTP but its status codes.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from labkit.engines.base import Model
from labkit.engines.registry import engine_class, load
from labkit.models import catalog, store
from labkit.models.card import ModelCard, Ref
from labkit.models.gguf import inspect

PART = r"[A-Za-z0-9_][\w.-]{0,79}"
NAME = re.compile(rf"(?:{PART}/){{0,2}}{PART}(?::{PART})?", re.ASCII)
DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
SHIPPED = ("nano", "pico")
MAX_MODELS = 200
NEVER = datetime(2300, 1, 1, tzinfo=UTC)


class ApiError(Exception):
    """Carry an HTTP status and the words of an error body."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


@dataclass(frozen=True, slots=True)
class Entry:
    """Describe a model as its Modelfile would. `source` is what `load()` takes."""

    name: str
    source: str
    card: ModelCard
    variant: str
    family: str
    parent: str = ""
    system: str = ""
    template: str = ""
    license: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[dict[str, Any], ...] = ()
    modified: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def digest(self) -> str:
        """Return the sha256 of the description, as Ollama's is that of a manifest."""
        shape = (self.source, self.variant, self.system, self.template, self.parameters, self.messages)
        return hashlib.sha256(repr(shape).encode()).hexdigest()


@dataclass(slots=True)
class Runner:
    """Hold a loaded model: how many use it, and until when it stays (seconds of the monotonic clock)."""

    model: Model
    entry: Entry
    context: int
    users: int = 0
    expires: float = math.inf

    @property
    def expires_at(self) -> datetime:
        """Return the time of day at which it is unloaded unless somebody asks."""
        left = self.expires - time.monotonic()
        return NEVER if left > 1e9 else datetime.now(UTC) + timedelta(seconds=left)


class Known:
    """Know models by name."""

    entries: dict[str, Entry]

    def get(self, name: str) -> Entry:
        """Find a model by name, with or without its tag; raise Ollama's 404."""
        if found := self.entries.get(key_of(name)):
            return found
        raise ApiError(404, f"model '{name[:200]}' not found")


class Models(Known):
    """Know every model by name, and keep those in use loaded. Several threads may call at once."""

    def __init__(self, first: str, engine: str, options: Mapping[str, Any]) -> None:
        self.kind = engine_class(engine)
        # Only this server has to be told beforehand that embeddings will be asked for.
        self.options = {"embeddings": True, **options} if engine == "llamaserver" else options
        self.entries = {}
        self.loaded: dict[str, Runner] = {}
        self._retired: list[Runner] = []
        self._lock = threading.RLock()
        for name in dict.fromkeys((*SHIPPED, first)):
            self.put(self.known(name))
        with store.storage_errors(store.home()):
            store.home().mkdir(parents=True, exist_ok=True)
            for left in store.home().glob("uploads-*-*"):  # of an endpoint that was killed
                if not psutil.pid_exists(int(left.name.split("-")[1])):
                    shutil.rmtree(left, ignore_errors=True)
            prefix = f"uploads-{os.getpid()}-"
            self._folder = tempfile.TemporaryDirectory(prefix=prefix, dir=store.home())

    def known(self, source: str, name: str = "") -> Entry:
        """Describe a model of the catalog, or a .gguf file; raise what is wrong with it."""
        from labkit.engines.llamacpp_files import local_file  # and numpy, which the gateway does without

        card = catalog.find(source)
        ref, family = card.refs.get("llamacpp", Ref()), "llama"
        if not ref.package:
            family = inspect(local_file(card, ref, card.default_variant)).architecture
        return Entry(name or f"{card.alias}:latest", source, card, self.kind.default_variant(card), family)

    def put(self, entry: Entry) -> None:
        """Add a model, or replace the one of that name."""
        if not NAME.fullmatch(entry.name):
            raise ApiError(400, "invalid model name")
        key = key_of(entry.name)
        with self._lock:
            if len(self.entries) >= MAX_MODELS and key not in self.entries:
                raise ApiError(400, f"there are {MAX_MODELS} models already: delete one")
            self.unload(entry.name)
            self.entries[key] = replace(entry, name=shown(entry.name), modified=datetime.now(UTC))

    def delete(self, name: str) -> None:
        """Forget a model, and unload it."""
        with self._lock:
            self.get(name)
            self.unload(name)
            del self.entries[key_of(name)]

    def blob(self, digest: str) -> Path:
        """Return where an uploaded file of that sha256 belongs."""
        found = DIGEST.fullmatch(digest)
        if not found:
            raise ApiError(400, "invalid digest format")
        return Path(self._folder.name) / f"sha256-{found[1]}.gguf"

    @contextmanager
    def use(self, entry: Entry, context: int, keep_alive: float) -> Iterator[Runner]:
        """Yield the loaded model, which stays for `keep_alive` seconds after its last use."""
        key = key_of(entry.name)
        with self._lock:
            runner = self.loaded.get(key)
            if runner is None or (context and context != runner.context):
                self.unload(entry.name)
                context = context or self.options.get("context", 0)
                options = {**self.options, **({"context": context} if context else {})}
                model = load(entry.source, engine=self.kind.name, variant=entry.variant, **options)
                runner = self.loaded[key] = Runner(model, entry, context)
            runner.users += 1
            runner.expires = time.monotonic() + keep_alive
        try:
            yield runner
        finally:
            with self._lock:
                runner.users -= 1
                runner.expires = time.monotonic() + keep_alive
                self.sweep()

    def unload(self, name: str) -> None:
        """Close a model once nobody uses it any more."""
        with self._lock:
            if runner := self.loaded.pop(key_of(name), None):
                self._retired.append(runner)
            self.sweep()

    def sweep(self) -> None:
        """Close what has been idle for too long."""
        with self._lock:
            for key, runner in list(self.loaded.items()):
                if not runner.users and runner.expires <= time.monotonic():
                    self._retired.append(self.loaded.pop(key))
            for runner in [r for r in self._retired if not r.users]:
                self._retired.remove(runner)
                runner.model.close()

    def close(self) -> None:
        """Close every model and delete what was uploaded."""
        with self._lock:
            for runner in (*self.loaded.values(), *self._retired):
                runner.model.close()
            self.loaded.clear()
            self._retired.clear()
            self._folder.cleanup()


def shown(name: str) -> str:
    """Return a name as Ollama lists it: without the default registry and namespace, with its tag."""
    short = name.removeprefix("registry.ollama.ai/").removeprefix("library/")
    return short if ":" in short else f"{short}:latest"


def key_of(name: str) -> str:
    """Return the form in which two spellings of a name are the same."""
    return shown(name).lower()
