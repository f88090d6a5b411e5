"""Our client under httpx's API: for tests, and for applications that have an `httpx.AsyncClient` anyway."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import httpx

from vetted_mw.configuration import Limits, Upstream
from vetted_mw.proxy.outcome import AttemptFailedError
from vetted_mw.proxy.own.transport import OwnTransport
from vetted_mw.proxy.transport import UpstreamRequest
from vetted_mw.routing.decision import AttemptOutcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from vetted_mw.proxy.own.answer import Answer

__all__ = ["OwnAsyncTransport"]

_WRITTEN_BY_US = frozenset({b"host", b"content-length", b"transfer-encoding"})
_ERRORS: dict[AttemptOutcome, type[httpx.TransportError]] = {
    AttemptOutcome.CONNECT_ERROR: httpx.ConnectError,
    AttemptOutcome.CONNECT_TIMEOUT: httpx.ConnectTimeout,
    AttemptOutcome.TLS_ERROR: httpx.ConnectError,
    AttemptOutcome.FIRST_BYTE_TIMEOUT: httpx.WriteTimeout,
}


class OwnAsyncTransport(httpx.AsyncBaseTransport):
    """Sends an `httpx.AsyncClient`'s requests over our client, a pool for each origin.

    Of httpx's features it has what HTTP/1.1 needs: TLS verified, streamed answers, the connect and read timeouts. It
    has no proxies and no HTTP/2, reads a request's body before it sends it, and writes the `host` of the URL.

    Args:
        ca_file: PEM file of a private authority; empty for the public ones.
        limits: `connect_seconds`, `idle_connection_seconds`, and `first_byte_seconds` for writing a large body.
    """

    def __init__(self, *, ca_file: str = "", limits: Limits | None = None) -> None:
        self._ca_file = ca_file
        self._limits = limits or Limits()
        self._doors: dict[tuple[str, bytes], OwnTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` and return its answer, whose body is still to be read.

        Raises:
            httpx.TransportError: as httpx's own transport would.
        """
        limits = request.extensions.get("timeout", {})
        door = self._door_to(request.url)
        body = await request.aread()
        loop = asyncio.get_running_loop()
        is_sent = False

        def note_sent() -> None:
            nonlocal is_sent
            is_sent = True
            limit.reschedule(_deadline(loop, limits.get("read")))

        try:
            async with asyncio.timeout_at(_deadline(loop, limits.get("connect"))) as limit:
                with _as_httpx_says(request):
                    answer = await door.send(_outgoing(request, body, note_sent))
        except TimeoutError:
            raise (httpx.ReadTimeout if is_sent else httpx.ConnectTimeout)("", request=request) from None
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(answer, request, limits.get("read")),
            extensions={"http_version": b"HTTP/1.1"},
        )

    async def aclose(self) -> None:
        """Close every connection."""
        async with contextlib.AsyncExitStack() as closing:
            while self._doors:
                closing.push_async_callback(self._doors.popitem()[1].aclose)

    def _door_to(self, url: httpx.URL) -> OwnTransport:
        if url.scheme not in {"http", "https"} or not url.raw_host:
            raise httpx.UnsupportedProtocol("our client speaks http:// and https:// to a host")
        origin = (url.scheme, url.netloc)
        door = self._doors.get(origin)
        if door is None:
            base_url = f"{url.scheme}://{url.netloc.decode('ascii')}"
            door = self._doors[origin] = OwnTransport(
                Upstream(region="", base_url=base_url, ca_file=self._ca_file, limits=self._limits)
            )
        return door


class _Body(httpx.AsyncByteStream):
    """The body of an answer, as httpx reads it."""

    def __init__(self, answer: Answer, request: httpx.Request, seconds: float | None) -> None:
        self._answer = answer
        self._request = request
        self._seconds = seconds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            try:
                async with asyncio.timeout(self._seconds):
                    with _as_httpx_says(self._request):
                        data = await self._answer.read()
            except TimeoutError:
                raise httpx.ReadTimeout("", request=self._request) from None
            if not data:
                return
            yield data

    async def aclose(self) -> None:
        await self._answer.aclose()


def _outgoing(request: httpx.Request, body: bytes, note_sent: Callable[[], None]) -> UpstreamRequest:
    return UpstreamRequest(
        method=request.method,
        path=request.url.raw_path.decode("ascii"),
        headers=[(name, value) for name, value in request.headers.raw if name.lower() not in _WRITTEN_BY_US],
        body=body,
        from_origin=True,
        on_sent=note_sent,
    )


def _deadline(loop: asyncio.AbstractEventLoop, seconds: float | None) -> float | None:
    return None if seconds is None else loop.time() + seconds


@contextlib.contextmanager
def _as_httpx_says(request: httpx.Request) -> Iterator[None]:
    try:
        yield
    except AttemptFailedError as error:
        kind = _ERRORS.get(error.fault.outcome, httpx.RemoteProtocolError)
        raise kind(error.fault.outcome.value, request=request) from None
