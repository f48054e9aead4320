"""What the Ollama-compatible endpoint answers: each function yields the lines of one answer.

What labkit's engines cannot do is refused: raw prompts, `context`, other templates, images. Durations
are nanoseconds as measured here; `prompt_eval_duration` runs from the request to the first token, waiting included.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from labkit.errors import LabkitError
from labkit.serving import ollama_requests as asked
from labkit.serving.ollama_models import SHIPPED, ApiError, Entry, Known, Models, Runner
from labkit.types import Chunk

Line = dict[str, Any]


def chat(models: Models, body: asked.ChatRequest, form: str = "message") -> Iterator[Line]:
    """Answer messages line by line; without any, load the model, or unload it where keep_alive is 0."""
    began, entry = time.perf_counter_ns(), models.get(body.model)
    settings, tools = body.settings(entry), [asked.in_order(tool) for tool in body.tools or []]
    if tools and "tools" not in entry.card.capabilities:
        raise ApiError(400, f"{body.model[:200]} does not support tools")
    if not body.messages and not body.stays:
        models.unload(entry.name)
        yield line_of(body.model, form, Chunk()) | {"done": True, "done_reason": "unload"}
        return
    options = settings.generation(body.format, bool(tools))
    with models.use(entry, settings.num_ctx, body.stays) as runner:
        load = {"load_duration": time.perf_counter_ns() - began}
        if not body.messages:
            yield line_of(body.model, form, Chunk()) | {"done": True, "done_reason": "load"}
            return
        first, last = 0.0, Chunk()
        with closing(runner.model.stream(body.turns(entry), tools=tools, options=options)) as stream:
            for last in stream:
                first = first or (last.at if last.tokens else 0.0)
                if last.text or last.tool_calls:
                    yield line_of(body.model, form, last)
        total = {"total_duration": time.perf_counter_ns() - began}
        yield line_of(body.model, form, Chunk()) | figures(first, last) | load | total


def line_of(model: str, form: str, chunk: Chunk) -> Line:
    """Return one line of an answer, as chat or as generate writes it."""
    line: Line = {"model": model, "created_at": datetime.now(UTC).isoformat(), "done": False}
    if form == "response":
        return line | {"response": chunk.text}
    message: Line = {"role": "assistant", "content": chunk.text}
    if chunk.tool_calls:
        calls = [{"name": c.name, "arguments": c.arguments} for c in chunk.tool_calls]
        message["tool_calls"] = [{"function": call} for call in calls]
    return line | {"message": message}


def figures(first: float, last: Chunk) -> Line:
    """Return what the last line says of an answer whose first token came at `first` seconds."""
    usage = last.usage
    return {
        "done": True,
        "done_reason": "length" if last.finish_reason == "length" else "stop",
        "prompt_eval_count": usage.prompt_tokens if usage else 0,
        "prompt_eval_duration": round(first * 1e9),
        "eval_count": usage.completion_tokens if usage else 0,
        "eval_duration": round((last.at - first) * 1e9),
    }


async def encoded(
    first: Line, lines: AsyncGenerator[Line, None], words: Callable[[Exception], str]
) -> AsyncGenerator[bytes, None]:
    """Yield lines as JSON in ASCII, since clients cut at U+2028 and the like; a failure becomes an error line."""
    async with aclosing(lines):
        try:
            yield json.dumps(first).encode() + b"\n"
            async for line in lines:
                yield json.dumps(line).encode() + b"\n"
        except (ApiError, LabkitError) as error:
            yield json.dumps({"error": words(error)}).encode() + b"\n"


def merged(lines: list[Line]) -> Line:
    """Return one object in place of a stream: the last line, with the text and the calls of all."""
    last = lines[-1]
    if "response" in last:
        last["response"] = "".join(line["response"] for line in lines)
    elif message := last.get("message"):
        message["content"] = "".join(line["message"]["content"] for line in lines)
        if calls := [call for line in lines for call in line["message"].get("tool_calls", ())]:
            message["tool_calls"] = calls
    return last


def generate(models: Models, body: asked.GenerateRequest) -> Iterator[Line]:
    """Answer a prompt as if it were a chat's only message."""
    models.get(body.model)
    yield from chat(models, body.chat(), "response")


def embed(models: Models, body: asked.EmbedRequest) -> Iterator[Line]:
    """Answer with a vector of length 1 for each text; without any, only load the model."""
    from labkit.engines.llamacpp_embed import unit  # and numpy, which the gateway does without

    began, entry = time.perf_counter_ns(), models.get(body.model)
    if not models.kind.embed:
        raise ApiError(501, "this model does not support embeddings")
    rows, count = list[list[float]](), 0
    with models.use(entry, body.settings(entry).num_ctx, body.stays) as runner:
        load = time.perf_counter_ns() - began
        if body.texts:
            vectors, count = runner.model.embed(body.texts, truncate=body.truncate)
            rows = (unit(vectors[:, : body.dimensions]) if body.dimensions else vectors).tolist()
    counted = {"load_duration": load, "prompt_eval_count": count}
    total = {"total_duration": time.perf_counter_ns() - began}
    yield {"model": body.model, "embeddings": rows} | total | counted


