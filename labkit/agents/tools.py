"""Tools that an agent runs: arguments checked, time and results limited, results marked as data."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.agents.permissions import Permissions, enforce
from labkit.engines.toolschema import tool_schema
from labkit.models.template import neutralise
from labkit.types import Tool

# What separates turns and calls in the models that are in use: in a result, it must stay text.
CONTROL = re.compile(
    r"<\|[^<>|\s]{1,40}\|>|</?(?:tool_call|tool_response|tools|think|s)>|\[/?INST\]|<(?:start|end)_of_turn>"
)


@dataclass(frozen=True, slots=True)
class Result:
    """Hold what the model is told of a call. `denied` lists what the tool tried without permission."""

    text: str
    ok: bool = True
    denied: tuple[str, ...] = ()


@dataclass(slots=True)
class Guarded:
    """Hold a function and its limits: `Guarded(read_note, seconds=2, allow=Permissions(read=["notes"]))`.

    `characters` is the longest result. A tool that `asks` runs only once a person approved the call. `schema` is the
    OpenAI tool dict, made from the function unless it is given.
    """

    function: Callable[..., Any]
    seconds: float = 10.0
    characters: int = 4_000
    asks: bool = False
    allow: Permissions = field(default_factory=Permissions)
    schema: Tool = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.schema = self.schema or tool_schema(self.function)

    @property
    def name(self) -> str:
        """Return the name the model calls it by."""
        return str(self.schema["function"]["name"])

    def problems(self, arguments: Mapping[str, Any]) -> list[str]:
        """Return in words what is wrong with arguments by the tool's JSON schema."""
        from jsonschema import Draft202012Validator

        schema = {"additionalProperties": False, **self.schema["function"]["parameters"]}
        errors = sorted(
            Draft202012Validator(schema).iter_errors(arguments), key=lambda error: error.json_path
        )
        return [f"{'.'.join(map(str, error.path))} {error.message}"[:300].strip() for error in errors]

    def start(self, arguments: Mapping[str, Any]) -> Callable[[], Result]:
        """Begin a call in a thread; the function that comes back waits for its result, at most `seconds`.

        A thread cannot be killed: one that never returns is left behind, and goes on until Python ends.
        """
        began, found, denied = time.monotonic(), list[Result](), list[str]()

        def work() -> None:
            enforce(self.allow, denied)
            try:
                value = self.function(**arguments)
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
                found.append(Result(as_data(text, self.characters)))
            except BaseException as error:  # a tool is anybody's code: the model is told, the agent goes on
                found.append(failed(f"{type(error).__name__}: {error}"))

        def wait() -> Result:
            thread.join(max(0.0, began + self.seconds - time.monotonic()))
            result = found[0] if found else failed(f"{self.name} did not answer within {self.seconds:g} s")
            return Result(result.text, result.ok, tuple(denied))

        thread = threading.Thread(target=work, name=f"tool {self.name}", daemon=True)
        thread.start()
        return wait


def failed(why: str) -> Result:
    """Return the result that tells a model what went wrong."""
    return Result(as_data(json.dumps({"error": why[:1000]}, ensure_ascii=False), 2_000), ok=False)


def as_data(text: str, characters: int) -> str:
    """Cut a text to size, and break what a model could take for the end of a turn or for a call."""
    kept = text[:characters].encode("utf-8", "replace").decode()
    cut = f" … [cut: {len(text):,} characters in all]" if len(text) > characters else ""
    return neutralise(kept, CONTROL.findall(kept)) + cut
