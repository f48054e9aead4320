"""Agent Lightning: the same agent, traced and rewarded by its gateway (heavy), and the settings of a cluster."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("fastapi", reason="needs fastapi: pip install 'labkit[serve]'")

import httpx

from labkit import load
from labkit.engines.environments import find_python, python_of, version_of
from labkit.engines.process import ServerProcess
from labkit.errors import EngineFailed, EngineUnavailable, OptionInvalid, TrainingFailed
from labkit.training.cluster import Cluster
from labkit.training.lightning import Lightning, turn_from
from labkit.training.rollouts import Recorder, RolloutServer, examples, only

AGENT = """
import json, os
import openai

task = json.loads(os.environ["TASK"])
client = openai.OpenAI()  # the address and the key are in the environment
if task["ask"] == "fail":
    raise SystemExit(3)
for agent in ("router", "specialist"):
    messages = [{"role": "user", "content": task["ask"]}]
    print(client.chat.completions.create(model="nano", messages=messages, user=agent, max_tokens=8))
if "reward" in task:
    from labkit.training.lightning import report
    report(task["reward"])
"""


def missing() -> str:
    """Say what is missing for Agent Lightning to run here, "" where it is installed."""
    if version_of("agentlightning"):
        return ""
    try:
        return f"labkit engines install agentlightning (with {find_python(('3.12', '3.13'))})"
    except EngineUnavailable as error:
        return str(error)


@pytest.fixture(scope="module")
def installed() -> Path:
    if why := missing():
        if os.environ.get("CI") and "(with" in why:
            pytest.fail(f"Agent Lightning can run here, and has to in CI: {why}")
        pytest.skip(f"Agent Lightning is not installed: {why}")
    return python_of("agentlightning")


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("agent") / "agent.py"
    path.write_text(AGENT, "utf-8")
    return [sys.executable, str(path)]


@pytest.fixture(scope="module")
def team(installed: Path) -> Iterator[tuple[Lightning, Recorder]]:
    pytest.importorskip("llama_cpp", reason="needs llama-cpp-python: pip install 'labkit[llamacpp]'")
    with ExitStack() as stack:
        server = stack.enter_context(
            RolloutServer(stack.enter_context(load("nano", engine="llamacpp", threads=1)))
        )
        behind = stack.enter_context(server.rollout("everything that the gateway asks"))
        yield stack.enter_context(Lightning(behind.address)), behind


@pytest.mark.heavy
def test_the_same_agent_is_traced_and_rewarded_through_the_gateway(
    team: tuple[Lightning, Recorder], agent: list[str]
) -> None:
    lightning, behind = team
    tasks = [{"ask": "Say hello.", "reward": 0.75}, {"ask": "Who are you?"}, {"ask": "fail"}]
    told, judged, failed = lightning.run(agent, tasks, reward=lambda rollout: len(rollout.turns))
    assert told.reward == 0.75 and judged.reward == 2.0, (told, judged)
    assert failed.reward is None and "exited with code" in failed.error and failed.turns == ()
    for rollout, task in ((told, tasks[0]), (judged, tasks[1])):
        assert rollout.task == task and not rollout.error
        for turn in rollout.turns:
            assert turn.messages == [{"role": "user", "content": task["ask"]}]
            assert turn.reply["role"] == "assistant" and turn.options["temperature"] == 1
            assert turn.prompt_ids and 0 < len(turn.token_ids) == len(turn.logprobs) <= 9
            assert turn.usage.prompt_tokens == len(turn.prompt_ids) and turn.seconds > 0
    assert len(behind.turns) >= 4 and {turn.agent for turn in behind.turns} == {"router", "specialist"}
    routed = only([told, judged, failed], "router")
    assert [len(rollout.turns) for rollout in routed] == [1, 1]
    assert [e.messages[0]["content"] for e in examples(routed)] == ["Who are you?"]


@pytest.mark.heavy
def test_what_is_no_training_is_greedy_and_a_slow_agent_is_ended(
    team: tuple[Lightning, Recorder], agent: list[str]
) -> None:
    lightning, _ = team
    (rollout,) = lightning.run(agent, [{"ask": "Say hello."}], train=False)
    assert {turn.options["temperature"] for turn in rollout.turns} == {0} and rollout.reward is None
    slow = [sys.executable, "-c", "import time; time.sleep(600)"]
    (rollout,) = lightning.run(slow, ["text"], timeout=1)
    assert "timed out" in rollout.error
    with pytest.raises(TrainingFailed):
        lightning.run(agent, [{"ask": "Say hello."}], reward=lambda _: float("nan"))


@pytest.mark.heavy
def test_the_gateway_is_on_loopback_with_a_key_that_no_command_line_shows(
    team: tuple[Lightning, Recorder], agent: list[str]
) -> None:
    lightning, _ = team
    for path in ("/api/rollouts/terminal", "/proxy/state"):
        assert httpx.get(f"{lightning.url}{path}").status_code == 401
    key = lightning._http.headers["authorization"].removeprefix("Bearer ")
    for part in (lightning.gateway, lightning.controller):
        assert len(key) > 20 and key not in " ".join(psutil.Process(part.pid).cmdline())
    listening = psutil.Process(lightning.gateway.pid).net_connections()
    assert {c.laddr.ip for c in listening if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
    assert not Path("outputs").exists(), "Hydra writes into the working directory"


def pid_of(process: ServerProcess) -> int:
    """Return the server's own process id; a busy machine needs a moment to start it under its guard."""
    for _ in range(100):
        try:
            return process.pid
        except EngineFailed:
            time.sleep(0.1)
    return process.pid


