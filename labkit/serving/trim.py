"""Shorten a conversation to what a context holds, without tearing apart what belongs together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from labkit.types import Message

CHARS_A_TOKEN = 3  # on the safe side for English; exact counts are the engine's affair
FRAME = 8  # tokens around each message


def estimate(value: Any) -> int:
    """Estimate the tokens of messages, tools or a text (estimated, on the high side for English)."""
    if isinstance(value, str):
        return len(value) // CHARS_A_TOKEN + 1
    if isinstance(value, dict) and isinstance(value.get("content"), str):
        rest = {key: value[key] for key in value.keys() - {"content", "role"}}
        return FRAME + estimate(value["content"]) + (estimate(json.dumps(rest)) if rest else 0)
    return sum(map(estimate, value)) if isinstance(value, list | tuple) else estimate(json.dumps(value))


def trim(messages: Sequence[Message], tokens: int) -> list[Message]:
    """Leave out the oldest turns until the rest is estimated to fit into `tokens`.

    The system turn and everything from the last user turn on stay; a tool call goes with its results, or stays with
    them.
    """
    head = [m for m in messages if m["role"] == "system"]
    blocks: list[list[Message]] = []
    for message in (m for m in messages if m["role"] != "system"):
        if blocks and message["role"] == "tool":
            blocks[-1].append(message)
        else:
            blocks.append([message])
    users = [place for place, block in enumerate(blocks) if block[0]["role"] == "user"]
    last = users[-1] if users else max(0, len(blocks) - 1)
    size = estimate(head) + sum(map(estimate, blocks))
    first = 0
    while first < last and size > tokens:
        size -= estimate(blocks[first])
        first += 1
    return head + [message for block in blocks[first:] for message in block]
