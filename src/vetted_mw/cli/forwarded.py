"""What a local reverse proxy says of its caller: read as uvicorn reads it, in the requests that have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["ForwardedApp", "ServerConfig"]

_PREFIX = b"x-forwarded-"


class ServerConfig(uvicorn.Config):
    """uvicorn's settings, of which `proxy_headers` costs the other requests nothing: no part of a stream passes it."""

    def load(self) -> None:
        """Make the app."""
        super().load()
        if isinstance(self.loaded_app, ProxyHeadersMiddleware):
            self.loaded_app = ForwardedApp(self.loaded_app)


class ForwardedApp:
    """Hands requests with an `x-forwarded-*` header to who reads them, all others to the app.

    Args:
        reading: reads such headers, from whom the operator lets it, before the app.
    """

    def __init__(self, reading: ProxyHeadersMiddleware) -> None:
        self._reading = cast("ASGIApp", reading)
        self._app = cast("ASGIApp", reading.app)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Choose who serves one connection."""
        for name, _value in scope.get("headers", ()):
            if name.startswith(_PREFIX):
                return self._reading(scope, receive, send)
        return self._app(scope, receive, send)
