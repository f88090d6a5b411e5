"""Speak ASGI: hold nothing, choose, and hand the request to a responder of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from vetted_mw.asgi.paths import route_path
from vetted_mw.endpoints import endpoints_app, is_endpoint
from vetted_mw.errors import ConfigurationError
from vetted_mw.middleware.forward import ForwardResponder
from vetted_mw.middleware.in_app import InAppResponder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from vetted_mw.asgi.door import Identify
    from vetted_mw.gateway import Gateway

__all__ = ["VettedMiddleware", "VettedProxy"]


class VettedMiddleware:
    """Routes the chat completions that reach an ASGI app; everything else goes to the app untouched.

    Args:
        app: the app around which it stands.
        gateway: owns configuration and live state; shared by every middleware built on it.
        mode: `forward` serves chat completions here; `in_app` lets the app's handler make the call.
        identify: the app's own authentication: given the scope, who asks, or None for 401.
        endpoints: whether `/v1/models`, `/v1/regions`, `explain`, receipts by id, the JWKS, `/healthz` and `/readyz`
            are answered here too.

    Raises:
        ConfigurationError: `mode` is neither of the two.
    """

    def __init__(
        self,
        app: Callable[[Any, Any, Any], Awaitable[None]],
        *,
        gateway: Gateway,
        mode: Literal["forward", "in_app"] = "forward",
        identify: Identify | None = None,
        endpoints: bool = False,
    ) -> None:
        if mode not in {"forward", "in_app"}:
            raise ConfigurationError("unknown mode.", field="mode", remedy="Use 'forward' or 'in_app'.")
        self.app = app
        self._gateway = gateway
        self._in_app = mode == "in_app"
        self._identify = identify
        self._endpoints = endpoints_app(gateway, identify=identify) if endpoints else None
        gateway.warn_of_no_upstream()
        gateway.warn_of_unsigned()
        if identify is None and not self._in_app:
            gateway.warn_of_open_door()

    # Loose on purpose: Starlette and Litestar type ASGI differently, and each is right about itself.
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Dispatch one connection."""
        if scope["type"] == "http":
            path = route_path(scope)
            if scope["method"] == "POST" and path.removesuffix("/") in self._gateway.paths:
                if self._in_app:
                    await InAppResponder(self.app, self._gateway, self._identify, scope, receive, send).respond()
                else:
                    await ForwardResponder(self._gateway, self._identify, scope, receive, send).respond()
            elif self._endpoints is not None and is_endpoint(path):
                await self._endpoints(scope, receive, send)
            else:
                await self.app(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _Lifespan(self.app, self._gateway).run(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class VettedProxy(VettedMiddleware):
    """The stand-alone gateway as an ASGI app: chat completions and the gateway's own endpoints. Mount it anywhere.

    Args:
        gateway: owns configuration and live state.
        identify: the host application's authentication, if it is mounted in one.
    """

    def __init__(self, gateway: Gateway, *, identify: Identify | None = None) -> None:
        super().__init__(endpoints_app(gateway, identify=identify), gateway=gateway, identify=identify)


class _Lifespan:
    """Opens the gateway with the app and closes it before the server hears that shutdown is complete."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app = app
        self._gateway = gateway
        self._open = False

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app's lifespan; the app sees the same scope and `receive`."""

        async def send_after_close(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                await self._gateway.__aenter__()
                self._open = True
            elif message["type"].startswith("lifespan.shutdown."):
                await self._close()
            await send(message)

        try:
            await self._app(scope, receive, send_after_close)
        finally:
            await self._close()

    async def _close(self) -> None:
        if self._open:
            self._open = False
            await self._gateway.__aexit__(None, None, None)
