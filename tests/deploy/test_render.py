"""Settings are checked before they become files, and every file is read by its own tool, its broken copy too."""

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from labkit.deploy.render import KINDS, STEPS, render, write
from labkit.deploy.settings import Deployment
from labkit.deploy.validators import VALIDATORS, kind_of, validate
from labkit.errors import EngineUnavailable, OptionInvalid

ODD = Deployment(name="a-1", gpu_node="0x10", backends="1e3", cpu=0.5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"image": "labkit"}, "not pinned"),
        ({"image": "labkit:latest"}, "not pinned"),
        ({"name": "on"}, "name cannot be"),
        ({"name": "a\nb"}, "name cannot be"),
        ({"host": "a.example; rm"}, "host cannot be"),
        ({"backends": 'a=b" \n'}, "backends cannot be"),
        ({"binary": "/bin/sh -c evil"}, "binary cannot be"),
        ({"port": 80}, "from 1024"),
        ({"port": True}, "of type int"),
        ({"memory_gb": float("nan")}, "memory_gb cannot be"),
        ({"replicas": 9, "max_replicas": 3}, "below replicas"),
        ({"gateway": "javascript:alert(1)"}, "gateway cannot be"),
    ],
)
def test_a_wrong_value_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(OptionInvalid, match=said):
        Deployment(**wrong)  # type: ignore[arg-type]


def test_settings_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "d.toml"
    file.write_text('host = "ai.example.org"\nreplicas = 3\n')
    assert (Deployment.read(file).host, Deployment.read(file, replicas=4).replicas) == ("ai.example.org", 4)
    file.write_text("hots = 'x'\n")
    with pytest.raises(OptionInvalid, match="hots"):
        Deployment.read(file)
    file.write_text("= 1")
    with pytest.raises(OptionInvalid, match="no TOML"):
        Deployment.read(file)
    with pytest.raises(OptionInvalid, match="no kind"):
        render(Deployment(), ("podman",))


@pytest.mark.parametrize("d", [Deployment(), ODD], ids=["usual", "odd"])
def test_every_file_can_be_read_and_every_value_keeps_its_type(d: Deployment) -> None:
    files = render(d)
    assert all(any(name in render(d, (kind,)) for kind in KINDS) for name in files)
    for name, text in files.items():
        if name.endswith((".yaml", ".yml")):
            assert list(yaml.safe_load_all(text))
        elif name.endswith(".json"):
            json.loads(text)
        elif name.endswith(".py"):
            compile(text, name, "exec")
    pod = yaml.safe_load(files["kubernetes/vllm-staging.yaml"].split("---")[0])["spec"]["template"]["spec"]
    assert pod["nodeSelector"]["accelerator"] == d.gpu_node
    compose = yaml.safe_load(files["compose.yaml"])
    assert compose["services"]["gateway"]["environment"]["LABKIT_SERVE_BACKENDS"] == d.backends
    mounted = {m.split(":")[0] for one in compose["services"].values() for m in one.get("volumes", [])}
    assert {name[2:] for name in mounted if name.startswith("./")} - {"tls"} <= files.keys()
    assert files.keys() >= {"alerts.yml", "grafana/labkit.json"}
    assert all(
        not re.search(r"(?i)(password|key|token)\s*[:=]\s*['\"]?\w{12,}", text) for text in files.values()
    )


def test_what_the_manifests_promise() -> None:
    d = Deployment(grace=40)
    documents = {one["kind"]: one for one in yaml.safe_load_all(render(d)["kubernetes/gateway.yaml"])}
    assert set(documents) == {
        "Deployment", "Service", "Ingress", "HorizontalPodAutoscaler", "PodDisruptionBudget"
    }  # fmt: skip
    pod = documents["Deployment"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > d.grace + 5 and pod["securityContext"]["runAsNonRoot"]
    assert all(one["securityContext"]["readOnlyRootFilesystem"] for one in pod["containers"])
    scaling = documents["HorizontalPodAutoscaler"]["spec"]["behavior"]
    up, down = (scaling[way]["stabilizationWindowSeconds"] for way in ("scaleUp", "scaleDown"))
    assert up < down
    for step in STEPS:
        canary = list(yaml.safe_load_all(render(d)[f"rollout/{step:02}-percent.yaml"]))
        notes = canary[-1]["metadata"]["annotations"]
        assert notes["nginx.ingress.kubernetes.io/canary-weight"] == str(step)
        assert canary[0]["metadata"]["name"] == "labkit-canary"


def test_the_image_takes_in_only_what_the_dockerfile_copies() -> None:
    files = render(Deployment())
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(.*)$", files["Dockerfile"], re.M)
        for word in line.split()[:-1]
    }
    ignored = files["Dockerfile.dockerignore"].splitlines()
    assert ignored[1] == "*" and {line[1:] for line in ignored if line.startswith("!")} == copied
    assert all((Path(__file__).parents[2] / name).exists() for name in copied)
    assert files["Dockerfile"].index("\nUSER 10001") < files["Dockerfile"].index("\nENTRYPOINT")


def sound(path: Path) -> None:
    assert kind_of(path) and validate(kind_of(path), path) == ""


