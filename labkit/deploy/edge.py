"""Edge deployments as YAML: which nodes there are, which models and agents run on each, and what they do in need."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from labkit.agents.scenarios import names
from labkit.errors import OptionInvalid
from labkit.models.catalog import catalog
from labkit.models.store import storage_errors

NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
TYPES = ("single-device", "distributed-edge")
MOST_NODES, MOST_BYTES = 4, 100_000
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Name a model of the catalog and the engine that runs it. Agents that name no model ask the `primary` one.

    `tasks` is what it must be able to do, in the catalog's words: a model that cannot is refused.
    """

    alias: str
    engine: str = "auto"
    primary: bool = False
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """Name an agent, the model it asks ("" for the primary), and the scenario whose role and tools it has, if any."""

    name: str
    model: str = ""
    scenario: str = ""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """Describe one node."""

    id: str
    models: tuple[ModelSpec, ...]
    agents: tuple[AgentSpec, ...]


@dataclass(frozen=True, slots=True)
class EdgeSpec:
    """Describe an edge deployment. `failover` is automatic or off; records are passed on every `sync_every` seconds."""

    nodes: tuple[NodeSpec, ...]
    type: str = "distributed-edge"
    failover: str = "automatic"
    sync_every: float = 0.5

    def having(self, agent: str) -> list[str]:
        """Return the nodes that have an agent, in the order of the file."""
        return [node.id for node in self.nodes if any(one.name == agent for one in node.agents)]


def read_edge(file: Path) -> EdgeSpec:
    """Read a single-device or distributed-edge file; raise `OptionInvalid` with what is wrong, and where."""
    with storage_errors(file, "read"):
        raw = file.read_bytes()
    try:
        if len(raw) > MOST_BYTES:
            raise ValueError(f"over {MOST_BYTES:,} bytes")
        found = yaml.safe_load(raw)
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise OptionInvalid(f"{file} is no YAML: {str(exc):.200}", fix="labkit deploy render edge") from exc
    top = _map(found, "the file", {"deployment"})
    told = _map(top.get("deployment"), "deployment", {"type", "nodes", "models", "agents", "coordination"})
    kind = told.get("type")
    if kind not in TYPES:
        raise OptionInvalid.of("type", kind, " or ".join(TYPES))
    rows = (
        told.get("nodes")
        if kind == TYPES[1]
        else [{k: told.get(k, []) for k in ("models", "agents")} | {"id": "device"}]
    )
    nodes = tuple(_node(row) for row in _list(rows, "nodes"))
    more = _map(told.get("coordination") or {}, "coordination", {"failover", "sync_every"})
    return _checked(EdgeSpec(nodes, kind, **more))


def _node(row: Any) -> NodeSpec:
    told = _map(row, "a node", {"id", "models", "agents"})
    where = f"node {told.get('id')!r:.40}"
    models = [
        m if isinstance(m, dict) else {"alias": m} for m in _list(told.get("models"), f"{where}: models")
    ]
    agents = _list(told.get("agents"), f"{where}: agents")
    has = tuple(_made(ModelSpec, m, f"{where}: a model") for m in models)
    first = [model.alias for model in has if model.primary] or [model.alias for model in has]
    made = (_made(AgentSpec, row, f"{where}: an agent") for row in agents)
    return NodeSpec(str(told.get("id")), has, tuple(replace(a, model=a.model or first[0]) for a in made))


def _made(kind: type[T], row: Any, where: str) -> T:
    told = _map(row, where, {one.name for one in fields(kind)})  # type: ignore[arg-type]
    values = {k: tuple(map(str, v)) if isinstance(v, list) else v for k, v in told.items()}
    try:
        return kind(**values)
    except TypeError as exc:
        raise OptionInvalid(f"{where} lacks something: {exc}", fix="labkit deploy render edge") from exc


def _checked(spec: EdgeSpec) -> EdgeSpec:
    ids = [node.id for node in spec.nodes]
    if not 1 <= len(ids) <= MOST_NODES or len(set(ids)) < len(ids):
        raise OptionInvalid(
            f"{len(ids)} nodes: {', '.join(ids):.80}", fix=f"1 to {MOST_NODES}, an id for each"
        )
    if spec.failover not in ("automatic", "off"):
        raise OptionInvalid.of("failover", spec.failover, "automatic or off")
    if type(spec.sync_every) not in (int, float) or not 0.05 <= spec.sync_every <= 3600:
        raise OptionInvalid.of("sync_every", spec.sync_every, "seconds from 0.05 to 3600")
    for node in spec.nodes:
        aliases = [model.alias for model in node.models]
        for name in (node.id, *(agent.name for agent in node.agents)):
            if not NAME.fullmatch(str(name)):
                raise OptionInvalid(f"{name!r:.60} is no name", fix="lower-case letters, digits and -")
        if sum(model.primary for model in node.models) > 1:
            raise OptionInvalid(f"node {node.id}: more than one model is primary", fix="primary: true once")
        for model in node.models:
            if model.alias not in catalog():
                raise OptionInvalid(f"{node.id}: there is no model {model.alias!r:.60}", fix="labkit models")
            can = catalog()[model.alias].capabilities
            if lacks := set(model.tasks) - set(can):
                raise OptionInvalid(f"{node.id}: {model.alias} cannot {min(lacks)!r:.40}", fix=", ".join(can))
        for agent in node.agents:
            if agent.model not in aliases:
                raise OptionInvalid(
                    f"{node.id}: {agent.name} asks {agent.model!r:.60}", fix=f"one of {aliases}"
                )
            if agent.scenario and agent.scenario not in names():
                raise OptionInvalid(f"there is no scenario {agent.scenario!r:.60}", fix=", ".join(names()))
    return spec


def _map(value: Any, where: str, known: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise OptionInvalid(f"{where} is {value!r:.60}", fix=f"a mapping with {', '.join(sorted(known))}")
    if unknown := set(map(str, value)) - known:
        raise OptionInvalid(f"{where} has {min(unknown)!r:.40}", fix=f"only {', '.join(sorted(known))}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise OptionInvalid(f"{where}: {value!r:.60} is no list", fix="- one entry a line")
    return value
