"""Language: put the same decisions to a language model with tools, and judge all agents alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean, median
from typing import Any, NamedTuple

from labkit.agents.taxonomy.episode import Agent
from labkit.engines.toolschema import tool_schemas
from labkit.metrics.agent_eval import Scores
from labkit.metrics.cases import Case
from labkit.metrics.intervals import wilson
from labkit.types import ToolCall


class Row(NamedTuple):
    """Count an agent's right decisions: `hits` of `n`; seconds (median) and tokens (mean) of a decision."""

    task: str
    agent: str
    hits: int
    n: int
    seconds: float
    tokens: float = 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Return what the share of right decisions may be, with 95 % confidence (Wilson)."""
        return wilson(self.hits, self.n)


def ask(task: str, words: str, tools: Sequence[Callable[..., Any]], right: ToolCall) -> Case:
    """Put a percept in words, with the tools to act by and the one right call."""
    expected = {"tool_calls": [{"name": right.name, "arguments": right.arguments}]}
    return Case(words, task, task, "", [{"role": "user", "content": words}], tool_schemas(tools), expected)


def judge(task: str, name: str, agent: Agent, percepts: Sequence[Any], right: Sequence[Any]) -> Row:
    """Let an agent without a model decide, and compare with the right decisions."""
    took, hits = list[float](), 0
    for percept, wanted in zip(percepts, right, strict=True):
        began = time.perf_counter()
        hits += bool(agent(percept) == wanted)
        took.append(time.perf_counter() - began)
    return Row(task, name, hits, len(took), median(took))


def rows_of(name: str, scores: Scores) -> Iterator[Row]:
    """Yield a row for each task that a model was asked (`labkit.metrics.agent_eval.score`)."""
    for task, share in scores.by("skill").items():
        mine = [result for result in scores.results if result.case.skill == task]
        tokens = fmean(result.prompt_tokens + result.completion_tokens for result in mine)
        yield Row(task, name, share.hits, share.n, median(result.seconds for result in mine), tokens)
