"""What clients of the Ollama-compatible endpoint may send, checked, and put into labkit's terms. Nobody is trusted."""

from __future__ import annotations

import json
import random
import re
from typing import Any, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StrictBool, ValidationError

from labkit.engines.ollama_daemon import TEMPLATE
from labkit.serving.ollama_models import ApiError, Entry
from labkit.types import GenerationOptions, Message

KEEP_ALIVE_S = 300.0
UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
DURATION = re.compile(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)")
AS_MUCH_AS_FITS = 1_000_000
Kind = TypeVar("Kind", bound=BaseModel)


class Options(BaseModel):
    """Hold Ollama's options, with its defaults; others are ignored, as Ollama does. `num_ctx` 0 is the engine's."""

    num_predict: int = -1
    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    repeat_penalty: float = 1.1
    seed: int = -1
    stop: list[str] | str = []
    num_ctx: int = 0

    def generation(self, format: Any, tools: bool) -> GenerationOptions:
        """Return labkit's options; raise `OptionInvalid` on a value out of range."""
        schema = {"type": "object"} if format == "json" else (format or None)
        if isinstance(schema, str):
            wanted = 'expected "json" or a valid JSON Schema object'
            raise ApiError(400, f'invalid format: "{schema[:40]}"; {wanted}')
        return GenerationOptions(
            max_tokens=AS_MUCH_AS_FITS if self.num_predict < 0 else self.num_predict,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repeat_penalty=self.repeat_penalty,
            seed=random.getrandbits(32) if self.seed < 0 else self.seed,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop),
            # Tools beside a format: an engine that reads calls itself must leave the answer as the schema has it.
            tool_choice="required" if tools and schema else "auto",
            schema=schema,
        )


class Request(BaseModel):
    """Hold what every request may say."""

    model_config = ConfigDict(protected_namespaces=())
    model: str = Field(validation_alias=AliasChoices("model", "name"), min_length=1)
    stream: StrictBool = True
    keep_alive: float | str | None = None
    options: dict[str, Any] | None = None
    think: bool | str | None = None

    @property
    def stays(self) -> float:
        """Return the seconds a model stays loaded after its use; infinite for a negative keep_alive."""
        value = KEEP_ALIVE_S if self.keep_alive is None else self.keep_alive
        if isinstance(value, str):
            sign, text = (-1, value[1:]) if value.startswith("-") else (1, value)
            parts = DURATION.findall(text)
            if text != "0" and (not parts or "".join(map("".join, parts)) != text):
                raise ApiError(400, f'time: invalid duration "{value[:40]}"')
            value = sign * sum(float(number) * UNITS[unit] for number, unit in parts)
        return float(value) if 0 <= value < 1e9 else float("inf")

    def settings(self, entry: Entry) -> Options:
        """Return the options of this request over those of the model's Modelfile."""
        if self.think:
            raise ApiError(400, f'"{self.model[:200]}" does not support thinking')
        return parsed(Options, {**entry.parameters, **(self.options or {})})


class Function(BaseModel):
    """Hold a call's name and arguments."""

    name: str
    arguments: dict[str, Any] = {}


class Call(BaseModel):
    """Hold a tool call as Ollama writes it."""

    function: Function


class Turn(BaseModel):
    """Hold one message."""

    role: str
    content: str | None = ""
    images: list[str] | None = None
    tool_calls: list[Call] | None = None


class ChatRequest(Request):
    """Hold a request to chat."""

    messages: list[Turn] | None = None
    tools: list[dict[str, Any]] | None = None
    format: str | dict[str, Any] | None = None

    def turns(self, entry: Entry) -> list[Message]:
        """Return OpenAI chat dicts: the model's own system text and messages, then those of the request."""
        asked = self.messages or []
        system = [{"role": "system", "content": entry.system}] if entry.system else []
        own = [*(system if asked and asked[0].role != "system" else []), *entry.messages]
        return [*own, *(openai(turn) for turn in asked)]


