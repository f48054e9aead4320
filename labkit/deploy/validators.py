"""Let the tools that will read the rendered files read them now: each says what is wrong, or nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from labkit.deploy.edge import read_edge
from labkit.errors import EngineUnavailable, LabkitError

WAIT_S = 300.0
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
    names = {"compose.yaml": "compose", "nginx.conf": "nginx", "ray.yaml": "ray"}
    if file.suffix in (".yaml", ".service", ".conf"):
        return names.get(file.name) or (
            "systemd" if file.suffix == ".service" else by_place.get(file.parent.name, "")
        )
    return ""


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
    """Ask Kubernetes' schemas about a RayService's pods, and Ray's own about its applications (where Ray is)."""
    one = yaml.safe_load(file.read_text("utf-8"))
    try:
        cluster = one["spec"]["rayClusterConfig"]
        groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
        config = yaml.safe_load(one["spec"]["serveConfigV2"])
    except (KeyError, TypeError, yaml.YAMLError) as exc:
        return f"{type(exc).__name__}: {exc}"
    head = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}}
    said = [_object({**head, "template": group.get("template")}) for group in groups]
    try:
        from ray.serve.schema import ServeDeploySchema
    except ImportError as exc:
        raise EngineUnavailable("Ray is missing", fix="pip install 'labkit[ray]'") from exc
    try:
        ServeDeploySchema.model_validate(config)
    except ValueError as exc:
        said.append(str(exc))
    return "\n".join(filter(None, said))


def compose(file: Path) -> str:
    """Ask docker-compose to read a file."""
    return _run(["docker-compose", "-f", str(file), "config", "--quiet"], "apt install docker-compose")


def sam(file: Path) -> str:
    """Ask cfn-lint, which knows every property of AWS's resources and expands SAM."""
    main = "import sys; from cfnlint.runner import main; sys.exit(main())"
    words = ["--non-zero-exit-code", "warning", "--template", str(file)]
    said = _run([sys.executable, "-c", main, *words], "pip install cfn-lint")
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
        return _run(command, "apt install systemd", quiet=True)


def nginx(file: Path) -> str:
    """Ask nginx to read its configuration, with a certificate made for the occasion and places of its own."""
    with tempfile.TemporaryDirectory() as folder:
        _run(CERTIFICATE.split(), "apt install openssl", cwd=folder)
        text = file.read_text("utf-8").replace("/tmp/", f"{folder}/").replace("/etc/nginx/tls", folder)
        (Path(folder) / "nginx.conf").write_text(
            text.replace("server gateway:", "server 127.0.0.1:"), "utf-8"
        )
        return _run(
            ["nginx", "-t", "-q", "-p", folder, "-c", f"{folder}/nginx.conf"], "apt install nginx", quiet=True
        )


def edge(file: Path) -> str:
    """Ask labkit itself."""
    try:
        read_edge(file)
    except LabkitError as error:
        return str(error)
    return ""


def _run(command: Sequence[str], fix: str, *, quiet: bool = False, cwd: str | None = None) -> str:
    """Return what a command says when it fails; with `quiet` whatever it says is a failure."""
    if not shutil.which(command[0]):
        raise EngineUnavailable(f"{command[0]} is not installed", fix=fix)
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=WAIT_S, cwd=cwd, stdin=subprocess.DEVNULL
    )
    said = (done.stdout + done.stderr).strip()
    return (said or f"exit code {done.returncode}") if done.returncode or (quiet and said) else ""


VALIDATORS: dict[str, Callable[[Path], str]] = {
    "kubernetes": kubernetes,
    "ray": ray,
    "compose": compose,
    "sam": sam,
    "systemd": systemd,
    "nginx": nginx,
    "edge": edge,
}
