"""A Starlette app whose chat completions are forwarded to EU/EEA regions.

The app keeps its own routes and its own authentication; the middleware answers `/v1/chat/completions`.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from vetted_mw import Caller, Gateway, VettedMiddleware

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Scope


async def home(_request: Request) -> JSONResponse:
    return JSONResponse({"chat": "/v1/chat/completions", "regions": "/v1/regions"})


class OneToken:
    """Who may come in, as this app knows it: whoever has its one token. The team uses France and Sweden only."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope) -> Caller | None:
        """Say who asks; None is answered with 401."""
        sent = dict(scope["headers"]).get(b"authorization", b"")
        if not secrets.compare_digest(sent, self._expected):
            return None
        return Caller(name="the-team", allowed_countries=frozenset({"FR", "SE"}))


def create_app() -> Starlette:
    gateway = Gateway.from_env()
    identify = OneToken(os.environ["APP_TOKEN"])
    return Starlette(
        routes=[Route("/", home)],
        middleware=[Middleware(VettedMiddleware, gateway=gateway, identify=identify, endpoints=True)],
    )
