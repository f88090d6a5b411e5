"""The stage of a case: the faults there are, the upstreams it meets, the gateway over them, and by which transport."""

from __future__ import annotations

import dataclasses
import functools
import os
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from faults.bodies import BODIES
from faults.due import ATTEMPTS
from faults.early import BEGUN_EARLY
from faults.events import EVENTS
from faults.policies import INTENSITIES, REGIONS, Policy
from faults.refusals import NOW, REFUSALS, SOON, UNANSWERED
from faults.site import Site
from faults.watching import Spans
from vetted_mw import Gateway, load_configuration
from vetted_mw.configuration import DEFAULT_TRANSPORT
from vetted_mw.proxy.doors import DOORS
from vetted_mw.testing import StaticSignals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from faults.due import Case
    from faults.fault import Fault
    from faults.playing import Play
    from vetted_mw.configuration import Configuration, Upstream
    from vetted_mw.proxy.transport import Response, Transport, UpstreamRequest

__all__ = ["FAULTS", "GROUPS", "KEY", "OTHERS", "TOTAL_SECONDS", "TRANSPORT", "gateway_over", "site_of"]

TRANSPORT = os.environ.get("FAULT_WALL_TRANSPORT", DEFAULT_TRANSPORT)
"""Over which transport all of the wall runs: the package's default one, unless the environment names another."""

OTHERS = tuple(name for name in DOORS if name != TRANSPORT)
"""The other transports: each fault is met over them as well, by one policy."""

GROUPS: Mapping[str, list[Fault]] = {
    "A status": REFUSALS,
    "No answer, or one too late": UNANSWERED,
    "A body": BODIES,
    "Events of a stream": EVENTS,
    "A stream begun early, by `commit_after_seconds`": BEGUN_EARLY,
}
FAULTS = tuple(fault for group in GROUPS.values() for fault in group)
KEY = "canary-of-a-key"
TOTAL_SECONDS = 150.0
_LIMITS = {
    "attempts": ATTEMPTS,
    "connect_seconds": 100.0,
    "first_byte_seconds": 100.0,
    "answer_seconds": 100.0,
    "idle_seconds": 100.0,
    "finish_hold_seconds": 100.0,
    "total_seconds": TOTAL_SECONDS,
}


def site_of(case: Case) -> Site:
    """Make the upstreams a case meets."""
    fault = case.fault
    return Site(
        REGIONS,
        faulty=case.policy.value.faulty,
        plays=_plays(),
        bare=fault.bare,
        refusing=fault.refusing,
        once=fault.once,
    )


@functools.cache
def _plays() -> Mapping[str, Mapping[bool, Play]]:
    return {
        one.model: {stream: due.play for stream in (False, True) if (due := one.due(stream=stream)) is not None}
        for one in FAULTS
    }


def _standing_still() -> float:
    """No window and no breaker comes to its end while a case is measured, on however slow a machine."""
    return 1000.0


def gateway_over(
    site: Site,
    fault: Fault,
    *,
    monotonic: Callable[[], float] = _standing_still,
    soon: float = SOON,
    transport: str = TRANSPORT,
) -> tuple[Gateway, Spans]:
    """Make a gateway over a site; the limits and the scheme of the fault hold for the faulty regions only."""
    read = _configuration(fault, frozenset(site.faulty), soon)
    upstreams = {
        region: dataclasses.replace(
            upstream, base_url=site.base_url(region, scheme=fault.scheme if region in site.faulty else "http")
        )
        for region, upstream in read.upstreams.items()
    }
    spans = Spans()
    provider = TracerProvider(shutdown_on_exit=False, resource=Resource.get_empty())
    provider.add_span_processor(spans)
    gateway = Gateway(
        dataclasses.replace(read, upstreams=MappingProxyType(upstreams)),
        signals=[StaticSignals(INTENSITIES, now=lambda: NOW)],
        transport=lambda upstream: _Watched(upstream, site, DOORS[transport]),
        now=lambda: NOW,
        monotonic=monotonic,
        tracer_provider=provider,
    )
    return gateway, spans


@functools.cache
def _configuration(fault: Fault, faulty: frozenset[str], soon: float) -> Configuration:
    """Read the settings of all sites with the same faulty regions: they differ in the addresses only."""
    regions: dict[str, Any] = {
        region: {
            "base_url": "http://127.0.0.1/v1",
            "api_key": {"env": "UPSTREAM_KEY"},
            "health_path": "",
            "limits": _timed(fault.limits, soon) if region in faulty else {},
        }
        for region in REGIONS
    }
    return load_configuration(
        environ={"UPSTREAM_KEY": KEY},
        overrides={
            "regions": regions,
            "limits": _LIMITS | dict(fault.settings),
            "default_order": list(Policy.DEFAULT.value.order),
        },
    )


def _timed(limits: Mapping[str, float], soon: float) -> dict[str, float]:
    return {name: soon if value == SOON else value for name, value in limits.items()}


class _Watched:
    """A transport as it is, which also tells the site whose head was read."""

    def __init__(self, upstream: Upstream, site: Site, door: Callable[[Upstream], Transport]) -> None:
        self._door: Any = door(upstream)
        self._region = upstream.region
        self._site = site

    @property
    def _busy(self) -> object:
        """What the wall looks at: the connections in use."""
        return self._door._busy

    async def send(self, request: UpstreamRequest) -> Response:
        """Send, and say so when the head has come."""
        response: Response = await self._door.send(request)
        self._site.head_was_read(self._region, dict(request.headers)[b"x-request-id"].decode())
        return response

    async def aclose(self) -> None:
        """Close the transport."""
        await self._door.aclose()
