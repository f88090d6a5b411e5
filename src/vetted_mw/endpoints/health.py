"""Whether the process lives, and whether it could serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vetted_mw.completion.sealing import require_ledger
from vetted_mw.endpoints.endpoint import Content
from vetted_mw.errors import LedgerRefusedError
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
    """Say whether some region could serve a request now, and its receipt be kept where it has to be."""
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
    if not is_ready:
        return Content({"status": "no_region_available"}, status=503)
    try:
        await require_ledger(core)
    except LedgerRefusedError as error:  # every completion would be turned away
        return Content({"status": error.code}, status=503)
    return Content({"status": "ready"})