def pull(models: Models, body: asked.Request) -> Iterator[Line]:
    """Offer a shipped model again; there is nowhere to get another from."""
    yield {"status": "pulling manifest"}
    alias, _, tag = body.model.lower().partition(":")
    if alias not in SHIPPED or tag not in ("", "latest"):
        raise ApiError(500, "pull model manifest: file does not exist")
    models.put(models.known(alias))
    yield from ({"status": text} for text in ("verifying sha256 digest", "writing manifest", "success"))


def create(models: Models, body: asked.CreateRequest) -> Iterator[Line]:
    """Make a model from another or from an uploaded GGUF file, with what the Modelfile lays over it."""
    if body.quantize or body.adapters or len(body.files) > 1:
        raise ApiError(400, "labkit's endpoint takes one GGUF file as it is, and no adapters")
    asked.check_template(body.template)
    if body.files:
        (digest,) = body.files.values()
        path = models.blob(digest)
        if not path.is_file():
            raise ApiError(400, f"blob not found: {digest}")
        yield {"status": "parsing GGUF"}
        entry = models.known(str(path), body.model)
    elif body.base:
        base = models.get(body.base)
        entry = replace(base, name=body.model, parent=base.name)
    else:
        raise ApiError(400, "neither 'from' or 'files' was specified")
    parameters = {**entry.parameters, **body.parameters}
    asked.parsed(asked.Options, parameters)
    license = body.license if isinstance(body.license, str) else "\n".join(body.license)
    entry = replace(
        entry,
        parameters=parameters,
        license=license or entry.license,
        system=body.system or entry.system,
        template=body.template or entry.template,
        messages=tuple(asked.openai(turn) for turn in body.messages) or entry.messages,
    )
    models.put(entry)
    yield from ({"status": text} for text in ("writing manifest", "success"))


def copy(models: Models, body: asked.CopyRequest) -> Iterator[Line]:
    """Give a model a second name."""
    models.put(replace(models.get(body.source), name=body.destination))
    yield {}


def delete(models: Models, body: asked.Request) -> Iterator[Line]:
    """Forget a model; one that labkit ships comes back with pull."""
    models.delete(body.model)
    yield {}


def show(models: Known, body: asked.Request) -> Iterator[Line]:
    """Describe a model, with a Modelfile that would make it."""
    entry = models.get(body.model)
    card, many = entry.card, entry.parameters.items()
    values = [(key, json.dumps(v)) for key, vs in many for v in (vs if isinstance(vs, list) else [vs])]
    texts = [("TEMPLATE", entry.template), ("SYSTEM", entry.system)]
    modelfile = ["# Modelfile generated by labkit", f"# FROM {entry.name}", "", f"FROM {entry.source}"]
    modelfile += [f'{key} """{text}"""' for key, text in texts if text]
    modelfile += [f"PARAMETER {key} {value}" for key, value in values]
    info = {"architecture": entry.family, "parameter_count": round(card.params_b * 1e9)}
    yield {
        "modelfile": "\n".join(modelfile) + "\n",
        "parameters": "\n".join(f"{key:<30} {value}" for key, value in values),
        "template": entry.template,
        "system": entry.system,
        "license": entry.license or card.license,
        "details": described(entry)["details"],
        "model_info": {f"general.{key}": value for key, value in info.items()}
        | {f"{entry.family}.context_length": card.context, f"{entry.family}.block_count": card.layers},
        "capabilities": sorted(card.capabilities & {"completion", "tools"}),
        "modified_at": entry.modified.isoformat(),
    }


def described(entry: Entry) -> Line:
    """Return what the lists tell of a model. `size` is its file's, in bytes."""
    details = {
        "parent_model": entry.parent,
        "format": "gguf",
        "family": entry.family,
        "families": [entry.family],
        "parameter_size": f"{entry.card.params_b * 1e3:.2f}M",
        "quantization_level": entry.variant,
    }
    size = next((v.file_bytes for v in entry.card.variants if v.quant == entry.variant), 0)
    return {"name": entry.name, "model": entry.name, "size": size, "digest": entry.digest, "details": details}


def tags(models: Known) -> Line:
    """List every model, the newest first."""
    entries = sorted(models.entries.values(), key=lambda entry: entry.modified, reverse=True)
    return {"models": [described(entry) | {"modified_at": entry.modified.isoformat()} for entry in entries]}


def running(models: Models) -> Line:
    """List what is loaded, and until when. labkit's engines here use no graphics memory."""

    def told(runner: Runner) -> Line:
        more = {"expires_at": runner.expires_at.isoformat(), "size_vram": 0, "context_length": runner.context}
        return described(runner.entry) | more

    return {"models": [told(runner) for runner in list(models.loaded.values())]}


ANSWERS: dict[str, tuple[type[BaseModel], Callable[[Models, Any], Iterator[Line]]]] = {
    "chat": (asked.ChatRequest, chat),
    "generate": (asked.GenerateRequest, generate),
    "embed": (asked.EmbedRequest, embed),
    "pull": (asked.Request, pull),
    "create": (asked.CreateRequest, create),
    "copy": (asked.CopyRequest, copy),
    "delete": (asked.Request, delete),
    "show": (asked.Request, show),
}
