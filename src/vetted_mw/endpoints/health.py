"""Whether the process lives, and whether it could serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vetted_mw.endpoints.endpoint import Content
from vetted_mw.routing.decision import is_allowed

if TYPE_CHECKING:
    from starlette.types import Scope

    from vetted_mw.asgi.intake import Inflow
    from vetted_mw.gateway import Gateway

__all__ = ["healthz", "readyz"]


async def healthz(_gateway: Gateway, _scope: Scope, _inflow: Inflow) -> Content:
    """Say that the process lives."""
    return Content({"status": "ok"})


async def readyz(gateway: Gateway, _scope: Scope, _inflow: Inflow) -> Content:
    """Say whether some region could serve a request now."""
    if gateway.is_shutting_down:
        return Content({"status": "shutting_down"}, status=503)
    core = await gateway.core()  # a host that only sends requests to what is ready would else never open it
    rules = core.configuration.rules
    is_ready = any(
        candidate.configured
        and candidate.region.inference
        and is_allowed(candidate.region, rules)
        and not candidate.degraded
        for candidate in core.candidates(core.now())
    )
    return Content({"status": "ready"}) if is_ready else Content({"status": "no_region_available"}, status=503)
