"""The gateway's own small API: models, regions, explain, health. One Starlette router, no lifespan of its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response
from starlette.routing import Route, Router

from vetted_mw.asgi.door import Admitted, Identify, admit, refuse_cross_site
from vetted_mw.asgi.intake import read_body
from vetted_mw.chat.request import parse_request
from vetted_mw.chat.response import error_envelope, retry_headers
from vetted_mw.errors import AnswerError, MethodNotAllowedError, NotFoundError
from vetted_mw.routing.decision import Settled, check_policy
from vetted_mw.routing.options import parse_options
from vetted_mw.routing.refusal import refusal_for
from vetted_mw.routing.trace import build_trace, told_signal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from vetted_mw.chat.request import ChatRequest
    from vetted_mw.core import Core
    from vetted_mw.gateway import Gateway
    from vetted_mw.routing.decision import Candidate, Rules
    from vetted_mw.routing.options import Options

__all__ = ["endpoints_app", "explained", "is_endpoint", "region_facts"]

_Handler = "Callable[[Request, Core, Admitted], Awaitable[Any]]"


_PATHS = frozenset({"/v1/models", "/v1/regions", "/v1/vetted/explain", "/healthz", "/readyz"})
_REGION = re.compile(r"/v1/regions/[^/]+")


def is_endpoint(path: str) -> bool:
    """Whether a path (after `root_path`) is one of the gateway's own, so that all others can stay untouched."""
    return path in _PATHS or _REGION.fullmatch(path) is not None


def endpoints_app(gateway: Gateway, *, identify: Identify | None = None) -> ASGIApp:
    """Build the router.

    Args:
        gateway: whose facts it tells.
        identify: the host application's authentication.
    """
    told = _Told(gateway, identify)
    routes = [
        Route("/v1/models", told.by_caller("GET", _models), methods=None),
        Route("/v1/regions", told.by_caller("GET", _regions), methods=None),
        Route("/v1/regions/{code}", told.by_caller("GET", _region), methods=None),
        Route("/v1/vetted/explain", told.by_caller("POST", _explain), methods=None),
        Route("/healthz", told.by_anyone(_healthz), methods=None),
        Route("/readyz", told.by_anyone(_readyz), methods=None),
    ]
    return Router(routes, redirect_slashes=False, default=_not_found)


class _Told:
    """Wraps the endpoints: who may ask, and errors in OpenAI's envelope."""

    def __init__(self, gateway: Gateway, identify: Identify | None) -> None:
        self._gateway = gateway
        self._identify = identify

    def by_caller(
        self, method: str, handler: Callable[[Request, Core, Admitted], Awaitable[Any]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint for callers only."""

        async def endpoint(request: Request) -> Response:
            try:
                _require_method(request, method)
                refuse_cross_site(request.headers.raw)
                core = await self._gateway.core()
                admitted = await admit(request.scope, core.configuration, self._identify)
                return _json(await handler(request, core, admitted))
            except AnswerError as error:
                return _error(error)

        return endpoint

    def by_anyone(self, handler: Callable[[Gateway], tuple[int, Any]]) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint that is open."""

        async def endpoint(request: Request) -> Response:
            try:
                _require_method(request, "GET")
            except AnswerError as error:
                return _error(error)
            status, content = handler(self._gateway)
            return _json(content, status=status)

        return endpoint


async def _models(_request: Request, core: Core, _admitted: Admitted) -> dict[str, object]:
    served: dict[str, list[str]] = {}
    for code in core.configuration.upstreams:
        state = core.fleet.state(code)
        for name in sorted(state.models or ()) if state is not None else ():
            served.setdefault(name, []).append(code)
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": "vetted-mw", "regions": regions}
        for name, regions in sorted(served.items())
    ]
    return {"object": "list", "data": data}


async def _regions(_request: Request, core: Core, _admitted: Admitted) -> dict[str, object]:
    return {"object": "list", "data": [region_facts(core, candidate) for candidate in core.candidates(core.now())]}


async def _region(request: Request, core: Core, _admitted: Admitted) -> dict[str, object]:
    code = request.path_params["code"]
    for candidate in core.candidates(core.now()):
        if candidate.region.code == code:
            return region_facts(core, candidate)
    raise NotFoundError("No such region. GET /v1/regions lists them.")


async def _explain(request: Request, core: Core, admitted: Admitted) -> dict[str, object]:
    body = await read_body(request.scope, request.receive, core.configuration.limits)
    chat = parse_request(body.content)
    options = parse_options(chat.vetted_members, request.headers.raw, regions=core.configuration.regions)
    return explained(core, chat, options, admitted.rules)


def explained(core: Core, chat: ChatRequest, options: Options, rules: Rules) -> dict[str, object]:
    """Return the decision a request would get, without calling an upstream.

    Raises:
        AnswerError: policy forbids the request.
    """
    check_policy(options, rules, core.configuration.regions)
    decision = core.decide(options, chat.model, rules)
    first = decision.order[0] if decision.order else None
    operational = decision.readings.get(first) if first is not None and first in decision.live else None
    settled = Settled(mode=decision.mode, reason=decision.reason, region=first, operational=operational)
    trace = build_trace(decision, settled, (), receipt_reading=None)
    told: dict[str, object] = {"order": list(decision.order), "routing_trace": msgspec.to_builtins(trace)}
    if not decision.order:
        told |= msgspec.json.decode(error_envelope(refusal_for(decision, (), options=options)))
    return told


def region_facts(core: Core, candidate: Candidate) -> dict[str, object]:
    """Return what is known of one region: facts, live signal, health, load."""
    region = candidate.region
    state = core.fleet.state(region.code)
    return {
        "code": region.code,
        "object": "region",
        "provider": region.provider,
        "site": region.site,
        "location": region.location,
        "country": region.country,
        "zone": region.zone,
        "inference": region.inference,
        "configured": candidate.configured,
        "annual": {
            "gco2_per_kwh": region.annual_gco2_per_kwh,
            "year": region.annual_year,
            "source": region.annual_source,
            "basis": region.annual_basis,
        },
        "network_p50_ms": region.network_p50_ms,
        "network_p95_ms": candidate.network_p95_ms,
        "note": region.note,
        "signal": None if candidate.reading is None else msgspec.to_builtins(told_signal(candidate.reading)),
        "health": None
        if state is None
        else {
            "probe": state.health.value,
            "breaker": state.breaker.value,
            "degraded": state.degraded,
            "saturated": state.saturated,
        },
        "in_flight": 0 if state is None else state.in_flight,
        "models": None if state is None or state.models is None else sorted(state.models),
    }


def _healthz(_gateway: Gateway) -> tuple[int, Any]:
    return 200, {"status": "ok"}


def _readyz(gateway: Gateway) -> tuple[int, Any]:
    if not gateway.is_open:
        return 503, {"status": "closed"}
    states = [gateway.fleet.state(code) for code in gateway.configuration.upstreams]
    ready = any(state is not None and not state.degraded for state in states)
    return (200, {"status": "ready"}) if ready else (503, {"status": "no_region_available"})


def _require_method(request: Request, method: str) -> None:
    if request.method != method:
        raise MethodNotAllowedError(f"Use {method} here.")


def _json(content: object, *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status_code=status, media_type="application/json")


def _error(error: AnswerError) -> Response:
    headers = {name.decode(): value.decode() for name, value in retry_headers(error)}
    return Response(error_envelope(error), status_code=error.status, media_type="application/json", headers=headers)


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
        return
    await _error(NotFoundError("No such endpoint. See the README's wire summary."))(scope, receive, send)
