"""Rollouts of agents in any framework: a local OpenAI endpoint that keeps what is asked and what is answered.

An agent is given an address and a key, and runs unchanged. The key says which rollout a request belongs to, so
agents may run side by side. How agents work is unknown here; what OpenAI's API says is in `rollout_endpoint.py`.
"""

from __future__ import annotations

import itertools
import json
import math
import secrets
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from labkit.engines.base import Model
from labkit.engines.messages import check_messages
from labkit.errors import EngineFailed, OptionInvalid, TrainingFailed
from labkit.models.jsonl import read_lines
from labkit.models.store import storage_errors
from labkit.training.data import Example
from labkit.types import GenerationOptions, Message, Tool, Usage

START_S = 30.0


@dataclass(frozen=True, slots=True)
class Turn:
    """Keep one request and its reply. `agent` is who asked: the request's `user`, or else the model's name in it.

    Token ids are what the model really read and sampled, with ln p of each sampled one, where the engine tells and
    they were asked for. Times are seconds, `at` since the rollout began; `error` is why there is no reply.
    """

    agent: str
    messages: list[Message]
    tools: list[Tool]
    options: Mapping[str, Any]
    reply: Message = field(default_factory=dict)
    finish_reason: str = ""
    usage: Usage = Usage(0, 0)
    at: float = 0.0
    seconds: float = 0.0
    prompt_ids: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    error: str = ""


def turn_of(body: Mapping[str, Any], **known: Any) -> Turn:
    """Return the turn of a request by OpenAI's API, with what else is known of it."""
    rest = {name: value for name, value in body.items() if name not in ("messages", "tools", "model")}
    agent = str(body.get("user") or body.get("model") or "")
    return Turn(agent, body["messages"], body.get("tools") or [], rest, **known)


@dataclass(frozen=True, slots=True)
class Rollout:
    """Keep one run of an agent, or of a team, on one task. `reward` is None where nobody gave any."""

    id: str
    task: Any
    turns: tuple[Turn, ...]
    reward: float | None = None
    error: str = ""

    def __str__(self) -> str:
        reward = "no reward" if self.reward is None else f"reward {self.reward:g}"
        agents = ", ".join(dict.fromkeys(turn.agent for turn in self.turns)) or "nobody"
        return (
            f"{self.id}: {reward}, {len(self.turns)} requests by {agents}{self.error and f' ({self.error})'}"
        )


class Recorder:
    """Hold a rollout that goes on: `url` and `key` are for the agent, `reward` is for whoever judges it.

    `address` holds the key as well, for clients that send none.
    """

    def __init__(self, url: str, number: int) -> None:
        self.key, self.url, self.number = secrets.token_urlsafe(24), url, number
        self.address = f"{url.removesuffix('/v1')}/{self.key}/v1"
        self.began, self.turns, self.asked = time.perf_counter(), list[Turn](), 0
        self.value: float | None = None

    def reward(self, value: float) -> None:
        """Say how good the outcome was; the last word counts. Raises `TrainingFailed` for what is no number."""
        self.value = checked(value)


