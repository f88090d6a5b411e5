"""The app of one worker with its telemetry around it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from vetted_mw.asgi.intake import CallerLeftError, Inflow
from vetted_mw.asgi.paths import route_path
from vetted_mw.asgi.sending import Sender, own_fault
from vetted_mw.cli.logs import write_lines_at_once
from vetted_mw.cli.telemetry.plan import METRICS_PATH, is_page_served
from vetted_mw.errors import AnswerError, MethodNotAllowedError
from vetted_mw.proxy.headers import header_value

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from vetted_mw.cli.telemetry.page import MetricsPage
    from vetted_mw.cli.telemetry.sdk import Sdk
    from vetted_mw.gateway import Gateway

__all__ = ["ObservedApp"]


class ObservedApp:
    """Answers scrapes, and ends the SDK when the gateway has closed and before the server hears of it.

    Whoever reaches the server may scrape, as with `/healthz`.

    Args:
        app: the app.
        gateway: whose settings may have a use of their own for the path.
        sdk: is shut down at the end; without a page the path is the app's.
    """

    def __init__(self, app: ASGIApp, gateway: Gateway, *, sdk: Sdk) -> None:
        self._app = app
        self._gateway = gateway
        self._sdk = sdk
        self._page = sdk.page

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one connection; no coroutine of its own, which every part of a stream would pass."""
        if scope["type"] == "lifespan":
            return self._lifespan(scope, receive, send)
        if self._page is not None and scope["type"] == "http" and self._is_page(scope):
            return self._scraped(self._page, scope, receive, send)
        return self._app(scope, receive, send)

    def _is_page(self, scope: Scope) -> bool:
        return route_path(scope).removesuffix("/") == METRICS_PATH and is_page_served(self._gateway.paths)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_over = False

        async def close() -> None:
            nonlocal is_over
            if is_over:
                return
            is_over = True
            write_lines_at_once()  # once it hears of this end, the server may end by a signal
            if self._page is not None:
                await self._page.aclose()
            await self._sdk.shut_down()

        async def send_after_close(message: Message) -> None:
            if message["type"] != "lifespan.startup.complete":
                await close()  # the server waits no longer than for this message
            elif self._page is not None:
                await self._page.open()
            await send(message)

        try:
            await self._app(scope, receive, send_after_close)
        finally:
            await close()

    async def _scraped(self, page: MetricsPage, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one scrape the way the gateway's own endpoints answer."""
        sender, inflow = Sender(send), Inflow(scope, receive, self._gateway.configuration.limits)
        with contextlib.suppress(CallerLeftError):
            if scope["method"] not in {"GET", "HEAD"}:
                error = MethodNotAllowedError("Use GET here.")
                await sender.error(error, headers=[(b"allow", b"GET, HEAD")], trace=None, inflow=inflow)
                return
            accept = (header_value(scope["headers"], b"accept") or b"").decode("latin-1")
            try:
                content_type, body = await page.text(accept)
            except AnswerError as refusal:
                await sender.error(refusal, headers=[], trace=None, inflow=inflow)
            except Exception as fault:  # noqa: BLE001 (anybody's collectors and callbacks are behind the page)
                await sender.error(own_fault(fault), headers=[], trace=None, inflow=inflow)
            else:
                await sender.whole(200, [(b"content-type", content_type.encode())], body)
