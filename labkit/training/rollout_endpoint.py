"""OpenAI's chat completions over a labkit model, for agents under training: a request in, an answer and a turn out.

What a request asks for is obeyed, or refused with an error in OpenAI's form; only what changes no answer (`store`,
`metadata`, …) is passed over. A stream is sent once the answer is whole: here nobody waits for its first word.
"""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import fastapi
import numpy as np
from fastapi.responses import JSONResponse, Response

from labkit.engines.base import Model
from labkit.engines.messages import check_messages
from labkit.engines.toolcalls import CLOSE
from labkit.engines.toolschema import tool_schemas
from labkit.errors import ContextOverflow, EngineUnavailable, LabkitError, OptionInvalid
from labkit.training.rollouts import Recorder, RolloutServer, Turn, turn_of
from labkit.types import Chunk, GenerationOptions, Message, Tool

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repeat_penalty")
REFUSED = ("logit_bias", "frequency_penalty", "presence_penalty", "functions", "top_logprobs")
MALFORMED = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
STATUS = {OptionInvalid: 400, ContextOverflow: 400, EngineUnavailable: 503, LabkitError: 500}


def create_app(server: RolloutServer) -> fastapi.FastAPI:
    """Return the application. A key comes in the header, or in the path from clients that send none."""

    def recorder_of(request: fastapi.Request) -> Recorder:
        sent = request.headers.get("authorization", "").removeprefix("Bearer ")
        found = server.open.get(request.path_params.get("key") or sent)
        if not found:
            raise fastapi.HTTPException(
                401, "this key belongs to no open rollout: use that of server.rollout()"
            )
        return found

    async def chat(request: fastapi.Request) -> Response:
        recorder = recorder_of(request)
        recorder.asked += 1
        return await asyncio.to_thread(answer, server, recorder, recorder.asked, await request.body())

    def models(request: fastapi.Request) -> Response:
        recorder_of(request)
        card = {"id": server.model.card.alias, "object": "model", "created": 0, "owned_by": "labkit"}
        return JSONResponse({"object": "list", "data": [card]})

    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(fastapi.HTTPException, lambda _, error: refused(error))
    for before in ("/v1", "/{key}/v1"):
        app.add_api_route(f"{before}/chat/completions", chat, methods=["POST"], response_model=None)
        app.add_api_route(f"{before}/models", models, response_model=None)
    return app


def refused(error: Exception) -> JSONResponse:
    """Return OpenAI's error body; a full context has the code that clients look for."""
    known = next((status for kind, status in STATUS.items() if isinstance(error, kind)), 400)
    status, code = getattr(error, "status_code", known), isinstance(error, ContextOverflow) or None
    kind = "invalid_request_error" if status < 500 else "server_error"
    what = {"message": getattr(error, "detail", "") or repr(error), "type": kind, "param": None}
    return JSONResponse({"error": {**what, "code": code and "context_length_exceeded"}}, status)


def answer(server: RolloutServer, recorder: Recorder, number: int, raw: bytes) -> Response:
    """Answer the `number`th request of a rollout and put its turn on record, also where it fails."""
    id, began, body = f"chatcmpl-{recorder.number}-{number}", time.perf_counter(), dict[str, Any]()
    turn = Turn("", [], [], {}, at=began - recorder.began)
    try:
        body = dict(json.loads(raw))
        turn = turn_of(body, at=turn.at)
        seed = zlib.crc32(f"{server.seed}/{recorder.number}/{number}".encode())
        messages, tools, options = asked_for(body, server.model, seed, server.options)
        chunks = list(server.model.stream(messages, tools=tools, options=options))
        found: dict[str, list[Any]] = {"token_ids": [id for chunk in chunks for id in chunk.ids]}
        if server.token_ids or body.get("return_token_ids") or body.get("logprobs"):
            found = sampled(server.model, messages, () if options.tool_choice == "none" else tools, **found)
        whole, reply = completion(server.model, id, chunks, found), server.model.reply_of(chunks)
        done: dict[str, Any] = {"reply": whole["choices"][0]["message"], "finish_reason": reply.finish_reason}
        ids: dict[str, Any] = {name: tuple(values) for name, values in found.items()}
        turn = replace(turn, messages=messages, tools=tools, usage=reply.usage, **done, **ids)
        streamed = Response(b"".join(events(whole, body)), media_type="text/event-stream")
        return streamed if body.get("stream") else JSONResponse(whole)
    except (LabkitError, *MALFORMED) as error:
        turn = replace(turn, error=str(error) or repr(error))
        return refused(error)
    finally:
        recorder.turns.append(replace(turn, seconds=time.perf_counter() - began))


