"""The narrow door to an upstream, and the pool of connections behind it."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

import httpx
import msgspec

from vetted_mw.proxy.connection import Connection, HttpxResponse, closed_surely, tls_for
from vetted_mw.proxy.outcome import AttemptFailedError, Fault
from vetted_mw.routing.decision import AttemptOutcome
from vetted_mw.unlogged import hush_httpcore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from vetted_mw.configuration import Upstream
    from vetted_mw.proxy.headers import Headers

__all__ = ["HttpxTransport", "Response", "Transport", "UpstreamRequest"]

_CLOSED_AT_ONCE = 100
_SWEEP_SECONDS = 1.0  # least time between two looks for connections that have been idle for too long


class UpstreamRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request to an upstream.

    Attributes:
        method: `POST` for completions, `GET` for probes.
        path: appended to the upstream's base URL, `/chat/completions`; with `from_origin` to its origin.
        headers: complete but for `host` and `content-length`.
        body: the bytes to send.
        from_origin: whether `path` starts at the origin (`/health`) and not at the base URL.
        on_sent: called when its first bytes leave for the upstream; what fails before has reached nobody.
        on_connected: called with the seconds that a new connection to the upstream itself took.
        loop: the running event loop, from whoever knows it: to look it up is a call of the system.
    """

    method: str
    path: str
    headers: Headers
    body: bytes = b""
    from_origin: bool = False
    on_sent: Callable[[], None] = lambda: None
    on_connected: Callable[[float], None] = lambda _seconds: None
    loop: asyncio.AbstractEventLoop | None = None


class Response(Protocol):
    """An upstream's answer whose head has arrived. Whoever got it closes it, on every way out."""

    status: int
    headers: Headers

    def read(self) -> Awaitable[bytes]:
        """Return the body's next bytes as they arrive, `b""` at its end and from then on.

        Called by one task at a time, and not after a read that was cancelled. Raises `AttemptFailedError`
        (`upstream_cut`) when the body is cut, and again at every later call; so it does after `aclose`.
        """
        ...

    async def aclose(self) -> None:
        """Give the connection back or close it. May be called twice; never raises."""
        ...


class Transport(Protocol):
    """Sends requests to one upstream over a pool of its own.

    Called once per attempt, from the request's task; it may wait, and is cancelled when the caller leaves. It raises
    `AttemptFailedError` with a transport outcome and nothing else, calls the request's `on_sent` before it writes,
    never follows a redirect, never retries, never reads the environment. The caller owns the response; the gateway owns
    the transport and closes it.
    """

    async def send(self, request: UpstreamRequest) -> Response:
        """Send and return once the head of the answer has arrived."""
        ...

    async def aclose(self) -> None:
        """Close the pool."""
        ...


class HttpxTransport:
    """A `Transport` on httpx: one connection per request in flight, kept for the next one while it is idle.

    The pool is our own, of httpx transports with one connection each. httpx's looks at every connection at every
    request, in quadratic time, and a cancel at the wrong moment or a failed TLS handshake takes one of its slots for
    ever. How many there are is bounded by who sends: the leases of the region, and a probe.

    Raises:
        ConfigurationError: `ca_file` cannot be read.
    """

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._base = httpx.URL(upstream.base_url)
        self._tls = tls_for(upstream)
        self._idle: deque[Connection] = deque()
        self._busy: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._is_closed = False
        hush_httpcore()

    async def send(self, request: UpstreamRequest) -> Response:
        """Send and return once the head of the answer has arrived."""
        path = request.path.encode("ascii")
        outgoing = httpx.Request(
            request.method,
            self._base.copy_with(raw_path=path if request.from_origin else self._base.raw_path.rstrip(b"/") + path),
            headers=request.headers,
            content=request.body if request.method == "POST" else None,
        )
        await self._close_expired()
        if self._is_closed:  # a connection made now would be nobody's to close
            raise AttemptFailedError(Fault(outcome=AttemptOutcome.CONNECT_ERROR, sent=False))
        connection = self._idle.pop() if self._idle else Connection(self._upstream, self._tls)
        self._busy.add(connection)
        try:
            answer = await connection.answer_to(outgoing, request)
        except BaseException:
            self._busy.discard(connection)
            raise
        return HttpxResponse(answer, connection, self._ended)

    async def aclose(self) -> None:
        """Close every connection, those in use as well; nothing is sent after it."""
        self._is_closed = True
        connections = [*self._idle, *self._busy]
        self._idle.clear()
        self._busy.clear()
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in connections:
            await connection.aclose()
        if self._sweeping is not None:
            await asyncio.wait({self._sweeping})

    def _ended(self, connection: Connection) -> None:
        """Keep a connection for the next request unless it, or the pool, was closed."""
        if connection in self._busy and not connection.is_closed:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
            self._sweep_in_time()
        self._busy.discard(connection)

    def _sweep_in_time(self) -> None:
        """See to it that idle connections end even when nobody sends any more."""
        if self._sweep is None and not self._is_closed:
            over = self._idle[0].idle_since + self._upstream.limits.idle_connection_seconds
            # A context of its own: it belongs to no request, not even to the one that ended now.
            self._sweep = asyncio.get_running_loop().call_later(
                max(_SWEEP_SECONDS, over - time.monotonic()), self._begin_sweep, context=contextvars.Context()
            )

    def _begin_sweep(self) -> None:
        self._sweeping = asyncio.get_running_loop().create_task(self._swept())

    async def _swept(self) -> None:
        try:
            await self._close_expired()
        finally:
            self._sweep = None
            if self._idle:
                self._sweep_in_time()

    async def _close_expired(self) -> None:
        """Close those that have been idle for too long, the oldest first, not so many that a request waits for it."""
        oldest = time.monotonic() - self._upstream.limits.idle_connection_seconds
        expired: list[Connection] = []
        while self._idle and self._idle[0].idle_since < oldest and len(expired) < _CLOSED_AT_ONCE:
            expired.append(self._idle.popleft())
        if expired:
            await closed_surely(asyncio.gather(*(connection.aclose() for connection in expired)))
