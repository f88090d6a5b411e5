"""The gateway's own small API: models, regions, explain, receipts, health. One Starlette router without a lifespan."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.routing import Route, Router

from vetted_mw.endpoints.endpoint import POST, Endpoint, for_callers
from vetted_mw.endpoints.explain import explain, explained
from vetted_mw.endpoints.health import healthz, readyz
from vetted_mw.endpoints.receipts import published_keys, receipt
from vetted_mw.endpoints.regions import list_models, list_regions, one_region, region_facts
from vetted_mw.errors import NotFoundError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Scope

    from vetted_mw.asgi.door import Identify
    from vetted_mw.asgi.intake import Inflow
    from vetted_mw.endpoints.endpoint import Content
    from vetted_mw.gateway import Gateway

__all__ = ["endpoints_app", "explained", "is_endpoint", "region_facts"]

_EXPLAIN = "/v1/vetted/explain"
_JWKS = "/.well-known/vetted/jwks.json"
_PATHS = frozenset({"/v1/models", "/v1/regions", _EXPLAIN, _JWKS, "/healthz", "/readyz"})
_ONE = re.compile(r"/v1/(?:regions|vetted/receipts)/[^/]+")


def is_endpoint(path: str) -> bool:
    """Whether a path (after `root_path`) is one of the gateway's own, so that all others can stay untouched."""
    path = path.removesuffix("/")
    return path in _PATHS or _ONE.fullmatch(path) is not None


def endpoints_app(gateway: Gateway, *, identify: Identify | None = None) -> ASGIApp:
    """Build the router.

    Args:
        gateway: whose facts it tells.
        identify: the host application's authentication.
    """
    told = {
        "/v1/models": Endpoint(gateway, for_callers(list_models, identify)),
        "/v1/regions": Endpoint(gateway, for_callers(list_regions, identify)),
        "/v1/regions/{code}": Endpoint(gateway, for_callers(one_region, identify)),
        "/v1/vetted/receipts/{query_id}": Endpoint(gateway, for_callers(receipt, identify)),
        _EXPLAIN: Endpoint(gateway, for_callers(explain, identify), methods=POST),
        _JWKS: Endpoint(gateway, published_keys),
        "/healthz": Endpoint(gateway, healthz),
        "/readyz": Endpoint(gateway, readyz),
    }
    # Litestar's mount appends a slash to every path.
    routes = [Route(path + end, app, methods=None) for path, app in told.items() for end in ("", "/")]
    return Router(routes, redirect_slashes=False, default=Endpoint(gateway, _nowhere, methods=()))


async def _nowhere(_gateway: Gateway, _scope: Scope, _inflow: Inflow) -> Content:
    raise NotFoundError("No such endpoint. See the README's wire summary.")
