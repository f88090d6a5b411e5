"""The narrow door to an upstream, and the httpx behind it. The only module here that knows httpx."""

from __future__ import annotations

import asyncio
import functools
import math
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import httpx

from vetted_mw.errors import ConfigurationError
from vetted_mw.proxy.outcome import AttemptFailedError, Fault
from vetted_mw.routing.decision import AttemptOutcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator

    from vetted_mw.configuration import Upstream
    from vetted_mw.proxy.headers import Headers

__all__ = ["HttpxTransport", "Response", "Transport", "UpstreamRequest", "closed_surely"]

_MAX_IDLE_CONNECTIONS = 20  # httpx looks at all of them at every request, in quadratic time: 20 cost 0.4 ms, 100 cost 5


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamRequest:
    """One HTTP request to an upstream.

    Attributes:
        method: `POST` for completions, `GET` for probes.
        path: appended to the upstream's base URL, `/chat/completions`; with `from_origin` to its origin.
        headers: complete but for `host` and `content-length`.
        body: the bytes to send.
        from_origin: whether `path` starts at the origin (`/health`) and not at the base URL.
    """

    method: str
    path: str
    headers: Headers
    body: bytes = b""
    from_origin: bool = False


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
    `AttemptFailedError` with a transport outcome and nothing else, never follows a redirect, never retries, never
    reads the environment. The caller owns the response; the gateway owns the transport and closes it.
    """

    async def send(self, request: UpstreamRequest) -> Response:
        """Send and return once the head of the answer has arrived."""
        ...

    async def aclose(self) -> None:
        """Close the pool."""
        ...


class HttpxTransport:
    """A `Transport` on httpx, one connection pool per upstream, as large as its in-flight cap and one more for probes.

    Raises:
        ConfigurationError: `ca_file` cannot be read.
    """

    def __init__(self, upstream: Upstream) -> None:
        limits = upstream.limits
        self._base = httpx.URL(upstream.base_url)
        self._connect_seconds = limits.pool_seconds + limits.connect_seconds
        self._timeout = {
            "connect": limits.connect_seconds,
            "pool": limits.pool_seconds,
            "read": None,  # the attempt keeps those deadlines: they span reads
            "write": limits.first_byte_seconds,
        }
        self._pool = httpx.AsyncHTTPTransport(
            verify=_tls(upstream),
            trust_env=False,
            http2=False,
            retries=0,
            proxy=upstream.proxy or None,
            limits=httpx.Limits(
                max_connections=limits.max_in_flight + 1,  # a probe must not wait where every lease is taken
                max_keepalive_connections=min(limits.max_in_flight, _MAX_IDLE_CONNECTIONS),
                keepalive_expiry=limits.idle_connection_seconds,
            ),
        )

    async def send(self, request: UpstreamRequest) -> Response:
        """Send and return once the head of the answer has arrived."""
        path = request.path.encode("ascii")
        outgoing = httpx.Request(
            request.method,
            self._base.copy_with(raw_path=path if request.from_origin else self._base.raw_path.rstrip(b"/") + path),
            headers=request.headers,
            content=request.body if request.method == "POST" else None,
            extensions={"timeout": self._timeout},
        )
        response = _HttpxResponse(self._pool, outgoing, connect_seconds=self._connect_seconds)
        try:
            await response.head()
        except BaseException:
            await response.aclose()
            await _close_orphans(self._pool)
            raise
        return response

    async def aclose(self) -> None:
        """Close the pool."""
        await self._pool.aclose()


class _HttpxResponse:
    """One exchange, in a task of its own that ends by its anyio scope only.

    httpx keeps its pool whole under anyio's cancellation alone: a bare `Task.cancel` that arrives at one of its locks,
    or a second one while it closes a connection, leaves that connection's slot taken for ever.
    """

    status = 0
    headers: Headers

    def __init__(self, pool: httpx.AsyncHTTPTransport, request: httpx.Request, *, connect_seconds: float) -> None:
        self._scope = anyio.CancelScope()
        # One limit over pool, TCP, a proxy's CONNECT and TLS: httpx has one for each, and none for CONNECT.
        self._connecting = anyio.CancelScope(deadline=anyio.current_time() + connect_seconds)
        self._socket: Any = None
        request.extensions["trace"] = self._note
        # At most one part waits here: a slow caller slows the upstream down, as it should.
        self._parts: asyncio.Queue[httpx.Response | bytes | Exception | None] = asyncio.Queue(maxsize=1)
        self._task = asyncio.ensure_future(self._run(pool, request))

    async def head(self) -> None:
        """Wait for status and headers."""
        with _translated(sent=False):
            answer = await self._next()
        assert isinstance(answer, httpx.Response)  # noqa: S101 (narrowing: it is what _run puts first)
        self.status = answer.status_code
        self.headers = [(name.lower(), value) for name, value in answer.headers.raw]

    async def chunks(self) -> AsyncIterator[bytes]:
        with _translated(sent=True, status=self.status):
            while isinstance(data := await self._next(), bytes):
                yield data

    async def aclose(self) -> None:
        self._scope.cancel()
        await closed_surely(self._task)

    async def _next(self) -> httpx.Response | bytes | None:
        part = await self._parts.get()
        if isinstance(part, Exception):
            raise part
        return part

    async def _run(self, pool: httpx.AsyncHTTPTransport, request: httpx.Request) -> None:
        with self._scope:
            try:
                await self._read(await self._answer(pool, request))
            except Exception as error:  # noqa: BLE001 (whoever waits for the next part gets it)
                await self._parts.put(error)

    async def _answer(self, pool: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        with self._connecting:
            try:
                return await pool.handle_async_request(request)
            except BaseException:
                if self._socket is not None:
                    with anyio.CancelScope(shield=True):
                        await self._socket.aclose()  # httpx forgets a socket whose TLS handshake was cancelled
                raise
        raise httpx.ConnectTimeout("")

    async def _note(self, event: str, info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self._socket = info["return_value"]
        elif event == "http11.send_request_headers.started" and info["request"].method != b"CONNECT":
            self._connecting.deadline = math.inf

    async def _read(self, answer: httpx.Response) -> None:
        try:
            await self._parts.put(answer)
            # The raw bytes: what they decode to is limited by us, not by httpx.
            async for data in answer.stream:  # type: ignore[union-attr]
                await self._parts.put(data)
        finally:
            with anyio.CancelScope(shield=True):
                await answer.stream.aclose()  # type: ignore[union-attr]
        await self._parts.put(None)


async def _close_orphans(transport: httpx.AsyncHTTPTransport) -> None:
    """Close connections that hold a slot for no request: httpx forgets one whose TLS behind a proxy failed."""
    pool = getattr(transport, "_pool", None)  # nothing public tells; without it nothing worse than before happens
    requests = getattr(pool, "_requests", None)
    if pool is None or requests is None:
        return
    held = {request.connection for request in requests}
    orphans = [one for one in pool.connections if one not in held and not one.is_idle() and not one.is_closed()]
    for connection in orphans:
        await closed_surely(connection.aclose())


async def closed_surely(closing: Awaitable[None]) -> None:
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
_NOTHING_SENT = frozenset({AttemptOutcome.CONNECT_TIMEOUT, AttemptOutcome.CONNECT_ERROR, AttemptOutcome.TLS_ERROR})


class _translated:  # noqa: N801 (reads as the statement it is)
    """Translate httpx's exceptions at this one border; `from None`, since their text can hold a URL."""

    def __init__(self, *, sent: bool, status: int | None = None) -> None:
        self._sent = sent
        self._status = status

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, (httpx.HTTPError, ssl.SSLError, OSError)):
            outcome = _outcome_of(error)
            sent = self._sent or outcome not in _NOTHING_SENT
            raise AttemptFailedError(Fault(outcome=outcome, sent=sent, status=self._status)) from None


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