@pytest.mark.heavy
def test_its_processes_end_with_it(installed: Path) -> None:
    with Lightning("http://127.0.0.1:9/v1") as lightning:
        pids = [pid_of(lightning.gateway), pid_of(lightning.controller)]
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_without_its_environment_it_says_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    with pytest.raises(EngineUnavailable) as caught:
        Lightning("http://127.0.0.1:9/v1")
    assert caught.value.fix == "labkit engines install agentlightning"


def test_an_event_of_the_gateway_becomes_a_turn() -> None:
    piece = {"token": "token_id:7", "logprob": -0.5}
    choice = {"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop", "token_ids": [7]}
    data = {
        "request": {
            "model": "nano",
            "messages": [{"role": "user", "content": "x"}],
            "temperature": 1,
            "user": "router",
        },
        "response": {"prompt_token_ids": [1, 2], "choices": [{**choice, "logprobs": {"content": [piece]}}]},
        "latency_ms": 250.0,
        "status": "ok",
        "usage": {"prompt_tokens": 2, "completion_tokens": 1},
    }
    turn = turn_from({"timestamp": 11.0, "data": data}, 10.0)
    assert (turn.agent, turn.at, turn.seconds, turn.options) == (
        "router",
        0.75,
        0.25,
        {"temperature": 1, "user": "router"},
    )
    assert (turn.prompt_ids, turn.token_ids, turn.logprobs) == ((1, 2), (7,), (-0.5,))
    broken = turn_from(
        {"timestamp": 11.0, "data": {**data, "status": "error", "response": {"error": "no"}}}, 10.0
    )
    assert "no" in broken.error and broken.reply == {}


def test_a_clusters_files_are_rendered_from_its_settings() -> None:
    yaml = pytest.importorskip("yaml")
    made = Cluster(model='a "b"', nodes=4, gpus=2, tensor_parallel=8, samples=3, kl=0.5, image="x/agent:2")
    files = made.files()
    assert set(files) == {"Dockerfile", "controller.yaml", "job.yaml", "server.yaml", "trainer.yaml"}
    trainer, server = yaml.safe_load(files["trainer.yaml"]), yaml.safe_load(files["server.yaml"])
    assert trainer["trainer"]["nnodes"] == 4 and trainer["trainer"]["n_gpus_per_node"] == 2
    assert trainer["actor_rollout_ref"]["model"]["path"] == server["default_proxy"]["model_name"] == 'a "b"'
    assert trainer["actor_rollout_ref"]["rollout"]["n"] == 3
    assert float(trainer["actor_rollout_ref"]["actor"]["optim"]["lr"]) == made.learning_rate
    assert yaml.safe_load(files["controller.yaml"])["agl_server"]["url"] == made.gateway
    keys = [value for text in files.values() for value in text.splitlines() if "key: " in value]
    assert len(keys) == 3 and all("${oc.env:AGL_KEY}" in value for value in keys), "no key is in a file"
    text = "".join(files.values())
    for setting in fields(Cluster):
        other = getattr(made, setting.name) * 2 if setting.name != "tensor_parallel" else 4
        assert "".join(Cluster(**{**asdict(made), setting.name: other}).files().values()) != text, (
            setting.name
        )


