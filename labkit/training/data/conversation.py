"""Conversations: messages, exchanges that may stand before the one that matters, and their length."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .asking import ask, draw_values, result
from .draw import Draw
from .phrasing import dress, ending, noisy
from .tools import Tool

Message = dict[str, Any]
WHO = "I am nano, a small agent model made with labkit. I run on your machine."
CAN = "I can call tools, answer from their results, extract data and route messages."
TALK = {
    "talk who": WHO,
    "talk hello": "Hello! What can I do for you?",
    "talk thanks": "You are welcome.",
    "talk feel": "I am well, thank you. What can I do for you?",
    "talk bye": "Goodbye!",
    "talk can": CAN,
    "talk fine": "What can I do for you?",
}
LETTERS, SIGNS = re.compile("[A-Za-z]{1,3}"), re.compile(r"\d|[^\x00-\x7f]")


@dataclass
class Draft:
    """A conversation in the making.

    `earlier` makes one more exchange to stand before message `at`; `again` makes the whole conversation once more,
    with another request to the same material.
    """

    messages: list[Message]
    tools: list[Tool] = field(default_factory=list)
    earlier: Callable[[], list[Message]] | None = None
    again: Callable[[], list[Message]] | None = None
    at: int | None = None


def user(text: str) -> Message:
    """Return a user's message."""
    return {"role": "user", "content": text}


def says(text: str) -> Message:
    """Return an assistant's message."""
    return {"role": "assistant", "content": text}


def calls(*pairs: tuple[Tool, dict[str, Any]]) -> Message:
    """Return an assistant's message which calls tools; `number_calls` fills in the ids."""
    called = [(tool.name, json.dumps(tool.arguments(values), ensure_ascii=False)) for tool, values in pairs]
    functions = [{"name": name, "arguments": arguments} for name, arguments in called]
    items = [{"id": "", "type": "function", "function": function} for function in functions]
    return {"role": "assistant", "content": "", "tool_calls": items}


def returns(tool: Tool, content: str) -> Message:
    """Return a tool's message; `number_calls` fills in the id."""
    return {"role": "tool", "tool_call_id": "", "name": tool.name, "content": content}


def number_calls(messages: list[Message]) -> None:
    """Number the calls of a conversation, and their results in the same order."""
    count, open_ids = 0, iter(())  # type: int, Any
    for message in messages:
        if message["role"] == "tool":
            message["tool_call_id"] = next(open_ids)
        for call in message.get("tool_calls", ()):
            call["id"] = f"call_{count}"
            count += 1
        if message.get("tool_calls"):
            open_ids = iter([call["id"] for call in message["tool_calls"]])


def system(d: Draw) -> list[Message]:
    """Return no system message or a short one, sometimes with the date."""
    if d.head is not None:
        return d.head
    if d.short or d.chance(0.6):
        return []
    text = d.line("systems") + (" " + d.line("today") if d.chance(0.2) else "")
    return [{"role": "system", "content": text}]


def small_talk(d: Draw) -> list[Message]:
    """Return one exchange of small talk."""
    topic = d.choice(list(TALK))
    form = d.line(topic)
    mark = ending(form) if d.chance(0.8) else d.choice(("", "!", "."))
    return [user(noisy(d, form.rstrip("?!") + mark)), says(TALK[topic])]


def before(d: Draw) -> list[Message]:
    """Return what comes before the request: a system message or none, rarely some small talk."""
    return system(d) + (small_talk(d) if not d.short and d.chance(0.06) else [])


def others(d: Draw) -> int:
    """Draw how many tools stand beside the wanted one."""
    return d.count("0", "01", "0011223345", "56789a")


def request(d: Draw, tool: Tool, values: dict[str, Any]) -> Message:
    """Return a user's full request."""
    return user(dress(d, *ask(d, tool, values, tool.family.requests)))


def exchange(d: Draw, tool: Tool) -> list[Message]:
    """Return a request, the call, the result and the answer."""
    values = draw_values(d, tool, 0.15 if d.short else 0.3)
    content, sentence = result(d, tool, values)
    return [request(d, tool, values), calls((tool, values)), returns(tool, content), says(sentence)]


def size(d: Draft) -> int:
    """Estimate the tokens of a conversation: within a sixth of what nano's tokenizer makes of nearly all."""
    total = sum(0.32 * len(json.dumps(tool.schema["function"])) for tool in d.tools)
    for message in d.messages:
        called = [call["function"] for call in message.get("tool_calls", ())]
        text = message["content"] + "".join(call["name"] + call["arguments"] for call in called)
        total += 5 + 12 * len(called) + 1.35 * len(LETTERS.findall(text)) + 1.4 * len(SIGNS.findall(text))
    return round(total)


def lengthen(d: Draw, draft: Draft, low: int, high: int) -> None:
    """Put exchanges before the one that matters, until the conversation has `low` to `high` tokens."""
    target, length = d.randint(low, high), size(draft)
    start = draft.at or int(draft.messages[0]["role"] == "system")
    made: list[Message] = []
    while length < target:
        if draft.earlier:
            more = draft.earlier()
        else:
            more = exchange(d, d.choice(draft.tools)) if draft.tools and d.chance(0.85) else small_talk(d)
        length += size(Draft(more))
        made += more
    draft.messages[start:start] = made
