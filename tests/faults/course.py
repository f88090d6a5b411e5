"""Run a fault past every policy, on sockets of its own, and write down everything that can be seen of it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import TracerProvider

from faults.bodies import BODIES
from faults.due import ATTEMPTS, Case
from faults.early import BEGUN_EARLY
from faults.events import EVENTS
from faults.leaping import run_leaping
from faults.playing import Gate
from faults.policies import INTENSITIES, REGIONS, Policy
from faults.refusals import NOW, REFUSALS, SOON, UNANSWERED
from faults.site import WELL, Site
from faults.watching import Spans, kept_logs
from streams.wall import LIMIT, Caller, Told, busy_connections, told, until
from vetted_mw import Gateway, VettedProxy, load_configuration
from vetted_mw.proxy.transport import HttpxTransport
from vetted_mw.testing import StaticSignals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.sdk.trace import ReadableSpan
    from starlette.types import ASGIApp, Message

    from faults.fault import Fault
    from faults.site import Logged
    from vetted_mw.configuration import Upstream
    from vetted_mw.proxy.transport import Response, UpstreamRequest

__all__ = [
    "FAULTS",
    "GROUPS",
    "KEY",
    "PROMPT",
    "Measured",
    "Reading",
    "Run",
    "body_of",
    "gateway_over",
    "measured",
    "site_of",
]

GROUPS: Mapping[str, list[Fault]] = {
    "A status": REFUSALS,
    "No answer, or one too late": UNANSWERED,
    "A body": BODIES,
    "Events of a stream": EVENTS,
    "A stream begun early, by `commit_after_seconds`": BEGUN_EARLY,
}
FAULTS = tuple(fault for group in GROUPS.values() for fault in group)
PROMPT, KEY = "canary-of-a-prompt", "canary-of-a-key"
_LIMITS = {
    "attempts": ATTEMPTS,
    "connect_seconds": 100.0,
    "first_byte_seconds": 100.0,
    "answer_seconds": 100.0,
    "idle_seconds": 100.0,
    "finish_hold_seconds": 100.0,
    "total_seconds": 150.0,
}
_REPEATS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was seen of one case.

    Attributes:
        told: what the caller was told.
        contacted: where connections came, up to the end of the request.
        log: the upstreams' logs of the request.
        spans: those that ended, in order.
        open_spans: spans that never ended, once the gateway was closed.
        in_flight: leases held right after the answer, and at the end.
        busy: connections in use right after the answer, and at the end.
        follow_up: what the next request, pinned to the faulty region and answered well, was told; None without one.
        breaker: where the region's breaker stands after the fault was repeated; None where it was not.
        saturated: whether the region counts as saturated right after the answer.
        open_connections: connections left at the upstreams once the gateway was closed.
    """

    told: Told
    contacted: tuple[str, ...]
    log: tuple[Logged, ...]
    spans: tuple[ReadableSpan, ...]
    open_spans: int
    in_flight: tuple[int, int]
    busy: tuple[list[str], list[str]]
    follow_up: Told | None
    breaker: str | None
    saturated: bool
    open_connections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All cases of one fault: they run at the same time, each with a gateway and upstreams of its own.

    Attributes:
        cases: what was seen of each, by (stream, policy).
        tasks: tasks that were left at the end.
        logs: every log record, written out.
    """

    cases: Mapping[tuple[bool, Policy], Measured]
    tasks: tuple[str, ...]
    logs: tuple[str, ...]


def measured(fault: Fault) -> Run:
    """Run all cases of a fault, once: one that cannot be run is not run again for the next question."""
    run = _run_or_error(fault)
    if isinstance(run, Run):
        return run
    raise AssertionError("the fault could not be measured") from run


@functools.cache
def _run_or_error(fault: Fault) -> Run | BaseException:
    try:
        return run_leaping(_measure(fault))
    except Exception as error:  # noqa: BLE001 (raised by whoever asks)
        return error


async def _measure(fault: Fault) -> Run:
    before = asyncio.all_tasks()
    cases = [
        Case(fault=fault, stream=stream, policy=policy)
        for stream in (False, True)
        for policy in Policy
        if fault.due(stream=stream) is not None
    ]
    with kept_logs() as logs:
        results = await asyncio.gather(*(_measure_case(case) for case in cases))
    with contextlib.suppress(TimeoutError):
        await until(lambda: asyncio.all_tasks() == before)
    left = asyncio.all_tasks() - before
    return Run(
        cases={(case.stream, case.policy): result for case, result in zip(cases, results, strict=True)},
        tasks=tuple(repr(task) for task in left),
        logs=tuple(logs),
    )


async def _measure_case(case: Case) -> Measured:
    async with site_of(case) as site:
        gateway, spans = gateway_over(site, case.fault)
        async with gateway:
            app = VettedProxy(gateway)
            answer = await _ask(app, site, case, model=case.fault.model, vetted=case.policy.value.vetted)
            in_flight, busy = gateway.fleet.in_flight, busy_connections(gateway)
            ended, contacted, log = tuple(spans.ended), tuple(site.contacted), tuple(site.of(str(case)))
            faulty = case.policy.value.faulty[0]
            state = gateway.fleet.state(faulty)
            assert state is not None
            await until(lambda: all(one.over for one in site.log))
            follow_up = await _follow_up(app, site, case, faulty) if case.fault.follow_up else None
            breaker = await _repeat(gateway, app, site, case) if case.policy is Policy.PINNED else None
            at_the_end = gateway.fleet.in_flight, busy_connections(gateway)
        with contextlib.suppress(TimeoutError):
            await until(lambda: not site.open_connections)
        return Measured(
            told=answer,
            contacted=contacted,
            log=log,
            spans=ended,
            open_spans=spans.open,
            in_flight=(in_flight, at_the_end[0]),
            busy=(busy, at_the_end[1]),
            follow_up=follow_up,
            breaker=breaker,
            saturated=state.saturated,
            open_connections=site.open_connections,
        )


async def _follow_up(app: ASGIApp, site: Site, case: Case, region: str) -> Told:
    model = case.fault.model if case.fault.once else WELL
    return await _ask(app, site, case, model=model, vetted={"region": region}, name="follow-up")


async def _repeat(gateway: Gateway, app: ASGIApp, site: Site, case: Case) -> str:
    """Repeat the fault at its region until a breaker that counts it must have opened."""
    vetted = case.policy.value.vetted
    model = case.fault.model
    await asyncio.gather(
        *(_ask(app, site, case, model=model, vetted=vetted, name=str(number)) for number in range(_REPEATS))
    )
    state = gateway.fleet.state(case.policy.value.faulty[0])
    assert state is not None
    return state.breaker.value


# ---- the stage of a case


def site_of(case: Case) -> Site:
    """Make the upstreams a case meets."""
    fault = case.fault
    plays = {
        one.model: {stream: due.play for stream in (False, True) if (due := one.due(stream=stream)) is not None}
        for one in FAULTS
    }
    return Site(
        REGIONS,
        faulty=case.policy.value.faulty,
        plays=plays,
        bare=fault.bare,
        refusing=fault.refusing,
        once=fault.once,
    )


def _standing_still() -> float:
    """No window and no breaker comes to its end while a case is measured, on however slow a machine."""
    return 1000.0


def gateway_over(
    site: Site, fault: Fault, *, monotonic: Callable[[], float] = _standing_still, soon: float = SOON
) -> tuple[Gateway, Spans]:
    """Make a gateway over a site; the limits and the scheme of the fault hold for the faulty regions only."""
    regions: dict[str, Any] = {}
    for region in REGIONS:
        is_faulty = region in site.faulty
        regions[region] = {
            "base_url": site.base_url(region, scheme=fault.scheme if is_faulty else "http"),
            "api_key": {"env": "UPSTREAM_KEY"},
            "health_path": "",
            "limits": _timed(fault.limits, soon) if is_faulty else {},
        }
    configuration = load_configuration(
        environ={"UPSTREAM_KEY": KEY},
        overrides={
            "regions": regions,
            "limits": _LIMITS | dict(fault.settings),
            "default_order": list(Policy.DEFAULT.value.order),
        },
    )
    spans = Spans()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(spans)
    gateway = Gateway(
        configuration,
        signals=[StaticSignals(INTENSITIES, now=lambda: NOW)],
        transport=lambda upstream: _Watched(upstream, site),
        now=lambda: NOW,
        monotonic=monotonic,
        tracer_provider=provider,
    )
    return gateway, spans


def _timed(limits: Mapping[str, float], soon: float) -> dict[str, float]:
    return {name: soon if value == SOON else value for name, value in limits.items()}


class _Watched(HttpxTransport):
    """The transport as it is, which also tells the site whose head was read."""

    def __init__(self, upstream: Upstream, site: Site) -> None:
        super().__init__(upstream)
        self._region = upstream.region
        self._site = site

    async def send(self, request: UpstreamRequest) -> Response:
        """Send, and say so when the head has come."""
        response = await super().send(request)
        self._site.head_was_read(self._region, dict(request.headers)[b"x-request-id"].decode())
        return response


# ---- the caller


def body_of(case: Case, *, model: str, vetted: Mapping[str, Any]) -> dict[str, Any]:
    """The request of a case, or one that follows it."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": PROMPT}],
        "vetted": dict(vetted),
        **({"stream": True} if case.stream else {}),
        **(case.fault.asks if model == case.fault.model else {}),
    }


async def _ask(app: ASGIApp, site: Site, case: Case, *, model: str, vetted: Mapping[str, Any], name: str = "") -> Told:
    body = body_of(case, model=model, vetted=vetted)
    request_id = f"{case}-{name}" if name else str(case)
    async with asyncio.timeout(_LIMITS["total_seconds"] + LIMIT):
        return told(await Reading(app, body, site=site, request_id=request_id).exchange())


class Reading(Caller):
    """Tells the site what has reached it."""

    def __init__(self, app: ASGIApp, body: Mapping[str, Any], *, site: Site, request_id: str) -> None:
        super().__init__(app, body, headers=[("x-request-id", request_id)])
        self._site = site
        self._request_id = request_id

    async def _send(self, message: Message) -> None:
        await super()._send(message)
        if message["type"] == "http.response.start":
            self._site.was_delivered(Gate.BEGIN, self._request_id)
        if message.get("body"):
            self._site.was_delivered(Gate.CONTENT, self._request_id)