def broken(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")
    assert validate(kind_of(path), path) != ""


# Name, what stands there, what a hand that slips makes of it. Every kind of file is in one of the three lists.
BREAKS = [
    ("kubernetes/gateway.yaml", "maxSurge: 1", "maxSurge: 1\n      maxSurplus: 1"),  # Deployment
    ("kubernetes/gateway.yaml", "targetPort: http", "targetPort: [http]"),  # Service
    ("kubernetes/gateway.yaml", "pathType: Prefix", "pathKind: Prefix"),  # Ingress
    ("kubernetes/gateway.yaml", "minReplicas: 2", 'minReplicas: "two"'),  # HorizontalPodAutoscaler
    ("kubernetes/gateway.yaml", "maxUnavailable: 1\n", "maxUnavailable: {one: 1}\n"),  # PodDisruptionBudget
    ("kubernetes/vllm-enterprise.yaml", "nodeSelector:", "nodeSelektor:"),
    ("rollout/05-percent.yaml", "apiVersion: apps/v1", "apiVersion: apps/v9"),
    ("kubernetes/ray.yaml", "groupName: gateways", "groupNames: gateways"),  # KubeRay's schema
    ("kubernetes/ray.yaml", "dashboard-host: 0.0.0.0", "dashboard-host: 0"),
    ("kubernetes/ray.yaml", "minReplicas: 2", "minReplicas: two"),
    ("kubernetes/ray.yaml", "        spec:", "        spek:"),  # Kubernetes'
    ("edge/cluster.yaml", "failover: automatic", "failover: perhaps"),
    ("edge/device.yaml", "alias: nano", "alias: nobody"),
    ("Dockerfile.dockerignore", "!labkit\n", ""),
    ("Dockerfile.dockerignore", "\n*\n", "\n"),
    ("Dockerfile.dockerignore", "**/*.pyc", "*.pyc"),
    ("grafana/datasource.yml", "url:", "uri:"),
    ("grafana/provider.yml", "options:", "option:"),
    ("lambda/handler.py", "import json", "import requests"),
    ("lambda/handler.py", "def handler(event, context):", "def handler(event, context)"),
    ("vercel/api/index.py", "import httpx", "import aiohttp"),
    ("vercel/requirements.txt", "httpx>=0.28,<1", "httpx"),
    ("vercel/requirements.txt", "httpx>=0.28,<1", "httpx=>0.28"),
]
HEAVY = [
    ("compose.yaml", "depends_on:", "depend_on:"),
    ("systemd/labkit.service", "Restart=on-failure", "Restart=perhaps"),
    ("systemd/labkit.service", "NoNewPrivileges", "NoNewPrivilege"),
    ("nginx.conf", "proxy_buffering off;", "proxy_buffering off"),
    ("lambda/template.yaml", "MemorySize: 256", "MemorySizes: 256"),
    ("lambda/template.yaml", "Runtime: python3.12", "Runtime: python2.7"),
    ("Dockerfile", "USER 10001", "USR 10001"),
    ("Dockerfile", "--start-period", "--start-time"),
    ("prometheus.yml", "scrape_interval", "scrape_intervall"),
    ("prometheus.yml", "- alerts.yml", "- alert.yml"),
    ("prometheus.yml", "credentials_file", "credentials_path"),
    ("alerts.yml", "labkit_backend_up == 0", "labkit_backend_up = 0"),
    ("grafana/labkit.json", "sum(labkit_backend_up", "sum((labkit_backend_up"),
    ("worker/wrangler.json", '"vars"', '"varz"'),
    ("worker/worker.js", "export default {", "export default {{"),
    ("vercel/vercel.json", "(.*)", "(.*"),
    ("vercel/vercel.json", '"rewrites"', '"rewrite"'),
    ("vercel/vercel.json", "/api/index", "/api/entry"),
]
RAY = [("kubernetes/ray.yaml", "labkit.deploy.ray_entry:app", "labkit")]


@pytest.mark.parametrize(("name", "old", "new"), BREAKS, ids=lambda text: text[:24])
def test_a_sound_file_passes_and_its_broken_copy_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, old: str, new: str
) -> None:
    write(render(Deployment()), tmp_path)
    if name.endswith("ray.yaml"):  # Ray itself is asked below
        monkeypatch.setitem(sys.modules, "ray.serve.schema", None)
        with pytest.raises(EngineUnavailable, match="the rest is sound"):
            validate("ray", tmp_path / name)
    else:
        sound(tmp_path / name)
    broken(tmp_path / name, old, new)


@pytest.mark.heavy
@pytest.mark.parametrize(("name", "old", "new"), HEAVY, ids=lambda text: text[:24])
def test_a_tool_passes_the_sound_file_and_fails_its_broken_copy(
    tmp_path: Path, npm: Path, name: str, old: str, new: str
) -> None:
    write(render(Deployment()), tmp_path)
    sound(tmp_path / name)
    broken(tmp_path / name, old, new)


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own
def test_ray_reads_what_a_cluster_serves(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="labkit[ray] is not installed")  # make test-engines has it
    write(render(Deployment()), tmp_path)
    for name, old, new in RAY:
        sound(tmp_path / name)
        broken(tmp_path / name, old, new)


def test_every_file_has_a_validator_and_every_validator_a_broken_copy(tmp_path: Path) -> None:
    paths = write(render(Deployment()), tmp_path)
    assert [path.name for path in paths if not kind_of(path)] == []
    broken_ones = [tmp_path / name for name, *_ in [*BREAKS, *HEAVY, *RAY]]
    assert {kind_of(path) for path in broken_ones} == VALIDATORS.keys()
    kinds = {(kind_of(path), path.suffix) for path in broken_ones}
    assert {(kind_of(path), path.suffix) for path in paths} <= kinds
