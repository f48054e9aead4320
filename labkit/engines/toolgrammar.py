"""Grammars for tool calls, in GBNF: what a model may write once it begins a call.

`call_grammar` admits any call that fits the offered schemas. `copying_grammar` is narrower: strings and numbers must
stand in the conversation, word for word. A small model that knows which tool it wants then cannot misspell a name, an
id or an address; it cannot put a value into other words either, so it is for tools whose arguments are said as they are
meant. Neither grammar knows the right answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal

from labkit.types import Message, Tool

PROSE = 'root ::= prose calls?\nprose ::= ([^<] | "<" [^t<])*\n'  # "<t" begins a call
TEXT = 4_000  # characters of the conversation, from its end, that values may be copied from
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
NUMBER_WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()
BEFORE, AFTER = "\"'“‘([{<", "\"'”’)]}>.,;:!?…"
FREE = {
    "text": r'"\"" ([^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt/] | "u" [0-9a-fA-F]{4}))* "\""',
    "whole": '"-"? [0-9]+',
    "decimal": '"-"? [0-9]+ ("." [0-9]+)?',
}


Constrained = bool | Literal["copy"]


def grammar_for(
    tools: Sequence[Tool], messages: Sequence[Message], constrained: Constrained, *, required: bool = False
) -> str | None:
    """Return the grammar of one turn: none, that of the schemas (`True`), or the narrower one (`"copy"`).

    With `required` it admits calls and nothing else.
    """
    if not (tools and constrained):
        return None
    grammar = copying_grammar(tools, messages) if constrained == "copy" else call_grammar(tools)
    return grammar.replace(PROSE, "root ::= calls\n", 1) if required else grammar


def call_grammar(tools: Sequence[Tool]) -> str:
    """Allow prose, calls of the offered tools in Hermes form, or prose and then calls.

    Without llama-cpp-python, whose converter knows more of JSON schema, arguments come in the order of the schema.
    """
    if find_spec("llama_cpp") is None:
        return copying_grammar(tools, ())
    from labkit.engines.llamacpp_sampling import tools_grammar

    return PROSE + tools_grammar(tools).replace("root ::=", "calls ::=", 1)


def copying_grammar(tools: Sequence[Tool], messages: Sequence[Message]) -> str:
    """Allow what `call_grammar` does, with strings and numbers only as they stand in the messages.

    Arguments come in the order of the schema. Where no text or number has been said, any is admitted.
    """
    rules = _Rules(_said(messages))
    calls = [rules.call(tool["function"], f"tool-{number}") for number, tool in enumerate(tools)]
    head = [
        'calls ::= tagged ("\\n" tagged)*',
        'tagged ::= "<tool_call>\\n" call "\\n</tool_call>"',
        f"call ::= {' | '.join(calls)}",
    ]
    return PROSE + "\n".join([*head, *(f"{name} ::= {body}" for name, body in rules.made.items())])


def _said(messages: Sequence[Message]) -> str:
    return "\n".join(str(m.get("content") or "") for m in messages if m["role"] != "assistant")[-TEXT:]


def _quoted(text: str) -> str:
    """Write a GBNF literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def _json(text: str) -> str:
    """Write what stands for `text` within a JSON string."""
    return _quoted(json.dumps(text, ensure_ascii=False)[1:-1])


class _Rules:
    """Collect rules by name; `text` is what values are copied from."""

    def __init__(self, text: str) -> None:
        self.made: dict[str, str] = {}
        numbers = dict.fromkeys(NUMBER.findall(text))
        small = set(re.findall("[a-z]+", text.lower()))
        words = [str(number) for number, word in enumerate(NUMBER_WORDS) if word in small]
        whole = [n for n in (*numbers, *words) if "." not in n]
        starts = self._spans(text)
        self.made["text"] = rf'"\"" ({" | ".join(starts)}) "\""' if starts else FREE["text"]
        self.made["whole"] = " | ".join(map(_quoted, dict.fromkeys(whole))) or FREE["whole"]
        self.made["decimal"] = " | ".join(map(_quoted, dict.fromkeys([*numbers, *words]))) or FREE["decimal"]

    def _spans(self, text: str) -> list[str]:
        """Make a rule for each word of the text that goes on to the end of its line, and may stop at any word."""
        starts: list[str] = []
        for line in text.splitlines():
            words = line.split()
            for at, word in enumerate(words):
                whole = word.lstrip(BEFORE)
                core = whole.rstrip(AFTER).removesuffix("'s")
                if not core:
                    continue
                name = f"w{len(starts)}"
                tail, lead = whole[len(core) :], word[: len(word) - len(whole)]
                follows = at + 1 < len(words) and words[at + 1].strip(BEFORE + AFTER)
                more = f" ({_json(tail + ' ')} l{len(starts) + 1})?" if follows else ""
                self.made[name] = _json(core) + more
                self.made[f"l{len(starts)}"] = f"{_json(lead)} {name}" if lead else name
                starts.append(name)
        return starts

    def call(self, function: Mapping[str, Any], name: str) -> str:
        """Make the rule `name` of one tool's call and return its name."""
        head = f'{{"name": {json.dumps(function["name"])}, "arguments": '
        self.made[name] = f'{_quoted(head)} {self.object(function.get("parameters") or {}, name)} "}}"'
        return name

    def object(self, schema: Mapping[str, Any], name: str) -> str:
        """Return what admits an object: its members in order, the optional ones left out at will."""
        required = set(schema.get("required", ()))
        after = {True: '"}"', False: '"}"'}  # what comes next if no member has been written, or one has
        for number, (key, inner) in reversed(list(enumerate(schema.get("properties", {}).items()))):
            value, made = self.value(inner, f"{name}-{number}"), dict[bool, str]()
            for first in (True, False):
                member = f"{_quoted(('' if first else ', ') + json.dumps(key) + ': ')} {value} {after[False]}"
                made[first] = f"{name}-{number}{'a' if first else 'b'}"
                self.made[made[first]] = member if key in required else f"{member} | {after[first]}"
            after = made
        return f'"{{" {after[True]}'

    def value(self, schema: Mapping[str, Any], name: str) -> str:
        """Return what admits a value of a schema."""
        if "enum" in schema:
            return "(" + " | ".join(_quoted(json.dumps(v, ensure_ascii=False)) for v in schema["enum"]) + ")"
        kind = schema.get("type")
        if kind == "boolean":
            return '("true" | "false")'
        if kind == "array":
            item = self.value(schema.get("items") or {}, f"{name}-i")
            return f'"[" ({item} (", " {item})*)? "]"'
        if kind == "object" and schema.get("properties"):
            return self.object(schema, name)
        return {"integer": "whole", "number": "decimal"}.get(str(kind), "text")
