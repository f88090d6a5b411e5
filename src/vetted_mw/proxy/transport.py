"""The narrow door to an upstream, and the httpx behind it. The only module here that knows httpx."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import ssl
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import httpx

from vetted_mw.errors import ConfigurationError
from vetted_mw.proxy.outcome import AttemptFailedError, Fault
from vetted_mw.proxy.patience import Patience
from vetted_mw.routing.decision import AttemptOutcome
from vetted_mw.unlogged import hush_httpcore, is_logged, unlogged, unlogged_parts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator

    from vetted_mw.configuration import Upstream
    from vetted_mw.proxy.headers import Headers

__all__ = ["HttpxTransport", "Response", "Transport", "UpstreamRequest", "closed_surely"]

_LOG = logging.getLogger("vetted_mw")
_CLOSED_AT_ONCE = 100
_SWEEP_SECONDS = 1.0  # least time between two looks for connections that have been idle for too long


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamRequest:
    """One HTTP request to an upstream.

    Attributes:
        method: `POST` for completions, `GET` for probes.
        path: appended to the upstream's base URL, `/chat/completions`; with `from_origin` to its origin.
        headers: complete but for `host` and `content-length`.
        body: the bytes to send.
        from_origin: whether `path` starts at the origin (`/health`) and not at the base URL.
        on_sent: called when its first bytes leave for the upstream; what fails before has reached nobody.
        on_connected: called with the seconds that a new connection to the upstream itself took.
    """

    method: str
    path: str
    headers: Headers
    body: bytes = b""
    from_origin: bool = False
    on_sent: Callable[[], None] = lambda: None
    on_connected: Callable[[float], None] = lambda _seconds: None


class Response(Protocol):
    """An upstream's answer whose head has arrived. Whoever got it closes it, on every way out."""

    status: int
    headers: Headers

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body's bytes as they arrive; raises `AttemptFailedError` (`upstream_cut`) when it is cut."""
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
        self._tls = _tls(upstream)
        self._idle: deque[_Connection] = deque()
        self._busy: set[_Connection] = set()
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
        connection = self._idle.pop() if self._idle else _Connection(self._upstream, self._tls)
        self._busy.add(connection)
        try:
            answer = await connection.answer_to(outgoing, request)
        except BaseException:
            self._busy.discard(connection)
            raise
        return _HttpxResponse(answer, connection, self._ended)

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

    def _ended(self, connection: _Connection) -> None:
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
        expired: list[_Connection] = []
        while self._idle and self._idle[0].idle_since < oldest and len(expired) < _CLOSED_AT_ONCE:
            expired.append(self._idle.popleft())
        if expired:
            await closed_surely(asyncio.gather(*(connection.aclose() for connection in expired)))


class _Connection:
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
        translated = _translated()
        try:
            with translated:
                return await self._sent(request, told, translated)
        except BaseException:
            await self.aclose()
            raise

    async def _sent(self, request: httpx.Request, told: UpstreamRequest, translated: _translated) -> httpx.Response:
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
                        translated.sent = True
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


class _HttpxResponse:
    def __init__(self, answer: httpx.Response, connection: _Connection, on_end: Callable[[_Connection], None]) -> None:
        self.status = answer.status_code
        self.headers = [(name.lower(), value) for name, value in answer.headers.raw]
        self._answer = answer
        self._connection = connection
        self._on_end = on_end
        self._is_whole = False
        self._is_closed = False

    async def chunks(self) -> AsyncIterator[bytes]:
        with _translated(status=self.status):
            # The raw bytes: what they decode to is limited by us, not by httpx.
            parts: AsyncGenerator[bytes, None] = aiter(self._answer.stream)  # type: ignore[arg-type]
            async with contextlib.aclosing(unlogged_parts(parts) if is_logged() else parts) as told:
                async for data in told:
                    yield data
        self._is_whole = True

    async def aclose(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if self._is_whole:
                await closed_surely(self._answer.stream.aclose())  # type: ignore[union-attr]
            if not self._is_whole or self._connection.is_closed or not self._connection.is_clean():
                await self._connection.aclose()
        finally:
            self._on_end(self._connection)


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


def _tls(upstream: Upstream) -> ssl.SSLContext:
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


_OUTCOMES: tuple[tuple[type[httpx.HTTPError], AttemptOutcome], ...] = (
    (httpx.ConnectTimeout, AttemptOutcome.CONNECT_TIMEOUT),
    (httpx.PoolTimeout, AttemptOutcome.CONNECT_TIMEOUT),
    (httpx.TimeoutException, AttemptOutcome.FIRST_BYTE_TIMEOUT),
    (httpx.ConnectError, AttemptOutcome.CONNECT_ERROR),
    (httpx.ProxyError, AttemptOutcome.CONNECT_ERROR),
    (httpx.UnsupportedProtocol, AttemptOutcome.CONNECT_ERROR),
)
_FOREIGN = (httpx.HTTPError, ssl.SSLError, OSError, AttributeError, RuntimeError)
"""What comes from below. An upstream that resets a connection as it accepts it leaves anyio, on uvloop, asking a socket
that is gone for its name (AttributeError), and uvloop refuses to touch a closed handle (RuntimeError)."""

_NOTHING_SENT = frozenset({AttemptOutcome.CONNECT_TIMEOUT, AttemptOutcome.CONNECT_ERROR, AttemptOutcome.TLS_ERROR})


class _translated:  # noqa: N801 (reads as the statement it is)
    """Translate httpx's exceptions at this one border; `from None`, since their text can hold a URL.

    Attributes:
        sent: whether any of the request has left for the upstream, as it has where there is a status.
    """

    def __init__(self, *, status: int | None = None) -> None:
        self.sent = status is not None
        self._status = status

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, _FOREIGN):
            outcome = _outcome_of(error)
            _LOG.debug("a connection failed", extra={"error": type(error).__name__, "outcome": outcome.value})
            if not self.sent and isinstance(error, (AttributeError, RuntimeError)):
                outcome = AttemptOutcome.CONNECT_ERROR
            elif self.sent and outcome in _NOTHING_SENT:
                outcome = AttemptOutcome.UPSTREAM_CUT  # what broke then is not the way there
            raise AttemptFailedError(Fault(outcome=outcome, sent=self.sent, status=self._status)) from None


def _outcome_of(error: Exception) -> AttemptOutcome:
    if _is_tls(error):
        return AttemptOutcome.TLS_ERROR
    return next((outcome for kind, outcome in _OUTCOMES if isinstance(error, kind)), AttemptOutcome.UPSTREAM_CUT)


def _is_tls(error: BaseException) -> bool:
    if not isinstance(error, (httpx.ConnectError, ssl.SSLError)):
        return False
    return any(isinstance(cause, ssl.SSLError) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while error is not None and seen < 8:  # noqa: PLR2004 (httpx wraps httpcore wraps anyio wraps ssl)
        yield error
        error, seen = error.__cause__ or error.__context__, seen + 1
