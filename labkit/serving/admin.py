"""What an instructor may do while the gateway runs: see, start, stop and replace models; and what alerts do."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from labkit.errors import OptionInvalid
from labkit.serving.app import Work
from labkit.serving.batch import run_batch
from labkit.serving.exchange import Exchange
from labkit.serving.gateway import Gateway
from labkit.serving.openai_api import parse
from labkit.serving.refused import Refused, json_response
from labkit.serving.settings import Backend
from labkit.serving.states import states
from labkit.serving.web import body_of


def require_admin(exchange: Exchange) -> None:
    """Refuse everybody else."""
    if exchange.user.role not in ("admin", "instructor"):
        raise Refused(403, "admin_only", "this is for instructors", "use a key of the role admin")


async def see(gateway: Gateway, exchange: Exchange, request: Request) -> Response:
    """List the backends."""
    require_admin(exchange)
    return json_response({"backends": states(gateway.router)})


async def change(gateway: Gateway, exchange: Exchange, request: Request) -> Response:
    """Do {"action": "start" or "replace", "backend": "NAME=ENGINE;…"}, or {"action": "stop", "backend": "NAME"}."""
    require_admin(exchange)
    body = parse(await body_of(request, gateway.settings.max_body))
    action, text = body.get("action"), body.get("backend")
    if not isinstance(text, str) or not 0 < len(text) <= 1000:
        raise OptionInvalid.of("backend", text, "NAME=ENGINE;model=nano")
    if action == "stop":
        await gateway.pool.stop(text)
    elif action in ("start", "replace"):
        change = gateway.pool.start if action == "start" else gateway.pool.replace
        await change(Backend.parse(text))
        gateway.router.breakers.pop(text.partition("=")[0], None)
    else:
        raise OptionInvalid.of("action", action, "start, stop or replace")
    exchange.told |= {"action": action, "backend": text.partition("=")[0]}
    return json_response({"backends": states(gateway.router)})


async def alerted(gateway: Gateway, exchange: Exchange, request: Request) -> Response:
    """Take alerts from a Prometheus server, as its Alertmanager would."""
    require_admin(exchange)
    raw = await body_of(request, gateway.settings.max_body)
    await gateway.alerts.receive(parse(b'{"alerts": ' + raw + b"}")["alerts"])
    return json_response({})


ROUTES: dict[str, Work] = {
    "GET /admin/models": see,
    "POST /admin/models": change,
    "POST /api/v2/alerts": alerted,
    "POST /v1/batch": run_batch,
}
