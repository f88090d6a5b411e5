"""Run a fault past every policy, on sockets of its own, and write down everything that can be seen of it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from faults.due import Case
from faults.leaping import run_leaping
from faults.playing import Gate
from faults.policies import Policy
from faults.site import WELL, Site
from faults.stage import TOTAL_SECONDS, TRANSPORT, gateway_over, site_of
from faults.watching import kept_logs
from streams.wall import LIMIT, Caller, Told, busy_connections, told, until
from vetted_mw import Gateway, VettedProxy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.trace import ReadableSpan
    from starlette.types import ASGIApp, Message

    from faults.fault import Fault
    from faults.site import Logged

__all__ = ["PROMPT", "Measured", "Reading", "Run", "body_of", "cases_of", "measured"]

PROMPT = "canary-of-a-prompt"
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


def cases_of(fault: Fault, transport: str) -> list[Case]:
    """The cases of a fault: under every policy over the transport the wall runs on, over another one under one."""
    policies = tuple(Policy) if transport == TRANSPORT else (Policy.DEFAULT,)
    return [
        Case(fault=fault, stream=stream, policy=policy, transport=transport)
        for stream in (False, True)
        if fault.due(stream=stream) is not None
        for policy in policies
    ]


def measured(fault: Fault, transport: str = TRANSPORT) -> Run:
    """Run all cases of a fault, once: one that cannot be run is not run again for the next question."""
    run = _run_or_error(fault, transport)
    if isinstance(run, Run):
        return run
    raise AssertionError("the fault could not be measured") from run


@functools.cache
def _run_or_error(fault: Fault, transport: str) -> Run | BaseException:
    try:
        return run_leaping(_measure(cases_of(fault, transport)))
    except Exception as error:  # noqa: BLE001 (raised by whoever asks)
        return error


async def _measure(cases: list[Case]) -> Run:
    before = asyncio.all_tasks()
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
        gateway, spans = gateway_over(site, case.fault, transport=case.transport)
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
    async with asyncio.timeout(TOTAL_SECONDS + LIMIT):
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