def in_order(tool: dict[str, Any]) -> dict[str, Any]:
    """Put `required` behind `properties`, as OpenAI has it: Ollama's client turns them round, which misleads nano."""
    function: Any = tool.get("function")
    parameters = function.get("parameters") if isinstance(function, dict) else None
    if not isinstance(parameters, dict) or "required" not in parameters:
        return tool
    rest = {key: value for key, value in parameters.items() if key != "required"}
    ordered = rest | {"required": parameters["required"]}
    return {**tool, "function": {**function, "parameters": ordered}}


def openai(turn: Turn) -> Message:
    """Return a message as OpenAI's chat format has it."""
    if turn.images:
        raise ApiError(500, "this model is missing data required for image input")
    message: Message = {"role": turn.role, "content": turn.content or ""}
    if turn.tool_calls:
        calls = [call.function for call in turn.tool_calls]
        message["tool_calls"] = [
            {
                "id": f"call_{i}",
                "type": "function",
                "function": {"name": c.name, "arguments": json.dumps(c.arguments, ensure_ascii=False)},
            }
            for i, c in enumerate(calls)
        ]
    return message


class GenerateRequest(Request):
    """Hold a request to go on from a prompt."""

    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    raw: bool = False
    context: list[int] | None = None
    images: list[str] | None = None
    format: str | dict[str, Any] | None = None

    def chat(self) -> ChatRequest:
        """Return the same as a chat; raise for what labkit's engines have no way to do."""
        if self.raw and (self.template or self.system or self.context):
            raise ApiError(400, "raw mode does not support template, system, or context")
        if self.suffix:
            raise ApiError(400, f"{self.model[:200]} does not support insert")
        if self.raw or self.context:
            raise ApiError(400, "labkit's endpoint takes no raw prompts and no context: use /api/chat")
        check_template(self.template)
        turns = [Turn(role="system", content=self.system)] if self.system else []
        turns += [Turn(role="user", content=self.prompt, images=self.images)] if self.prompt else []
        rest = self.model_dump(include={"model", "options", "keep_alive", "think", "format"})
        return ChatRequest(messages=turns, **rest)


class EmbedRequest(Request):
    """Hold texts to embed; with `dimensions`, only the first so many numbers are kept."""

    input: str | list[str] = []
    truncate: bool = True
    dimensions: int = Field(0, ge=0)

    @property
    def texts(self) -> list[str]:
        """Return the texts as a list; an empty string alone is none, as for Ollama."""
        return self.input if isinstance(self.input, list) else [self.input] if self.input else []


class CreateRequest(Request):
    """Hold a Modelfile: a base model or an uploaded GGUF file, and what is laid over it."""

    base: str = Field("", validation_alias="from")
    files: dict[str, str] = {}
    template: str = ""
    system: str = ""
    license: str | list[str] = ""
    parameters: dict[str, Any] = {}
    messages: list[Turn] = []
    quantize: str = ""
    adapters: dict[str, str] = {}


class CopyRequest(BaseModel):
    """Hold two names."""

    source: str
    destination: str


def check_template(template: str) -> None:
    """Refuse any template but nano's: prompts are rendered by what the model file carries, and Go's are not read."""
    if template not in ("", TEMPLATE):
        raise ApiError(400, "template error: labkit's endpoint renders the model file's own template only")


def parsed(kind: type[Kind], value: bytes | dict[str, Any]) -> Kind:
    """Check a body or a dict; raise a 400 with the first thing that is wrong."""
    try:
        if isinstance(value, bytes):
            return kind.model_validate_json(value)
        return kind.model_validate(value)
    except ValidationError as exc:
        wrong = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, wrong["loc"]))
        words = f"{where} is required" if wrong["type"] == "missing" else f"{where} {wrong['msg']}".strip()
        raise ApiError(400, words[:300]) from exc
