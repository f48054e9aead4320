"""Settings become files. The templates beside this module are what one reads; values are checked before they get in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from labkit import serving
from labkit.deploy.settings import Deployment
from labkit.engines.vllm_templates import TEMPLATES
from labkit.errors import OptionInvalid
from labkit.models.store import atomic_file

FOLDER = Path(__file__).with_name("templates")
STEPS = (5, 25, 50)  # percent of the requests that a new version gets, one step after the other
# Where nginx listens, and where its files are: in compose's container, unless a test says otherwise.
NGINX = {"http": "8080", "https": "8443", "tls": "/etc/nginx/tls", "run": "/tmp"}
Files = dict[str, str]


def render(deployment: Deployment, kinds: tuple[str, ...] = ()) -> Files:
    """Return file names and texts of these kinds, of all without a name; raise `OptionInvalid` for an unknown one."""
    if unknown := set(kinds) - KINDS.keys():
        raise OptionInvalid(f"there is no kind {min(unknown)!r:.40}", fix=", ".join(KINDS))
    return {name: text for kind in kinds or KINDS for name, text in KINDS[kind](deployment).items()}


def write(files: Mapping[str, str], folder: Path) -> list[Path]:
    """Write files below a folder, each whole or not at all; return their paths."""
    paths = [folder / name for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        with atomic_file(path) as part:
            part.write_text(text, "utf-8")
    return paths


def templates(folder: Path) -> Environment:
    """Read a folder's templates; in them, a value that is missing is an error, not an empty place."""
    return Environment(loader=FileSystemLoader(folder), undefined=StrictUndefined, keep_trailing_newline=True)


def template(file: str, d: Deployment, **values: Any) -> str:
    """Fill in one template."""
    return templates(FOLDER).get_template(f"{file}.j2").render(d=d, **values)


def nginx(d: Deployment, **places: str) -> str:
    """Return nginx' configuration; `places` overrides where it listens and where its files are."""
    return template("nginx.conf", d, **{**NGINX, "upstream": f"gateway:{d.port}", **places})


def _gateway(d: Deployment) -> Files:
    told = {"name": d.name, "replicas": d.replicas, "percent": 0}
    return {"kubernetes/gateway.yaml": template("kubernetes/gateway.yaml", d, **told)}


def _rollout(d: Deployment) -> Files:
    told = {"name": f"{d.name}-canary", "replicas": 1}
    name = "kubernetes/canary.yaml"
    return {f"rollout/{step:02}-percent.yaml": template(name, d, percent=step, **told) for step in STEPS}


def _vllm(d: Deployment) -> Files:
    files = {}
    for name, one in TEMPLATES.items():
        told = {"template": name, "gpus": one.gpus, "arguments": list(one.arguments())}
        files[f"kubernetes/vllm-{name}.yaml"] = template("kubernetes/vllm.yaml", d, **told)
    return files


def _filled(files: Mapping[str, str]) -> Callable[[Deployment], Files]:
    """Return what fills in templates that need the settings alone: file → template."""
    return lambda d: {path.format(d=d): template(name, d) for path, name in files.items()}


def _edge(d: Deployment) -> Files:
    return {f"edge/{path.name}": path.read_text("utf-8") for path in sorted((FOLDER / "edge").glob("*.yaml"))}


def _compose(d: Deployment) -> Files:
    watch = Path(serving.__file__).parent
    same = {"alerts.yml": watch / "alerts.yml", "grafana/labkit.json": watch / "dashboards" / "labkit.json"}
    copied = {name: path.read_text("utf-8") for name, path in same.items()}
    return {**_filled(COMPOSE)(d), "nginx.conf": nginx(d), **copied}


COMPOSE = {
    "compose.yaml": "compose.yaml",
    "prometheus.yml": "prometheus.yml",
    "grafana/datasource.yml": "grafana_datasource.yml",
    "grafana/provider.yml": "grafana_provider.yml",
}
VERCEL = {
    "vercel/api/index.py": "vercel_index.py",
    "vercel/vercel.json": "vercel.json",
    "vercel/requirements.txt": "vercel_requirements.txt",
}
KINDS: dict[str, Callable[[Deployment], Files]] = {
    "docker": _filled({"Dockerfile": "Dockerfile", "Dockerfile.dockerignore": "dockerignore"}),
    "compose": _compose,
    "kubernetes": _gateway,
    "ray": _filled({"kubernetes/ray.yaml": "kubernetes/ray.yaml"}),
    "vllm": _vllm,
    "rollout": _rollout,
    "systemd": _filled({"systemd/{d.name}.service": "labkit.service"}),
    "lambda": _filled(
        {"lambda/template.yaml": "lambda_template.yaml", "lambda/handler.py": "lambda_handler.py"}
    ),
    "vercel": _filled(VERCEL),
    "worker": _filled({"worker/worker.js": "worker.js", "worker/wrangler.json": "wrangler.json"}),
    "edge": _edge,
}
