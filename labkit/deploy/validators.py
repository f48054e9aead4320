"""Let the tools that will read the rendered files read them now: each says what is wrong, or nothing."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from labkit.deploy.edge import read_edge
from labkit.deploy.functions import docker, dockerignore, python, requirements, vercel, worker
from labkit.deploy.tool import ask
from labkit.errors import EngineUnavailable, LabkitError

NAMES = {
    "Dockerfile": "docker", "Dockerfile.dockerignore": "dockerignore", "compose.yaml": "compose",
    "nginx.conf": "nginx", "prometheus.yml": "prometheus", "alerts.yml": "prometheus", "ray.yaml": "ray",
    "vercel.json": "vercel", "requirements.txt": "requirements", "worker.js": "worker", "wrangler.json": "worker",
}  # fmt: skip
# The words of Grafana's documentation on provisioning, as far as they are used here.
PROVISION: dict[str, Any] = {
    "apiVersion": {"const": 1},
    "datasources": {
        "items": {
            "required": ["name", "type", "access", "url"],
            "properties": dict.fromkeys(("name", "type", "access", "url", "isDefault"), {}),
            "additionalProperties": False,
        }
    },
    "providers": {
        "items": {
            "required": ["name", "options"],
            "properties": {"name": {}, "type": {"const": "file"}, "options": {"required": ["path"]}},
            "additionalProperties": False,
        }
    },
}
CERTIFICATE = (
    "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout tls.key -out tls.crt"
)


def validate(kind: str, file: Path) -> str:
    """Return what the validator of this kind says against a file, "" when nothing.

    Raises `EngineUnavailable` when the validator is not installed.
    """
    return VALIDATORS[kind](file)


def kind_of(file: Path) -> str:
    """Return which validator reads a rendered file, "" for none."""
    by_place = {"kubernetes": "kubernetes", "rollout": "kubernetes", "lambda": "sam", "edge": "edge"}
    if kind := NAMES.get(file.name):
        return kind
    if file.suffix in (".yaml", ".yml", ".json") and file.parent.name == "grafana":
        return "grafana"
    by_end = {".yaml": by_place.get(file.parent.name, ""), ".service": "systemd", ".py": "python"}
    return by_end.get(file.suffix, "")


def kubernetes(file: Path) -> str:
    """Ask kubernetes-validate (strict: unknown fields are errors), by the newest schemas that it has."""
    return "\n".join(filter(None, (_object(one) for one in yaml.safe_load_all(file.read_text("utf-8")))))


def _object(one: Any) -> str:
    try:
        import kubernetes_validate as k8s
    except ImportError as exc:
        raise EngineUnavailable(
            "kubernetes-validate is missing", fix="pip install kubernetes-validate"
        ) from exc
    try:
        k8s.validate(one, k8s.latest_version(), strict=True)
    except (k8s.ValidationError, k8s.SchemaNotFoundError, k8s.InvalidSchemaError) as exc:
        return f"{one.get('kind') if isinstance(one, dict) else one!r:.40}: {exc!s:.500}"
    return ""


def ray(file: Path) -> str:
    """Ask KubeRay's schema about a RayService, Kubernetes' about its pods, and Ray (where it is) about the rest."""
    one = yaml.safe_load(file.read_text("utf-8"))
    schema = yaml.safe_load(Path(__file__).with_name("rayservice.yaml").read_text("utf-8"))
    wrong = jsonschema.Draft202012Validator(schema).iter_errors(one)
    said = [f"{'.'.join(map(str, error.path))}: {error.message:.200}" for error in wrong]
    if said:
        return "\n".join(said)
    cluster, head = one["spec"]["rayClusterConfig"], {"apiVersion": "v1", "kind": "PodTemplate"}
    groups = [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])]
    pods = [{**head, "metadata": {"name": "pod"}, "template": group["template"]} for group in groups]
    said = list(filter(None, map(_object, pods)))
    if said:
        return "\n".join(said)
    try:
        from ray.serve.schema import ServeDeploySchema
    except ImportError as exc:
        fix = "pip install 'labkit[ray]'"
        what = "the rest is sound, but Ray must read serveConfigV2, and is missing"
        raise EngineUnavailable(what, fix=fix) from exc
    try:
        ServeDeploySchema.model_validate(yaml.safe_load(one["spec"].get("serveConfigV2", "")))
    except (ValueError, yaml.YAMLError) as exc:
        return str(exc)
    return ""


def compose(file: Path) -> str:
    """Ask docker-compose to read a file."""
    return ask(["docker-compose", "-f", str(file), "config", "--quiet"], "apt install docker-compose")


def sam(file: Path) -> str:
    """Ask cfn-lint, which knows every property of AWS's resources and expands SAM."""
    main = "import sys; from cfnlint.runner import main; sys.exit(main())"
    words = ["--non-zero-exit-code", "warning", "--template", str(file)]
    said = ask([sys.executable, "-c", main, *words], "pip install cfn-lint")
    if "No module named cfnlint" in said:
        raise EngineUnavailable("cfn-lint is missing", fix="pip install cfn-lint")
    return said


