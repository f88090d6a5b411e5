"""The HTTP client of in-app handlers: it sends the current request's chat call to its route, and nothing else."""

from __future__ import annotations

import httpx

from vetted_mw.errors import RouteError
from vetted_mw.in_app.route import current_route

__all__ = ["RouteTransport", "http_client"]

_URL = "http://vetted/v1/chat/completions"


class RouteTransport(httpx.AsyncBaseTransport):
    """Sends the current request's chat call to its route. Any other URL or method, or no route: nothing is sent."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` to the current route.

        Raises:
            RouteError: there is none, or it is no chat completion. Nothing was sent.
        """
        if request.method != "POST" or str(request.url) != _URL:
            raise RouteError(f"gateway.http_client sends POST {_URL} only: use base_url='http://vetted/v1'.")
        route = current_route()
        if route is None:
            raise RouteError(
                "No request is being answered here: call the model inside a handler behind "
                "VettedMiddleware(mode='in_app'), before its answer has ended."
            )
        headers = [(name.lower(), value) for name, value in request.headers.raw]
        return await route.send(await request.aread(), headers)


class _SharedClient(httpx.AsyncClient):
    """Every handler's client: one SDK client that is closed after its request must not close it for all others."""

    async def aclose(self) -> None:
        """Do nothing: it holds no connection of its own."""


def http_client(transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
    """Return a client on `transport` that ignores the environment; its limits are the route's."""
    return _SharedClient(transport=transport, trust_env=False, follow_redirects=False, timeout=None)
