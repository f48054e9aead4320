"""Ollama's API in front of the gateway: what its clients use to chat, embed and list. Models are the instructor's."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

import labkit
from labkit.serving import ollama_answers as answers
from labkit.serving import ollama_requests as asked
from labkit.serving.app import Work
from labkit.serving.exchange import Exchange
from labkit.serving.gateway import Gateway
from labkit.serving.ollama_models import ApiError, Entry, Known
from labkit.serving.openai_api import Ask
from labkit.serving.refused import Refused, json_response
from labkit.serving.trim import estimate
from labkit.serving.web import Streamed, body_of, collected, unless_gone
from labkit.types import Chunk, GenerationOptions

USUAL = GenerationOptions()
OLLAMAS_OWN = ("top_k", "min_p", "repeat_penalty")  # defaults of Ollama's that not every server takes


class Shown(Known):
    """Show the gateway's models as Ollama's lists want them."""

    def __init__(self, gateway: Gateway) -> None:
        nodes = gateway.pool.models().items()
        self.entries = {
            f"{name}:latest".lower(): Entry(f"{name}:latest", name, node.card, "", "llama")
            for name, node in nodes
        }


def spoken(work: Work) -> Work:
    """Return the same work with Ollama's refusals turned into the gateway's."""

    async def handle(gateway: Gateway, exchange: Exchange, request: Request) -> Response:
        try:
            return await work(gateway, exchange, request)
        except ApiError as error:
            raise Refused(error.status, "ollama", str(error)) from error

    return handle


async def chat(gateway: Gateway, exchange: Exchange, request: Request) -> Response:
    """Answer /api/chat."""
    body = asked.parsed(asked.ChatRequest, await body_of(request, gateway.settings.max_body))
    return await converse(gateway, exchange, request, body, "message")


async def generate(gateway: Gateway, exchange: Exchange, request: Request) -> Response:
    """Answer /api/generate: a prompt is a chat's only message."""
    body = asked.parsed(asked.GenerateRequest, await body_of(request, gateway.settings.max_body))
    told = body.chat()
    told.stream = body.stream
    return await converse(gateway, exchange, request, told, "response")


async def converse(
    gateway: Gateway, exchange: Exchange, request: Request, body: asked.ChatRequest, form: str
) -> Response:
    """Answer messages; without any, the client only asks for the model to be loaded, which it is."""
    entry = Shown(gateway).get(body.model)
    if not body.messages:
        done = {"done": True, "done_reason": "load" if body.stays else "unload"}
        return json_response(answers.line_of(body.model, form, Chunk()) | done)
    tools = [asked.in_order(tool) for tool in body.tools or []]
    options = body.settings(entry).generation(body.format, bool(tools))
    usual = {name: getattr(USUAL, name) for name in OLLAMAS_OWN if name not in (body.options or {})}
    most = min(options.max_tokens, gateway.settings.max_tokens)
    ask = Ask(entry.source, body.turns(entry), tools, replace(options, max_tokens=most, **usual), body.stream)
    lines = spoken_lines(gateway.answer(ask, exchange), body.model, form)
    if not body.stream:
        return json_response(answers.merged(await unless_gone(request, collected(lines))))
    first = await unless_gone(request, anext(lines))
    return Streamed(answers.encoded(first, lines, str), lines, "application/x-ndjson")


async def spoken_lines(
    chunks: AsyncGenerator[Chunk, None], model: str, form: str
) -> AsyncGenerator[answers.Line, None]:
    """Yield the lines of an answer, the last one with its figures."""
    began, first, last = time.perf_counter(), 0.0, Chunk()
    async with aclosing(chunks):
        async for last in chunks:
            now = time.perf_counter() - began
            first = first or now
            if last.text or last.tool_calls:
                yield answers.line_of(model, form, last)
            last = replace(last, at=now)
    total = {"total_duration": round((time.perf_counter() - began) * 1e9), "load_duration": 0}
    yield answers.line_of(model, form, Chunk()) | answers.figures(first, last) | total


async def embed(gateway: Gateway, exchange: Exchange, request: Request) -> Response:
    """Answer /api/embed."""
    body = asked.parsed(asked.EmbedRequest, await body_of(request, gateway.settings.max_body))
    entry, began = Shown(gateway).get(body.model), time.perf_counter()
    gateway.admit(exchange.user)
    gateway.charge(exchange.user, estimate(body.texts))
    vectors, count = await gateway.embed(body.texts, entry.source) if body.texts else ([], 0)
    took = {"total_duration": round((time.perf_counter() - began) * 1e9), "load_duration": 0}
    return json_response({"model": body.model, "embeddings": vectors, "prompt_eval_count": count, **took})


async def show(gateway: Gateway, exchange: Exchange, request: Request) -> Response:
    """Answer /api/show."""
    body = asked.parsed(asked.Request, await body_of(request, gateway.settings.max_body))
    return json_response(next(answers.show(Shown(gateway), body)))


async def tags(gateway: Gateway, exchange: Exchange, request: Request) -> Response:
    """Answer /api/tags."""
    return json_response(answers.tags(Shown(gateway)))


async def running(gateway: Gateway, exchange: Exchange, request: Request) -> Response:
    """Answer /api/ps: the gateway keeps its models loaded as it sees fit, and tells of none."""
    return json_response({"models": []})


async def version(gateway: Gateway, exchange: Exchange, request: Request) -> Response:
    """Answer /api/version."""
    return json_response({"version": f"{labkit.__version__}-labkit"})


async def alive(gateway: Gateway, exchange: Exchange, request: Request) -> Response:
    """Answer / as Ollama does, since clients look for it."""
    return PlainTextResponse("Ollama is running")


ROUTES: dict[str, Work] = {
    "POST /api/chat": spoken(chat),
    "POST /api/generate": spoken(generate),
    "POST /api/embed": spoken(embed),
    "POST /api/show": spoken(show),
    "GET /api/tags": tags,
    "GET /api/ps": running,
    "GET /api/version": version,
    "GET /": alive,
}
