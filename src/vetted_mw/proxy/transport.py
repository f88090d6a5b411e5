"""The narrow door to an upstream, and the httpx behind it. The only module here that knows httpx."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import httpx

from vetted_mw.errors import ConfigurationError
from vetted_mw.proxy.outcome import AttemptFailedError, Fault
from vetted_mw.routing.decision import AttemptOutcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

    from vetted_mw.configuration import Upstream
    from vetted_mw.proxy.headers import Headers

__all__ = ["HttpxTransport", "Response", "Transport", "UpstreamRequest", "closed_surely"]


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
    """A `Transport` on httpx, one connection pool per upstream, as large as its in-flight cap.

    Raises:
        ConfigurationError: `ca_file` cannot be read.
    """

    def __init__(self, upstream: Upstream) -> None:
        limits = upstream.limits
        self._base = httpx.URL(upstream.base_url)
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
                max_connections=limits.max_in_flight,
                max_keepalive_connections=limits.max_in_flight,
                keepalive_expiry=limits.idle_connection_seconds,
            ),
        )

    async def send(self, request: UpstreamRequest) -> Response:
        """Send and return once the head of the answer has arrived."""
        path = request.path if request.from_origin else self._base.path.rstrip("/") + request.path
        outgoing = httpx.Request(
            request.method,
            self._base.copy_with(path=path),
            headers=request.headers,
            content=request.body if request.method == "POST" else None,
            extensions={"timeout": self._timeout},
        )
        with _translated(sent=False):
            answer = await self._pool.handle_async_request(outgoing)
        return _HttpxResponse(answer)

    async def aclose(self) -> None:
        """Close the pool."""
        await self._pool.aclose()


class _HttpxResponse:
    def __init__(self, answer: httpx.Response) -> None:
        self.status = answer.status_code
        self.headers = [(name.lower(), value) for name, value in answer.headers.raw]
        self._answer = answer

    async def chunks(self) -> AsyncIterator[bytes]:
        with _translated(sent=True):
            # The raw bytes: what they decode to is limited by us, not by httpx.
            async for data in self._answer.stream:  # type: ignore[union-attr]
                yield data

    async def aclose(self) -> None:
        await closed_surely(self._answer.stream.aclose())  # type: ignore[union-attr]


async def closed_surely(closing: Coroutine[object, object, None]) -> None:
    """Run `closing` to its end even when we are cancelled meanwhile: a second cancel would leak the pool's slot."""
    task = asyncio.ensure_future(closing)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
        except (httpx.HTTPError, OSError):
            break  # closing a broken connection failed: it is gone, which is what was wanted
    if cancelled:
        raise asyncio.CancelledError


def _tls(upstream: Upstream) -> ssl.SSLContext:
    if not upstream.ca_file:
        return httpx.create_ssl_context(trust_env=False)
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

    def __init__(self, *, sent: bool) -> None:
        self._sent = sent

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, (httpx.HTTPError, ssl.SSLError, OSError)):
            outcome = _outcome_of(error)
            raise AttemptFailedError(Fault(outcome=outcome, sent=self._sent or outcome not in _NOTHING_SENT)) from None


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
