"""A hub's files: Zero to JupyterHub's own schema, TLJH's names, JupyterHub's traits, and hostile settings."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from labkit.classroom.hub import Hub, read, render
from labkit.cli import app
from labkit.errors import OptionInvalid


def partial(schema: Any) -> Any:
    """Drop what must be there: Helm asks for it once the chart's own defaults lie beneath these values."""
    if isinstance(schema, dict):
        return {k: partial(v) for k, v in schema.items() if not (k == "required" and isinstance(v, list))}
    return [partial(one) for one in schema] if isinstance(schema, list) else schema


SCHEMA = partial(json.loads(Path(__file__).with_name("z2jh_values_schema.json").read_text("utf-8")))
# The defaults of the-littlest-jupyterhub's configurer.py (July 2026): what else stands in a config.yaml is ignored.
TLJH: dict[str, Any] = {
    "users": {"allowed", "banned", "admin", "extra_user_groups"},
    "limits": {"memory", "cpu"},
    "https": {"enabled", "address", "port", "tls", "letsencrypt"},
    "user_environment": {"default_app"},
    "services": {"cull"},
}
CASES = [Hub(), Hub(class_url="https://class.example.org", students=200, memory_gb=4, cpu=0.5)]


@pytest.mark.parametrize("hub", CASES, ids=["default", "large"])
def test_zero_to_jupyterhub_takes_the_values(hub: Hub) -> None:
    values = yaml.safe_load(render(hub)["z2jh/values.yaml"])
    jsonschema.validate(values, SCHEMA)
    user = values["singleuser"]
    assert user["memory"]["limit"] == f"{hub.memory_gb:g}G" and user["cpu"]["limit"] == hub.cpu
    assert user["extraEnv"]["OPENAI_BASE_URL"] == hub.endpoint
    assert user["extraEnv"].get("LABKIT_CLASS_URL", "") == hub.class_url
    assert f"{user['image']['name']}:{user['image']['tag']}" == hub.image


def test_the_schema_finds_a_misspelt_value() -> None:
    text = render(Hub())["z2jh/values.yaml"].replace("guarantee:", "garantee:")
    with pytest.raises(jsonschema.ValidationError, match="garantee"):
        jsonschema.validate(yaml.safe_load(text), SCHEMA)


def test_students_servers_may_reach_the_endpoint() -> None:
    kubernetes = pytest.importorskip("kubernetes_validate")
    values = yaml.safe_load(render(Hub(endpoint="https://agents.example.org:8443/v1"))["z2jh/values.yaml"])
    egress = values["singleuser"]["networkPolicy"]["egress"]
    assert egress[0]["ports"][0]["port"] == 8443
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "test"}}
    policy["spec"] = {"podSelector": {}, "policyTypes": ["Egress"], "egress": egress}
    kubernetes.validate(policy, kubernetes.latest_version(), strict=True)


@pytest.mark.parametrize("hub", CASES, ids=["default", "large"])
def test_tljh_knows_every_name(hub: Hub) -> None:
    config = yaml.safe_load(render(hub)["tljh/config.yaml"])
    assert config.keys() <= TLJH.keys()
    assert [name for part in config for name in config[part] if name not in TLJH[part]] == []
    assert config["limits"] == {"memory": f"{hub.memory_gb:g}G", "cpu": hub.cpu}


@pytest.mark.parametrize("hub", CASES, ids=["default", "large"])
def test_the_snippet_is_python_and_holds_no_secret(hub: Hub) -> None:
    text = render(hub)["tljh/labkit.py"]
    compile(text, "labkit.py", "exec")
    assert "labkit.key" in text and ("LABKIT_CLASS_URL" in text) == bool(hub.class_url)


def test_the_link_fetches_the_labs_and_opens_the_first() -> None:
    link = urlsplit(Hub(repo="https://git.example.org/a/labs.git", branch="2026/spring").link)
    asked = {name: value[0] for name, value in parse_qs(link.query).items()}
    assert link.path == "/hub/user-redirect/git-pull"
    assert asked["repo"] == "https://git.example.org/a/labs.git" and asked["branch"] == "2026/spring"
    assert asked["urlpath"] == "lab/tree/labs/labs/01_meet_your_machine.ipynb"
    assert Hub().link in render(Hub())["README.md"]


@pytest.mark.parametrize(
    "word",
    [
        "host=hub.example.org\nx: y",
        "repo=git@example.org:a/b.git",
        "repo=https://user:key@example.org/a.git",
        'endpoint=https://a.example.org/v1",x: "',
        "endpoint=http://agents.example.org/v1",
        "image=labs",
        "admin=a]: b",
        "students=0",
        "students=many",
        "memory_gb=nan",
        "color=red",
    ],
)
def test_a_setting_that_could_break_a_file_is_refused(word: str) -> None:
    with pytest.raises(OptionInvalid):
        if word.startswith("image="):
            read([word]), render(Hub(image=word))
        read([word])


def test_the_command_writes_the_files(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["classroom", "hub", str(tmp_path), "--set", "students=12"])
    assert found.exit_code == 0, found.output
    assert "A hub for 12 students" in (tmp_path / "README.md").read_text()
    assert Hub().link in found.output.replace("\n", "")
