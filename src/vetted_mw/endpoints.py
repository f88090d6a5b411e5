"""The gateway's own small API: models, regions, explain, health. One Starlette router, no lifespan of its own."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from starlette.routing import Route, Router

from vetted_mw.asgi.door import Identify, admit, refuse_cross_site
from vetted_mw.asgi.intake import CallerLeftError, Inflow, read_body
from vetted_mw.asgi.paths import route_path
from vetted_mw.asgi.sending import JSON, Sender, own_fault
from vetted_mw.chat.request import parse_request
from vetted_mw.chat.response import error_envelope
from vetted_mw.errors import AnswerError, MethodNotAllowedError, NotFoundError
from vetted_mw.grid.report import source_facts, zone_facts
from vetted_mw.routing.decision import Settled, check_policy, is_allowed
from vetted_mw.routing.options import parse_options
from vetted_mw.routing.refusal import refusal_for
from vetted_mw.routing.trace import build_trace, told_signal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from vetted_mw.chat.request import ChatRequest
    from vetted_mw.core import Core
    from vetted_mw.fleet.state import QueueState, RegionState
    from vetted_mw.gateway import Gateway
    from vetted_mw.routing.decision import Candidate, Rules
    from vetted_mw.routing.options import Options
    from vetted_mw.routing.regions import Region

    _Content = Callable[[Gateway, Scope, Inflow], Awaitable[tuple[int, object]]]

__all__ = ["endpoints_app", "explained", "is_endpoint", "region_facts"]

_LOG = logging.getLogger("vetted_mw")

_PATHS = frozenset({"/v1/models", "/v1/regions", "/v1/vetted/explain", "/healthz", "/readyz"})
_REGION = re.compile(r"/v1/regions/[^/]+")
_GET = ("GET", "HEAD")
_POST = ("POST",)


def is_endpoint(path: str) -> bool:
    """Whether a path (after `root_path`) is one of the gateway's own, so that all others can stay untouched."""
    path = path.removesuffix("/")
    return path in _PATHS or _REGION.fullmatch(path) is not None


