"""The gateway as an application: routes, what HTTP needs around them, start and orderly end."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from labkit.errors import LabkitError, OptionInvalid
from labkit.serving.exchange import Exchange
from labkit.serving.gateway import Gateway
from labkit.serving.keys import User
from labkit.serving.openai_api import (
    DONE,
    Ask,
    Format,
    parse,
    read_chat,
    read_completion,
    read_embeddings,
    sse,
)
from labkit.serving.refused import (
    HUNG_UP,
    Refused,
    error_object,
    error_response,
    json_response,
    refused,
    status_of,
)
from labkit.serving.settings import Settings
from labkit.serving.states import states
from labkit.serving.telemetry import CONTENT_TYPE
from labkit.serving.trim import estimate
from labkit.serving.web import (
    Gone,
    Streamed,
    body_of,
    collected,
    description,
    key_of,
    local_only,
    no_such_route,
    unless_gone,
)
from labkit.types import Chunk

Work = Callable[[Gateway, Exchange, Request], Awaitable[Response]]
NOBODY = User("", "", "none")
OPEN_TO_ALL = ("/health", "/ready", "/")


def create_app(settings: Settings) -> Starlette:
    """Return the application; `app.state.gateway` holds its parts."""
    from labkit.serving.admin import ROUTES as ADMIN
    from labkit.serving.ollama_gateway import ROUTES as OLLAMA

    gateway = Gateway(settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None, None]:
        async with gateway.running():
            yield

    routes = [Route("/openapi.json", description, methods=["GET"])]
    for way, work in {**ROUTES, **ADMIN, **OLLAMA}.items():
        method, path = way.split()
        routes.append(Route(path, endpoint(gateway, path, work), methods=[method]))
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: no_such_route})
    app.state.gateway = gateway
    return app


def arrival(gateway: Gateway, path: str, request: Request) -> tuple[Exchange, Refused | None]:
    """Find out who asks, and begin to note what comes of it; say why, if this one may not."""
    user, no = NOBODY, None
    try:
        if not gateway.settings.keys:
            local_only(request)
        user = NOBODY if path in OPEN_TO_ALL else gateway.who(key_of(request))
    except Refused as error:
        no = error
    seen = gateway.telemetry.request(path, user.role, user.id, request.headers)
    return Exchange(gateway.audit, seen, user, path), no


def endpoint(gateway: Gateway, path: str, work: Work) -> Callable[[Request], Awaitable[Response]]:
    """Return what does the work for whoever may ask, and answers for whatever went wrong."""

    async def handle(request: Request) -> Response:
        exchange, no = arrival(gateway, path, request)
        try:
            if no:
                raise no
            response = await work(gateway, exchange, request)
        except LabkitError as error:
            told = refused(error)
            exchange.end(told.status)
            shape = {"error": str(told)} if path.startswith("/api/") else None
            return error_response(told, shape)
        except Gone:
            exchange.end(HUNG_UP)
            return Response(status_code=HUNG_UP)  # nobody reads it
        except BaseException as error:
            exchange.end(status_of(error))
            raise
        if not isinstance(response, StreamingResponse):
            exchange.end(response.status_code)
        return response

    return handle


async def respond(gateway: Gateway, exchange: Exchange, request: Request, ask: Ask, form: Format) -> Response:
    """Answer a request, whole or as a stream of events."""
    chunks = gateway.answer(ask, exchange)
    if not ask.stream:
        return json_response(form.whole(await unless_gone(request, collected(chunks))))
    first = await unless_gone(request, anext(chunks))
    return Streamed(events(first, chunks, ask, form), chunks, "text/event-stream")


async def events(
    first: Chunk, chunks: AsyncGenerator[Chunk, None], ask: Ask, form: Format
) -> AsyncGenerator[bytes, None]:
    """Yield events; what breaks off ends with an error event and without [DONE]."""
    async with aclosing(chunks):
        last = first
        yield form.event(first, True)
        try:
            async for last in chunks:
                if last.text or last.tool_calls or last.finish_reason:
                    yield form.event(last, False)
        except LabkitError as error:
            yield sse(error_object(refused(error)))
            return
        if ask.usage:
            yield form.usage_event(last)
        yield DONE


async def chat(gateway: Gateway, exchange: Exchange, request: Request) -> Response:
    """Answer /v1/chat/completions."""
    raw = await body_of(request, gateway.settings.max_body)
    ask = read_chat(parse(raw), gateway.settings.max_tokens)
    return await respond(gateway, exchange, request, ask, Format(exchange.id, ask.model))


async def completions(gateway: Gateway, exchange: Exchange, request: Request) -> Response:
    """Answer /v1/completions."""
    raw = await body_of(request, gateway.settings.max_body)
    ask = read_completion(parse(raw), gateway.settings.max_tokens)
    return await respond(gateway, exchange, request, ask, Format(exchange.id, ask.model, chat=False))


async def embeddings(gateway: Gateway, exchange: Exchange, request: Request) -> Response:
    """Answer /v1/embeddings."""
    body = parse(await body_of(request, gateway.settings.max_body))
    model, texts = read_embeddings(body)
    gateway.admit(exchange.user)
    gateway.router.able(model, "embed")
    gateway.charge(exchange.user, estimate(texts))
    vectors, count = await unless_gone(request, gateway.embed(texts, model))
    gateway.telemetry.tokens(prompt=count)
    exchange.told |= {"model": model[:80], "prompt_tokens": count, "completion_tokens": 0}
    told: list[Any] = vectors
    if body.get("encoding_format") == "base64":
        told = [base64.b64encode(struct.pack(f"<{len(v)}f", *v)).decode() for v in vectors]
    rows = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(told)]
    usage = {"prompt_tokens": count, "total_tokens": count}
    return json_response({"object": "list", "data": rows, "model": model, "usage": usage})


async def models(gateway: Gateway, exchange: Exchange, request: Request) -> Response:
    """Answer /v1/models, and /v1/models/NAME."""
    known = [
        {"id": name, "object": "model", "created": 0, "owned_by": "labkit"} for name in gateway.pool.models()
    ]
    if (name := request.path_params.get("model")) is None:
        return json_response({"object": "list", "data": known})
    for model in known:
        if model["id"] == name:
            return json_response(model)
    raise Refused(404, "model_not_found", f"there is no model {name!r:.80}", "see /v1/models")


async def feedback(gateway: Gateway, exchange: Exchange, request: Request) -> Response:
    """Take a vote on an answer: {"vote": "up"} or {"vote": "down"}."""
    vote = parse(await body_of(request, gateway.settings.max_body)).get("vote")
    if vote not in ("up", "down"):
        raise OptionInvalid.of("vote", vote, "up or down")
    gateway.telemetry.thumb(vote)
    return json_response({})


async def health(gateway: Gateway, exchange: Exchange, request: Request) -> Response:
    """Say that the program runs, and in which state each backend is."""
    return json_response(
        {"status": "ok", "backends": {s["name"]: s["state"] for s in states(gateway.router)}}
    )


async def ready(gateway: Gateway, exchange: Exchange, request: Request) -> Response:
    """Say whether requests are taken."""
    if why := gateway.not_ready:
        raise Refused(503, "not_ready", why, "wait", 1.0)
    return json_response({"status": "ready"})


async def metrics(gateway: Gateway, exchange: Exchange, request: Request) -> Response:
    """Show all figures to a Prometheus server."""
    if exchange.user.role != "admin":
        raise Refused(403, "admin_only", "figures are for admins", "use a key of the role admin")
    return Response(gateway.telemetry.page(), media_type=CONTENT_TYPE)


ROUTES: dict[str, Work] = {
    "POST /v1/chat/completions": chat,
    "POST /v1/completions": completions,
    "POST /v1/embeddings": embeddings,
    "GET /v1/models": models,
    "GET /v1/models/{model:path}": models,
    "POST /v1/feedback": feedback,
    "GET /health": health,
    "GET /ready": ready,
    "GET /metrics": metrics,
}


class Server(uvicorn.Server):
    """Run a gateway until SIGTERM or Ctrl-C; then it takes nothing new, ends what it does, and returns."""

    def __init__(self, settings: Settings) -> None:
        self.gateway_app = create_app(settings)
        config = uvicorn.Config(
            self.gateway_app,
            host=settings.host,
            port=settings.port,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=round(settings.grace) + 2,
            ssl_certfile=settings.tls_cert or None,
            ssl_keyfile=settings.tls_key or None,
            h11_max_incomplete_event_size=64 * 1024,
        )
        super().__init__(config)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the orderly end; a second signal makes it short."""
        self.force_exit = self.should_exit
        self.should_exit = True
        if self.config.loaded and self.started:
            self.gateway_app.state.gateway.stop()