WRONG = [
    *({"nodes": 0}, {"gpus": 1.5}, {"samples": "8"}, {"tensor_parallel": 3}),
    *({"learning_rate": float("nan")}, {"learning_rate": 0}, {"kl": -1}, {"kl": float("inf")}),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_cluster_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionInvalid):
        Cluster(**wrong)


CHECK = """
import json, sys
from importlib.resources import files
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from agentlightning.controller.k8s_reconciler import build_job_spec
from agentlightning.schemas import Rollout, RolloutConfig, RolloutK8sConfig, RolloutLifecycleStatus

folder, verl, package = *sys.argv[1:], files("agentlightning")

def laid_over(base, name):
    OmegaConf.set_struct(base, True)  # a name that the program does not know is an error
    if "actor_rollout_ref" in base:  # vLLM's own flags: VERL hands them on as they are
        OmegaConf.set_struct(base.actor_rollout_ref.rollout.engine_kwargs.vllm, False)
    return OmegaConf.merge(base, OmegaConf.load(f"{folder}/{name}"))

with initialize_config_dir(config_dir=str(package / "verl"), version_base=None):
    base = compose("config", overrides=[f"hydra.searchpath=[file://{verl}/trainer/config]"])
trainer = laid_over(base, "trainer.yaml")
for name in ("server", "controller"):
    laid_over(OmegaConf.load(str(package / "config" / f"{name}.yaml")), f"{name}.yaml")
controller = OmegaConf.load(f"{folder}/controller.yaml")
controller.agl_server.key = "secret"
jobs = []
for task in ("say: \\"hi\\" # {{ x }}\\n- Łódź", {"a": [1, "'"]}):
    status = RolloutLifecycleStatus(created_at=0.0, updated_at=0.0)
    config = RolloutConfig(k8s=RolloutK8sConfig(job_template=open(f"{folder}/job.yaml").read()))
    jobs.append(build_job_spec(Rollout(rollout_id="7", input={"task": task}, config=config, status=status), controller))
print(json.dumps({"jobs": jobs, "n": trainer.actor_rollout_ref.rollout.n, "nodes": trainer.trainer.nnodes}))
"""


@pytest.mark.heavy
def test_agent_lightning_and_verl_know_every_name_in_the_files(installed: Path, tmp_path: Path) -> None:
    for name, text in Cluster(nodes=4, samples=3).files().items():
        (tmp_path / name).write_text(text, "utf-8")
    (verl,) = installed.parents[1].glob("lib/python3*/site-packages/verl")
    command = [str(installed), "-I", "-c", CHECK, str(tmp_path), str(verl)]
    done = subprocess.run(command, capture_output=True, text=True, env={"AGL_KEY": "secret"})
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["n"], told["nodes"]) == (3, 4)
    for job, task in zip(told["jobs"], ('say: "hi" # {{ x }}\n- Łódź', {"a": [1, "'"]}), strict=True):
        (container,) = job["spec"]["template"]["spec"]["containers"]
        env = {entry["name"]: entry["value"] for entry in container["env"]}
        assert (env["TASK"] if isinstance(task, str) else json.loads(env["TASK"])) == task
        assert list(env).index("AGL_KEY") < list(env).index("OPENAI_API_KEY"), (
            "Kubernetes fills in earlier ones"
        )
        assert env["AGL_KEY"] == "secret" and env["AGL_OPENAI_BASE_URL"].endswith("/openai/v1")
        assert job["spec"]["backoffLimit"] == 0 and job["metadata"]["name"] == "agl-rollout-7"
    for part in ("server", "controller"):  # they read the very files
        how = [f"--config-path={tmp_path}", f"--config-name={part}", "--cfg=job", "--resolve"]
        command = [str(installed), "-I", "-m", f"agentlightning.{part}", *how]
        shown = subprocess.run(
            command, capture_output=True, text=True, env={"AGL_KEY": "secret"}, cwd=tmp_path
        )
        assert "key: secret" in shown.stdout, shown.stderr