def checked(value: Any) -> float:
    """Return a reward as it is; raise `TrainingFailed` for what is no finite number."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise TrainingFailed(f"a reward of {value!r:.80}", fix="give a finite number, as in 1.0")
    return float(value)


class RolloutServer(AbstractContextManager["RolloutServer"]):
    """Serve a loaded model to agents on this machine's loopback, from a thread of this process; `rollouts` have ended.

    `options` are fields of `GenerationOptions` that hold whatever a request says, as in `temperature=1.0`. What a
    request leaves open is OpenAI's default, temperature 1 among it; its seed follows from `seed`, the rollout's number
    and the request's. `token_ids` records token ids and ln p, even of requests that ask for none. The model stays
    the caller's.
    """

    def __init__(self, model: Model, *, seed: int = 0, token_ids: bool = False, **options: Any) -> None:
        import uvicorn

        from labkit.training.rollout_endpoint import create_app

        GenerationOptions.of(None, **options)  # raises for what makes no sense
        if token_ids and not model.engine.logits:
            raise OptionInvalid(f"{model.engine.name} shows no token ids", fix="load(…, engine='llamacpp')")
        self.model, self.seed, self.token_ids, self.options = model, seed, token_ids, options
        self.rollouts, self.open, self._numbers = list[Rollout](), dict[str, Recorder](), itertools.count(1)
        link = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{link.getsockname()[1]}/v1"
        how: dict[str, Any] = {"lifespan": "off", "ws": "none", "log_level": "critical"}
        self._server = uvicorn.Server(uvicorn.Config(create_app(self), timeout_graceful_shutdown=1, **how))
        self._thread = threading.Thread(target=self._server.run, args=([link],), daemon=True)
        self._thread.start()
        until = time.monotonic() + START_S
        while not self._server.started:
            if time.monotonic() > until or not self._thread.is_alive():
                raise EngineFailed("the rollout endpoint did not start", fix="try again")
            time.sleep(0.005)

    @contextmanager
    def rollout(self, task: Any = None) -> Iterator[Recorder]:
        """Record a rollout while the block lasts, then close its key; an exception of the block is kept with it."""
        recorder, error = Recorder(self.url, next(self._numbers)), ""
        self.open[recorder.key] = recorder
        try:
            yield recorder
        except BaseException as exc:
            error = f"{type(exc).__name__}: {exc}"
            raise
        finally:
            del self.open[recorder.key]
            turns = tuple(sorted(recorder.turns, key=lambda turn: turn.at))
            self.rollouts.append(Rollout(f"rollout-{recorder.number}", task, turns, recorder.value, error))

    def close(self) -> None:
        """Stop serving; what was recorded stays. Calling it twice is harmless."""
        self._server.should_exit = True
        self._thread.join(START_S)

    def __exit__(self, *_: object) -> None:
        self.close()


def only(rollouts: Iterable[Rollout], agent: str) -> list[Rollout]:
    """Keep one agent's turns, and the rollouts that have any: the reward is the team's, the lesson that agent's."""
    kept = [replace(r, turns=tuple(turn for turn in r.turns if turn.agent == agent)) for r in rollouts]
    return [rollout for rollout in kept if rollout.turns]


def examples(rollouts: Iterable[Rollout], at_least: float = 1.0) -> list[Example]:
    """Return what to imitate: the conversations of rollouts with such a reward.

    A request that goes on from an earlier one (with a tool's result, say) holds it, so that one is left out.
    """
    found = []
    for rollout in rollouts:
        answered = [turn for turn in rollout.turns if turn.reply]
        good = not rollout.error and rollout.reward is not None and rollout.reward >= at_least
        for turn in answered if good else ():
            size = len(turn.messages)
            if not any(t.messages[:size] == turn.messages and len(t.messages) > size for t in answered):
                messages = check_messages([*turn.messages, turn.reply])
                found.append(Example("rollout", "full", messages, turn.tools))
    return found


def write_rollouts(path: Path, rollouts: Sequence[Rollout]) -> None:
    """Append rollouts as JSON lines; raise `StorageFailed`, or `OptionInvalid` for a task that is no JSON."""
    try:
        lines = [json.dumps(asdict(r), ensure_ascii=False, allow_nan=False) + "\n" for r in rollouts]
    except (TypeError, ValueError) as exc:
        why = f"a rollout is no JSON: {exc!s:.100}"
        raise OptionInvalid(why, fix="rollout(task) with plain data") from exc
    with storage_errors(path), path.open("a", encoding="utf-8") as file:
        file.write("".join(lines))


def read_rollouts(path: Path) -> list[Rollout]:
    """Read the rollouts of a file; raise `LabkitError` with the line of a bad one."""

    def read(row: dict[str, Any]) -> Rollout:
        for turn in row["turns"]:
            turn |= {key: tuple(turn[key]) for key in ("prompt_ids", "token_ids", "logprobs")}
            turn["usage"] = Usage(**turn["usage"])
        return Rollout(**{**row, "turns": tuple(Turn(**turn) for turn in row["turns"])})

    return read_lines(path, read, "rollout", "delete that line; each line stands for itself")
