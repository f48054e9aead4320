"""Agent Lightning 1.x beside labkit: its gateway and its controller, as processes on loopback, with a key.

They run in an environment of their own (`labkit engines install agentlightning`). The gateway stands between agents
and a model's endpoint, keeps every request and every reward; the controller starts a process for each rollout. The
part that trains needs GPUs, and is another program: what it would be told is in `cluster.py`.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from labkit.engines.environments import python_of
from labkit.engines.process import ServerProcess, ServerSettings, free_port
from labkit.errors import EngineFailed, EngineTimeout
from labkit.training.rollouts import Rollout, Turn, checked, turn_of
from labkit.types import Usage

LOOK_EVERY_S = 0.2
START_S, GRACE_S = 120.0, 8.0
BESIDE = str(Path(__file__).with_name("beside"))


class Lightning(AbstractContextManager["Lightning"]):
    """Run agents through Agent Lightning's gateway, `at_once` at a time.

    `address` is an OpenAI endpoint that takes requests without a header, as `Recorder.address` does: the gateway
    sends none. Rollouts to train on are drawn at `temperature`, others greedily. Raises `EngineUnavailable` where
    Agent Lightning is not installed, `EngineFailed` or `EngineTimeout` where it does not start.
    """

    def __init__(self, address: str, model: str = "nano", at_once: int = 2, temperature: float = 1.0) -> None:
        import httpx

        self.url, key = f"http://127.0.0.1:{free_port()}", secrets.token_urlsafe(24)
        self._folder, self._seen = tempfile.TemporaryDirectory(), 0
        # The key is in no command line, where others could read it. -I shuts labkit's own packages out.
        self._env = {"AGL_KEY": key, "PYTHONPATH": BESIDE, "PYTHONSAFEPATH": "1"}
        bearer = {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=self.url, headers=bearer, timeout=60, trust_env=False)
        sampling = (f"default_proxy.train.temperature={temperature}", "default_proxy.val.temperature=0")
        place = ("host=127.0.0.1", f"port={self.url.rpartition(':')[2]}", "key=${oc.env:AGL_KEY}")
        owner = ("runner_type=local", f"agl_server.url={self.url}", "agl_server.key=${oc.env:AGL_KEY}")
        pace = (f"local_runner.maximum_size={at_once}", f"local_runner.poll_interval={LOOK_EVERY_S}")
        with ExitStack() as undo:
            undo.callback(self._folder.cleanup)
            undo.callback(self._http.close)
            self.gateway = self._start("server", *place, f"default_proxy.model_name={model}", *sampling)
            undo.callback(self.gateway.stop)
            self.controller = self._start("controller", *owner, *pace)
            undo.callback(self.controller.stop)
            self._ask("POST", "/api/models", json=[{"model": model, "endpoint": address}])
            self._ends = undo.pop_all()

    def run(
        self,
        command: Sequence[str],
        tasks: Sequence[Any],
        *,
        train: bool = True,
        reward: Callable[[Rollout], float] | None = None,
        timeout: float = 300.0,
    ) -> list[Rollout]:
        """Run an agent's command once for each task; return its rollouts in that order.

        It finds OPENAI_BASE_URL, OPENAI_API_KEY and TASK in its environment: a text as it is, anything else as JSON.
        Its own reward is the last it reported (`report`); `reward` judges the others. `timeout` is for each, in s.
        """
        # What our own Python goes by, and the gateway's must not.
        env = {name: os.environ.get(name, "") for name in ("PYTHONPATH", "PYTHONSAFEPATH")}
        given = {"LABKIT_COMMAND": json.dumps(list(command)), "LABKIT_ENV": json.dumps(env)}
        local = {"agent_class": "labkit_command:Command", "env_map": {**given, "TASK": "input.task"}}
        config = {"timeout_seconds": max(1, round(timeout)), "local": local}
        wanted = [{"input": {"task": task}, "is_train": train, "config": config} for task in tasks]
        ids = [made["rollout_id"] for made in self._ask("POST", "/api/rollouts", json=wanted)]
        waiting, until = set(ids), time.monotonic() + timeout * len(ids) + 60
        while waiting:
            if self.controller.ended():
                raise self.controller.failure()
            if time.monotonic() > until:
                raise EngineTimeout(f"{len(waiting)} rollouts did not end", fix="give more time: timeout=")
            page = self._ask("GET", "/api/rollouts/terminal", params={"after": self._seen})
            self._seen = page["next_after"]
            waiting -= {item["rollout_id"] for item in page["items"]}
            time.sleep(LOOK_EVERY_S)
        return [self._collect(id, task, reward) for id, task in zip(ids, tasks, strict=True)]

    def close(self) -> None:
        """Stop the controller, then the gateway: what it kept is gone. Calling it twice is harmless."""
        self._ends.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, part: str, *settings: str) -> ServerProcess:
        apart = (f"hydra.run.dir='{self._folder.name}'", "hydra.output_subdir=null")  # not where we are now
        module = ("-I", "-m", f"agentlightning.{part}")
        command = (str(python_of("agentlightning")), *module, *settings, *apart)
        ready = f"{self.url}/healthz"
        return ServerProcess(ServerSettings("agentlightning", command, ready, self._env, START_S, GRACE_S))

    def _collect(self, id: str, task: Any, judge: Callable[[Rollout], float] | None) -> Rollout:
        status = self._ask("GET", f"/api/rollouts/{id}")["rollout"]["status"]
        events, began = self._ask("GET", f"/api/rollouts/{id}/events"), status["created_at"]
        turns = tuple(turn_from(event, began) for event in events if event["event_type"] == "model_request")
        rewards = [checked(event["data"].get("value")) for event in events if event["event_type"] == "reward"]
        found = Rollout(id, task, turns, rewards[-1] if rewards else None, status.get("error_message") or "")
        if found.reward is None and judge and not found.error:
            found = replace(found, reward=checked(judge(found)))
            told = {"event_type": "reward", "data": {"value": found.reward, "source": "labkit"}}
            self._ask("POST", f"/api/rollouts/{id}/attempt/0/events", json=told)
        return found

    def _ask(self, method: str, path: str, **content: Any) -> Any:
        import httpx

        try:
            answer = self._http.request(method, path, **content)
        except httpx.HTTPError as exc:
            raise self.gateway.failure(f"broke off ({type(exc).__name__})") from exc
        if not answer.is_success:
            what = f"Agent Lightning answered {answer.status_code}: {answer.text[:200]}"
            raise EngineFailed(what, fix=f"see {self.gateway.log}")
        return answer.json()


def turn_from(event: Mapping[str, Any], began: float) -> Turn:
    """Return a `model_request` of the gateway as a turn; its clock began with the rollout's creation."""
    data, seconds = event["data"], (event["data"].get("latency_ms") or 0.0) / 1e3
    answer, used = data["response"], data.get("usage") or {}
    turn = turn_of(data["request"], at=event["timestamp"] - seconds - began, seconds=seconds)
    if data["status"] != "ok":
        return replace(turn, error=json.dumps(answer))
    (choice,) = answer["choices"]
    scores = (choice.get("logprobs") or {}).get("content") or ()
    return replace(
        turn,
        reply=choice["message"],
        finish_reason=choice["finish_reason"],
        usage=Usage(used.get("prompt_tokens", 0), used.get("completion_tokens", 0)),
        prompt_ids=tuple(answer.get("prompt_token_ids") or ()),
        token_ids=tuple(choice.get("token_ids") or ()),
        logprobs=tuple(piece["logprob"] for piece in scores),
    )


def report(reward: float) -> None:
    """Tell the gateway a reward, from within an agent that it started."""
    import httpx

    told = {"event_type": "reward", "data": {"value": checked(reward), "source": "agent"}}
    bearer = {"Authorization": f"Bearer {os.environ['AGL_KEY']}"}
    httpx.post(os.environ["AGL_EVENT_URL"], json=told, headers=bearer, trust_env=False).raise_for_status()
