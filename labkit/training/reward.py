"""Rewards: any function that looks at a reply and returns a number. Training sees the number and nothing else."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from labkit.engines.messages import check_messages
from labkit.engines.toolcalls import ToolCallReader
from labkit.engines.toolschema import tool_schemas
from labkit.errors import OptionInvalid, TrainingFailed
from labkit.models.jsonl import read_lines
from labkit.training.rollouts import checked
from labkit.types import Message, Reply, Timing, Tool, ToolCall, Usage

RISE = 0.1


@dataclass(frozen=True, slots=True)
class Task:
    """Hold what a model is asked. `goal` is for the reward alone: no trainer looks at it."""

    messages: list[Message]
    tools: list[Tool]
    goal: Any = None


Reward = Callable[[Task, Reply], float]


def read_tasks(path: Path) -> list[Task]:
    """Read tasks from JSON lines of `messages`, `tools`, `goal`; raise `TrainingFailed` with the line of a bad one."""

    def read(row: Mapping[str, Any]) -> Task:
        tools = tool_schemas(row.get("tools") or [])
        return Task(check_messages(row["messages"]), tools, row.get("goal"))

    fix = "a line is an object with messages, and tools and a goal if there are any"
    return read_lines(path, read, "task", fix, TrainingFailed)


def reward_named(name: str) -> Reward:
    """Return the function that "module:name" means, looked for in the current folder, too."""
    module, _, function = name.partition(":")
    try:
        sys.path.insert(0, os.getcwd())
        reward: Reward = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        fix = "write it as my_rewards:is_right, for a function in my_rewards.py here"
        raise OptionInvalid(f"there is no reward {name!r:.80}: {error!s:.100}", fix=fix) from error
    finally:
        sys.path.pop(0)
    return reward


def reply_of(text: str, calls: Sequence[ToolCall] = ()) -> Reply:
    """Read what a model wrote as an engine would: prose, and tool calls."""
    reader = ToolCallReader()
    fed, tail = reader.feed(text), reader.finish()
    found = (*calls, *fed[1], *tail[1])
    how = "tool_calls" if found else "stop"
    return Reply((fed[0] + tail[0]).strip(), found, how, Usage(0, 0), Timing((), 0, 0.0))  # type: ignore[arg-type]


def reply_in(message: Message) -> Reply:
    """Read an assistant's message of OpenAI's chat format, as it was recorded; raise `TrainingFailed` for another."""
    try:
        functions = [call["function"] for call in message.get("tool_calls") or ()]
        calls = [ToolCall(each["name"], json.loads(each["arguments"])) for each in functions]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TrainingFailed(f"{message!r:.80} is no reply", fix="give an assistant's message") from error
    return reply_of(message.get("content") or "", calls)


def judge(reward: Reward, task: Task, reply: Reply) -> float:
    """Return the reward; raise `TrainingFailed` where it is no finite number."""
    return checked(reward(task, reply))


def gamed(log: Sequence[Mapping[str, Any]]) -> str:
    """Say why a run's reward is not to be trusted, or "": it rose, and what was held out got no better.

    Compares the first fifth of the steps with the last, and the first look at held-out tasks (`success`) with the last.
    """
    rewards = [entry["reward"] for entry in log if "reward" in entry]
    success = [entry["success"] for entry in log if "success" in entry]
    part = max(1, len(rewards) // 5)
    if len(success) < 2 or not rewards:
        return ""
    before, after = sum(rewards[:part]) / part, sum(rewards[-part:]) / part
    if after - before < RISE or success[-1] > success[0]:
        return ""
    return (
        f"the reward rose from {before:.2f} to {after:.2f}, but of the held-out tasks {success[0]:.0%} "
        f"succeeded before and {success[-1]:.0%} after"
    )
