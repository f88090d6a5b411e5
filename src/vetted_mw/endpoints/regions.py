"""What the gateway knows of models and regions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vetted_mw.errors import NotFoundError
from vetted_mw.grid.report import source_facts, zone_facts
from vetted_mw.routing.decision import is_allowed
from vetted_mw.routing.trace import told_signal

if TYPE_CHECKING:
    from vetted_mw.core import Core
    from vetted_mw.endpoints.endpoint import Asked
    from vetted_mw.fleet.state import QueueState, RegionState
    from vetted_mw.routing.decision import Candidate
    from vetted_mw.routing.regions import Region

__all__ = ["list_models", "list_regions", "one_region", "region_facts"]


async def list_models(asked: Asked) -> dict[str, object]:
    """List the models that the caller can reach, each with the regions that serve it."""
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


async def list_regions(asked: Asked) -> dict[str, object]:
    """List every region of the catalogue, and the grid services asked."""
    core = asked.core
    told = [region_facts(core, candidate) for candidate in core.candidates(core.now())]
    return {"object": "list", "data": told, "sources": source_facts(core.board)}


async def one_region(asked: Asked) -> dict[str, object]:
    """Tell of one region what the list tells.

    Raises:
        NotFoundError: the catalogue has no such region.
    """
    core = asked.core
    for candidate in core.candidates(core.now()):
        if candidate.region.code == asked.scope["path_params"]["code"]:
            return region_facts(core, candidate)
    raise NotFoundError("No such region. GET /v1/regions lists them.")


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