def asked_for(
    body: Mapping[str, Any], model: Model, seed: int, fixed: Mapping[str, Any]
) -> tuple[list[Message], list[Tool], GenerationOptions]:
    """Return messages, tools and options of a request; raise `OptionInvalid` for what cannot be obeyed."""
    for name in [name for name in REFUSED if body.get(name)] + ["n"] * (body.get("n", 1) != 1):
        raise OptionInvalid(f"this endpoint knows no {name}", fix=f"leave {name} out")
    roles = {"developer": "system"}  # as OpenAI calls it nowadays
    messages = check_messages([{**t, "role": roles.get(t["role"], t["role"])} for t in body["messages"]])
    tools, choice = tool_schemas(body.get("tools") or []), body.get("tool_choice")
    if isinstance(choice, dict):  # one tool by its name
        tools = [tool for tool in tools if tool["function"]["name"] == choice["function"]["name"]]
        choice = "required"
    # Without top-k where the engine shows its scores: replies are then drawn from what ln p is told of.
    found: dict[str, Any] = {"temperature": 1.0, **({"top_k": 0} if model.engine.logits else {})}
    found |= {name: body[name] for name in SAMPLING if body.get(name) is not None}
    found |= {"tool_choice": choice} if tools and choice else {}
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    found |= {"max_tokens": limit} if limit else {}
    stop = body.get("stop") or []
    found["stop"] = [stop] if isinstance(stop, str) else list(stop)
    if tools and body.get("parallel_tool_calls") is False and model.engine.raw_tool_calls:
        found["stop"].append(CLOSE)  # one call, and the turn is over
    form = body.get("response_format") or {}
    if form.get("type", "text") != "text":
        found["schema"] = form.get("json_schema", {}).get("schema", {"type": "object"})
    found |= {"seed": int(body.get("seed") or seed) % 2**32, **fixed}
    return messages, tools, GenerationOptions.of(None, **found)


def sampled(
    model: Model, messages: list[Message], tools: Sequence[Tool], token_ids: list[int]
) -> dict[str, list[Any]]:
    """Return the ids of a prompt and of its reply, and ln p of the latter, before temperature and top-k."""
    if not model.engine.logits:
        raise OptionInvalid(f"{model.engine.name} shows no token ids", fix="load(…, engine='llamacpp')")
    prompt = model.engine.prompt(messages, tools)
    # The prompt's last token scores the first of the reply, and so on: the reply's last scores nothing.
    rows = model.window_logits([*prompt, *token_ids[:-1]], len(prompt) - 1).astype(np.float64)
    rows = rows[: len(token_ids)] - rows[: len(token_ids)].max(1, keepdims=True)
    scores = rows[np.arange(len(token_ids)), token_ids] - np.log(np.exp(rows).sum(1))
    return {"prompt_ids": prompt, "token_ids": token_ids, "logprobs": scores.tolist()}


def completion(model: Model, id: str, chunks: list[Chunk], found: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Return an answer as OpenAI's API has it; token ids and ln p as vLLM adds them."""
    reply = model.reply_of(chunks)
    message: Message = {"role": "assistant", "content": reply.text or (None if reply.tool_calls else "")}
    # Engines number the calls of one reply, clients want ids of their own in all of them.
    if reply.tool_calls:
        message["tool_calls"] = [{**call.openai(), "id": f"{id}-{call.id}"} for call in reply.tool_calls]
    usage = {"prompt_tokens": reply.usage.prompt_tokens, "completion_tokens": reply.usage.completion_tokens}
    choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason, "logprobs": None}
    whole = {"id": id, "object": "chat.completion", "created": int(time.time()), "model": model.card.alias}
    if "logprobs" in found:
        both = zip(found["token_ids"], found["logprobs"], strict=True)
        pieces = [
            {"token": f"token_id:{i}", "logprob": p, "bytes": None, "top_logprobs": []} for i, p in both
        ]
        choice |= {"token_ids": found["token_ids"], "logprobs": {"content": pieces, "refusal": None}}
        whole["prompt_token_ids"] = found["prompt_ids"]
    return {**whole, "choices": [choice], "usage": {**usage, "total_tokens": reply.usage.total_tokens}}


def events(whole: dict[str, Any], body: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield an answer as the events of a stream, in ASCII: some clients cut lines at U+2028."""
    (choice,), head = whole["choices"], {**whole, "object": "chat.completion.chunk", "usage": None}
    calls = [{**call, "index": place} for place, call in enumerate(choice["message"].get("tool_calls") or ())]
    delta = {**choice["message"], **({"tool_calls": calls} if calls else {})}
    last = {name: value for name, value in choice.items() if name != "message"}
    steps = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {"choices": [{**last, "delta": {}}]},
    ]
    if (body.get("stream_options") or {}).get("include_usage"):
        steps.append({"choices": [], "usage": whole["usage"]})
    yield from (f"data: {json.dumps({**head, **step})}\n\n".encode() for step in steps)
    yield b"data: [DONE]\n\n"
