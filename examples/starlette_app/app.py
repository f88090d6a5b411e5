"""A Starlette app whose chat completions are forwarded to EU/EEA regions.

The app keeps its own routes and its own authentication; the middleware answers `/v1/chat/completions`.
"""

from __future__ import annotations

import os
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


async def identify(scope: Scope) -> Caller | None:
    """Say who asks, as the app knows it: here by one token from the environment."""
    headers = dict(scope["headers"])
    if headers.get(b"authorization") == b"Bearer " + os.environ["APP_TOKEN"].encode():
        return Caller(name="the-team")
    return None


def create_app() -> Starlette:
    gateway = Gateway.from_env()
    return Starlette(
        routes=[Route("/", home)],
        middleware=[Middleware(VettedMiddleware, gateway=gateway, identify=identify, endpoints=True)],
    )