def systemd(file: Path) -> str:
    """Ask systemd-analyze; the command need not be installed here, so a stand-in takes its place."""
    with tempfile.TemporaryDirectory() as folder:
        lines = file.read_text("utf-8").splitlines()
        start = "ExecStart="
        told = [f"{start}/bin/true" if line.startswith(f"{start}/") else line for line in lines]
        copy = Path(folder) / file.name
        copy.write_text("\n".join(told) + "\n", "utf-8")
        command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(copy)]
        return ask(command, "apt install systemd", quiet=True)


def nginx(file: Path) -> str:
    """Ask nginx to read its configuration, with a certificate made for the occasion and places of its own."""
    with tempfile.TemporaryDirectory() as folder:
        ask(CERTIFICATE.split(), "apt install openssl", cwd=folder)
        text = file.read_text("utf-8").replace("/tmp/", f"{folder}/").replace("/etc/nginx/tls", folder)
        (Path(folder) / "nginx.conf").write_text(
            text.replace("server gateway:", "server 127.0.0.1:"), "utf-8"
        )
        return ask(
            ["nginx", "-t", "-q", "-p", folder, "-c", f"{folder}/nginx.conf"], "apt install nginx", quiet=True
        )


def prometheus(file: Path) -> str:
    """Ask promtool about Prometheus' settings, with a key made for the occasion, or about alert rules."""
    fix = "apt install prometheus"
    if file.name == "alerts.yml":
        return ask(["promtool", "check", "rules", str(file)], fix)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "key").touch()
        for one in file.parent.glob("*.yml"):
            shutil.copy(one, folder)
        copy = Path(folder) / file.name
        copy.write_text(file.read_text("utf-8").replace("/run/secrets/metrics_key", f"{folder}/key"), "utf-8")
        return ask(["promtool", "check", "config", str(copy)], fix)


def grafana(file: Path) -> str:
    """Ask promtool about every query of a dashboard; of Grafana's two files of settings, know their words."""
    if file.suffix != ".json":
        schema = {"type": "object", "properties": PROVISION, "additionalProperties": False}
        wrong = jsonschema.Draft202012Validator(schema).iter_errors(yaml.safe_load(file.read_text("utf-8")))
        return "\n".join(error.message for error in wrong)
    try:
        panels = json.loads(file.read_text("utf-8"))["panels"]
        asked = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    except (ValueError, KeyError, TypeError) as exc:
        return f"{type(exc).__name__}: {exc}"
    plain = [
        re.sub(r"\$\w+", "1", e.replace("$__rate_interval", "5m").replace("$instance", ".*")) for e in asked
    ]
    rules = [{"record": f"panel:query:{n}", "expr": text} for n, text in enumerate(plain)]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "alerts.yml"
        made.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}), "utf-8")
        return prometheus(made)


def edge(file: Path) -> str:
    """Ask labkit itself."""
    try:
        read_edge(file)
    except LabkitError as error:
        return str(error)
    return ""


VALIDATORS: dict[str, Callable[[Path], str]] = {
    check.__name__: check
    for check in (
        kubernetes, ray, compose, sam, systemd, nginx, edge, docker, dockerignore, prometheus, grafana, worker,
        vercel, python, requirements,
    )
}  # fmt: skip
