"""One connection to an upstream, an httpx transport of its own, and the answer that comes over it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
import time
from typing import TYPE_CHECKING, Any

import httpx

from vetted_mw.errors import ConfigurationError
from vetted_mw.proxy.outcome import AttemptFailedError, Fault
from vetted_mw.proxy.patience import Patience
from vetted_mw.proxy.translation import translated
from vetted_mw.routing.decision import AttemptOutcome
from vetted_mw.unlogged import unlogged

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from vetted_mw.configuration import Upstream
    from vetted_mw.proxy.transport import UpstreamRequest

__all__ = ["Connection", "HttpxResponse", "closed_surely", "tls_for"]


class Connection:
    """An httpx transport that has one connection at most.

    Attributes:
        idle_since: when its last answer ended, by the monotonic clock.
        is_closed: it serves no more.
    """

    def __init__(self, upstream: Upstream, tls: ssl.SSLContext) -> None:
        limits = upstream.limits
        self.idle_since = 0.0
        self.is_closed = False
        self._connect_seconds = limits.connect_seconds
        self._is_direct = not upstream.proxy
        self._timeout = {
            "connect": None,  # one limit over TCP, a proxy's CONNECT and TLS is kept here: httpx has none for CONNECT
            "pool": None,
            "read": None,  # the attempt keeps those deadlines: they span reads
            "write": limits.first_byte_seconds,
        }
        self._transport = httpx.AsyncHTTPTransport(
            verify=tls,
            trust_env=False,
            http2=False,
            retries=0,
            proxy=upstream.proxy or None,
            limits=httpx.Limits(max_connections=1, keepalive_expiry=limits.idle_connection_seconds),
        )
        self._socket: Any = None

    async def answer_to(self, request: httpx.Request, told: UpstreamRequest) -> httpx.Response:
        """Send and return the answer's head.

        Args:
            request: what is sent.
            told: whose callbacks are called meanwhile.

        Raises:
            AttemptFailedError: there is none; the connection is closed by then, as it is after a cancel.
        """
        request.extensions["timeout"] = self._timeout
        border = translated()
        try:
            with border:
                return await self._sent(request, told, border)
        except BaseException:
            await self.aclose()
            raise

    async def _sent(self, request: httpx.Request, told: UpstreamRequest, border: translated) -> httpx.Response:
        began = 0.0
        try:
            async with Patience(self._connect_seconds) as connecting:

                async def note(event: str, info: dict[str, Any]) -> None:
                    nonlocal began
                    if event == "connection.connect_tcp.started":
                        began = time.monotonic()
                    elif event == "connection.connect_tcp.complete":
                        self._socket = info["return_value"]
                        if self._is_direct:
                            told.on_connected(time.monotonic() - began)
                    elif event == "http11.send_request_headers.started" and info["request"].method != b"CONNECT":
                        connecting.stop()
                        border.sent = True
                        told.on_sent()

                request.extensions["trace"] = note
                with unlogged():
                    return await self._transport.handle_async_request(request)
        except TimeoutError:
            raise httpx.ConnectTimeout("") from None

    def is_clean(self) -> bool:
        """Whether nothing beyond the last answer was read: the next request would take it for its own answer.

        A server that sends more than its `content-length`, or two answers for one request, leaves such bytes behind.
        httpx tells nobody, so its parser is looked at; where that cannot be reached the connection is not clean.
        """
        connections = self._transport._pool.connections  # noqa: SLF001 (no public way to see them)
        if not connections:
            return True  # httpx closed it
        inner: Any = connections[0]
        while (nested := getattr(inner, "_connection", None)) is not None:
            inner = nested
        parser = getattr(inner, "_h11_state", None)
        if parser is None or parser.trailing_data[0]:
            return False
        stream = getattr(getattr(inner, "_network_stream", None), "_stream", None)
        unread = getattr(getattr(stream, "_protocol", None), "read_queue", None)
        decrypted = getattr(stream, "_ssl_object", None)
        return not unread and (decrypted is None or decrypted.pending() == 0)

    async def aclose(self) -> None:
        """Close it, whatever state a failure or a cancel has left it in, and even when we are cancelled meanwhile."""
        self.is_closed = True
        await closed_surely(self._closed())

    async def _closed(self) -> None:
        await self._transport.aclose()
        if self._socket is not None:
            await self._socket.aclose()  # httpx forgets a socket whose TLS handshake was cancelled


class HttpxResponse:
    """An answer whose head has arrived, as `transport.Response` promises it.

    Args:
        answer: httpx's.
        connection: over which it comes.
        on_end: called once, when it was closed.
    """

    def __init__(self, answer: httpx.Response, connection: Connection, on_end: Callable[[Connection], None]) -> None:
        self.status = answer.status_code
        self.headers = [(name.lower(), value) for name, value in answer.headers.raw]
        self._answer = answer
        self._connection = connection
        self._on_end = on_end
        # The raw bytes: what they decode to is limited by us, not by httpx.
        self._parts: AsyncGenerator[bytes, None] = aiter(answer.stream)  # type: ignore[arg-type]
        self._is_readable = True
        self._is_whole = False
        self._is_closed = False

    async def read(self) -> bytes:
        """Return the body's next bytes as they arrive, `b""` at its end."""
        if self._is_whole:
            return b""
        if not self._is_readable:
            raise AttemptFailedError(Fault(outcome=AttemptOutcome.UPSTREAM_CUT, status=self.status))
        self._is_readable = False  # and so it stays when a failure or a cancel ends the read
        with translated(status=self.status), unlogged():
            while (data := await anext(self._parts, None)) == b"":
                pass
        self._is_readable = not self._is_closed
        self._is_whole = data is None
        return data or b""

    async def aclose(self) -> None:
        """Give the connection back, or close it where the answer was not read to its end."""
        if self._is_closed:
            return
        self._is_closed = True
        self._is_readable = False
        try:
            if self._is_whole:
                await closed_surely(self._answer.stream.aclose())  # type: ignore[union-attr]
            if not self._is_whole or self._connection.is_closed or not self._connection.is_clean():
                await self._connection.aclose()
                await closed_surely(self._ended_reading())
        finally:
            self._on_end(self._connection)

    async def _ended_reading(self) -> None:
        """End a generator left half-way here, and not by the collector in a task of its own."""
        with contextlib.suppress(RuntimeError):  # somebody still reads: the closed connection ends that
            await self._parts.aclose()


async def closed_surely(closing: Awaitable[object]) -> None:
    """Await `closing` to its end even when we are cancelled meanwhile, and be cancelled only then."""
    task = asyncio.ensure_future(closing)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


@functools.cache
def _public_authorities() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


def tls_for(upstream: Upstream) -> ssl.SSLContext:
    """Return what verifies an upstream's certificate: its private authority, else the public ones.

    Raises:
        ConfigurationError: `ca_file` cannot be read.
    """
    if not upstream.ca_file:
        return _public_authorities()
    try:
        return ssl.create_default_context(cafile=upstream.ca_file)
    except OSError:
        raise ConfigurationError(
            "the file cannot be read as PEM certificates.",
            field=f"regions.{upstream.region}.ca_file",
            remedy="Name a readable PEM file of the authority that signed the upstream's certificate.",
        ) from None
