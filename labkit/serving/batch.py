"""Many requests in one: they are answered a few at a time, behind everybody who waits for an answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from labkit.errors import LabkitError, OptionInvalid
from labkit.serving.exchange import Exchange
from labkit.serving.gateway import Gateway
from labkit.serving.openai_api import Format, parse, read_chat
from labkit.serving.refused import error_object, json_response, refused
from labkit.serving.web import body_of, collected, unless_gone

MOST = 1_000


async def run_batch(gateway: Gateway, exchange: Exchange, request: Request) -> Response:
    """Answer {"requests": [{"custom_id": …, "body": {chat completion}}, …]} in the same order, each with its status."""
    asked = parse(await body_of(request, gateway.settings.max_body)).get("requests")
    if (
        not isinstance(asked, list)
        or not 0 < len(asked) <= MOST
        or not all(isinstance(a, dict) for a in asked)
    ):
        raise OptionInvalid.of("requests", asked, f"a list of 1 to {MOST} objects with a body")
    gate = asyncio.Semaphore(max(1, gateway.settings.batch))

    async def one(item: dict[str, Any]) -> dict[str, Any]:
        async with gate:
            status, body = await answered(gateway, exchange, item.get("body"))
        return {"custom_id": item.get("custom_id"), "status": status, "body": body}

    results = await unless_gone(request, together([one(item) for item in asked]))
    exchange.told |= {"requests": len(asked)}
    return json_response({"object": "list", "results": results})


async def together(works: list[Any]) -> list[Any]:
    """Return all results; if this is cancelled, so are all."""
    return list(await asyncio.gather(*works))


async def answered(gateway: Gateway, batch: Exchange, body: Any) -> tuple[int, dict[str, Any]]:
    """Answer one request of a batch as if it had come alone, with a line of its own in the audit log."""
    user = replace(batch.user, role="batch")
    route = "/v1/chat/completions"
    exchange = Exchange(gateway.audit, gateway.telemetry.request(route, user.role, user.id), user, route)
    try:
        if not isinstance(body, dict):
            raise OptionInvalid.of("body", body, "a chat completion")
        ask = replace(read_chat(body, gateway.settings.max_tokens), stream=False)
        chunks = await collected(gateway.answer(ask, exchange))
        return 200, Format(exchange.id, ask.model).whole(chunks)
    except LabkitError as error:
        no = refused(error)
        exchange.end(no.status)
        return no.status, error_object(no)
    finally:
        exchange.end(499)