def endpoints_app(gateway: Gateway, *, identify: Identify | None = None) -> ASGIApp:
    """Build the router.

    Args:
        gateway: whose facts it tells.
        identify: the host application's authentication.
    """
    told = {
        "/v1/models": _Endpoint(gateway, _for_callers(_models, identify)),
        "/v1/regions": _Endpoint(gateway, _for_callers(_regions, identify)),
        "/v1/regions/{code}": _Endpoint(gateway, _for_callers(_region, identify)),
        "/v1/vetted/explain": _Endpoint(gateway, _for_callers(_explain, identify), methods=_POST),
        "/healthz": _Endpoint(gateway, _healthz),
        "/readyz": _Endpoint(gateway, _readyz),
    }
    # Litestar's mount appends a slash to every path.
    routes = [Route(path + end, app, methods=None) for path, app in told.items() for end in ("", "/")]
    return Router(routes, redirect_slashes=False, default=_Endpoint(gateway, _nowhere, methods=()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """One request to an endpoint for callers.

    Attributes:
        core: the gateway's rooms.
        scope: the request's.
        inflow: its body, unread.
        rules: the operator's rules as narrowed for the caller.
    """

    core: Core
    scope: Scope
    inflow: Inflow
    rules: Rules


class _Endpoint:
    """Answers one path in JSON, and whatever is wrong in OpenAI's envelope.

    Args:
        gateway: whose facts it tells.
        content: gives status and content; an `AnswerError` raised there becomes the answer.
        methods: those it takes; empty stands for all.
    """

    def __init__(self, gateway: Gateway, content: _Content, *, methods: tuple[str, ...] = _GET) -> None:
        self._gateway = gateway
        self._content = content
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; nothing escapes that could carry what the caller wrote."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        inflow = Inflow(scope, receive, self._gateway.configuration.limits)
        sender = Sender(send)
        try:
            await self._answered(scope, inflow, sender)
        except CallerLeftError:
            _LOG.debug("the caller left before its answer ended")

    async def _answered(self, scope: Scope, inflow: Inflow, sender: Sender) -> None:
        methods = self._methods
        if route_path(scope).removesuffix("/") in self._gateway.paths:
            methods = _POST  # a completion never comes this far: here its path only turns other methods away
        if methods and scope["method"] not in methods:
            error = MethodNotAllowedError(f"Use {methods[0]} here.")
            await sender.error(error, headers=[(b"allow", ", ".join(methods).encode())], trace=None, inflow=inflow)
            return
        try:
            status, content = await self._content(self._gateway, scope, inflow)
        except CallerLeftError:
            raise
        except AnswerError as error:
            await sender.error(error, headers=[], trace=None, inflow=inflow)
        except Exception as error:  # noqa: BLE001 (the last wall: what an exception says may be the caller's words)
            await sender.error(own_fault(error), headers=[], trace=None, inflow=inflow)
        else:
            await sender.whole(status, [JSON], msgspec.json.encode(content))


def _for_callers(content: Callable[[_Asked], Awaitable[object]], identify: Identify | None) -> _Content:
    """Return content for those whom the door lets in."""

    async def told(gateway: Gateway, scope: Scope, inflow: Inflow) -> tuple[int, object]:
        if scope["method"] == "POST":
            refuse_cross_site(scope["headers"])
        core = await gateway.core()
        admitted = await admit(scope, core.configuration, identify)
        return 200, await content(_Asked(core=core, scope=scope, inflow=inflow, rules=admitted.rules))

    return told


async def _models(asked: _Asked) -> dict[str, object]:
    served: dict[str, list[str]] = {}
    regions = asked.core.configuration.regions
    for code in asked.core.configuration.upstreams:
        if not regions[code].inference or not is_allowed(regions[code], asked.rules):
            continue  # it will never serve this caller
        state = asked.core.fleet.state(code)
        for name in sorted(state.models or ()) if state is not None else ():
            served.setdefault(name, []).append(code)
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": "vetted-mw", "regions": codes}
        for name, codes in sorted(served.items())
    ]
    return {"object": "list", "data": data}


async def _regions(asked: _Asked) -> dict[str, object]:
    core = asked.core
    told = [region_facts(core, candidate) for candidate in core.candidates(core.now())]
    return {"object": "list", "data": told, "sources": source_facts(core.board)}


async def _region(asked: _Asked) -> dict[str, object]:
    core = asked.core
    for candidate in core.candidates(core.now()):
        if candidate.region.code == asked.scope["path_params"]["code"]:
            return region_facts(core, candidate)
    raise NotFoundError("No such region. GET /v1/regions lists them.")


async def _explain(asked: _Asked) -> dict[str, object]:
    configuration = asked.core.configuration
    body = await read_body(asked.scope, asked.inflow, configuration.limits)
    chat = parse_request(body.content)
    options = parse_options(chat.vetted_members, asked.scope["headers"], regions=configuration.regions)
    return explained(asked.core, chat, options, asked.rules)


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
    # A candidate without an upstream is judged on no signal; whoever looks for the next upstream wants to see it.
    reading = candidate.reading or core.board.best(region.zone, core.now())
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
            "declared": region.shipped,
            "year": region.annual_year,
            "source": region.annual_source,
            "basis": region.annual_basis,
        },
        **_network_facts(region, state),
        "note": region.note,
        "signal": None if reading is None else msgspec.to_builtins(told_signal(reading)),
        "signals": zone_facts(core.board, region.zone, core.now()),
        "health": None
        if state is None
        else {
            "probe": state.health.value,
            "probe_status": state.probe_status,
            "breaker": state.breaker.value,
            "degraded": state.degraded,
            "saturated": state.saturated,
        },
        "in_flight": 0 if state is None else state.in_flight,
        "queue": None if state is None or state.queue is None else _queue_facts(state.queue),
        "models": None if state is None or state.models is None else sorted(state.models),
    }


def _network_facts(region: Region, state: RegionState | None) -> dict[str, object]:
    if state is not None and state.network_p95_ms is not None:
        return _latency(state.network_p50_ms, state.network_p95_ms, "measured")
    p50, p95 = region.network_p50_ms, region.network_p95_ms
    return _latency(p50, p95, None if p50 is None and p95 is None else "declared")


def _latency(p50: float | None, p95: float | None, source: str | None) -> dict[str, object]:
    return {"network_p50_ms": p50, "network_p95_ms": p95, "network_source": source}


def _queue_facts(queue: QueueState) -> dict[str, object]:
    return {
        "engine": queue.engine.value,
        "running": queue.running,
        "waiting": queue.waiting,
        "age_seconds": round(queue.age_seconds, 1),
        "stale": queue.stale,
    }


async def _healthz(_gateway: Gateway, _scope: Scope, _inflow: Inflow) -> tuple[int, object]:
    return 200, {"status": "ok"}


async def _readyz(gateway: Gateway, _scope: Scope, _inflow: Inflow) -> tuple[int, object]:
    if gateway.is_shutting_down:
        return 503, {"status": "shutting_down"}
    core = await gateway.core()  # a host that only sends requests to what is ready would else never open it
    rules = core.configuration.rules
    is_ready = any(
        candidate.configured
        and candidate.region.inference
        and is_allowed(candidate.region, rules)
        and not candidate.degraded
        for candidate in core.candidates(core.now())
    )
    return (200, {"status": "ready"}) if is_ready else (503, {"status": "no_region_available"})


async def _nowhere(_gateway: Gateway, _scope: Scope, _inflow: Inflow) -> tuple[int, object]:
    raise NotFoundError("No such endpoint. See the README's wire summary.")
