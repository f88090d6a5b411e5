"""GET one answer of a grid service over httpx: limits on time and size, no redirect, and nothing that shows a URL.

The transport is used without httpx's client, because the client logs every URL, and keys stand in URLs; tracing
instrumentation and httpcore's debugging lines are told to look away for the same reason. The environment is never
consulted.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import zlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

import httpx
from opentelemetry import context as otel_context

from vetted_mw.grid.absence import Cause, NoSignalReason
from vetted_mw.grid.sources.request import MAX_BODY_BYTES, Request
from vetted_mw.retry_after import parse_retry_after
from vetted_mw.unlogged import hush_httpcore, unlogged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

__all__ = ["Answer", "Failure", "Get", "HttpGet", "Session"]

_CAUSES: tuple[tuple[type[BaseException], Cause], ...] = (
    (socket.gaierror, Cause.NAME_NOT_RESOLVED),
    (ConnectionRefusedError, Cause.CONNECTION_REFUSED),
    (ssl.SSLError, Cause.TLS),
    (httpx.ProxyError, Cause.PROXY),
    (httpx.ReadError, Cause.CUT),
    (httpx.RemoteProtocolError, Cause.CUT),
)
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
_READ = frozenset({200, 400})
_MOST_CHUNKS = 20_000
"""A trickle of single bytes costs far more than its size says."""
_MOST_WAIT_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer.

    Attributes:
        status: HTTP status.
        body: decoded, at most `MAX_BODY_BYTES`; empty for a status that tells all, whose body is left unread.
        retry_after_seconds: its `Retry-After`, a day at most.
    """

    status: int
    body: bytes
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """There was no whole answer, and why."""

    reason: NoSignalReason
    cause: Cause | None = None
    status: int | None = None


class Get(Protocol):
    """Sends one GET. It never raises but when cancelled, follows no redirect, retries nothing."""

    async def __call__(self, request: Request) -> Answer | Failure:
        """Return the whole answer, or why there is none."""
        ...


class Session(Protocol):
    """Opens what the GETs of one refresh share."""

    def __call__(self) -> AbstractAsyncContextManager[Get]:
        """Return a context whose value sends GETs until it ends."""
        ...


class HttpGet:
    """A `Session` on httpx: a connection of its own per refresh, which is minutes after the last one.

    Args:
        timeout_seconds: for one whole answer.
        proxy: egress proxy; empty for none.
        user_agent: how we introduce ourselves.
        now: wall clock, for a `Retry-After` that names a date.
    """

    def __init__(self, *, timeout_seconds: float, proxy: str, user_agent: str, now: Callable[[], datetime]) -> None:
        self._timeout_seconds = timeout_seconds
        self._proxy = proxy
        self._user_agent = user_agent
        self._now = now

    @contextlib.asynccontextmanager
    async def __call__(self) -> AsyncIterator[Get]:
        """Open a transport and close it after the refresh."""
        hush_httpcore()
        tls = await asyncio.to_thread(_tls)  # reading the authorities takes a while
        async with httpx.AsyncHTTPTransport(verify=tls, trust_env=False, proxy=self._proxy or None) as transport:

            async def get(request: Request) -> Answer | Failure:
                return await self._get(transport, request)

            yield get

    async def _get(self, transport: httpx.AsyncHTTPTransport, request: Request) -> Answer | Failure:
        token = otel_context.attach(_untraced())
        try:
            with unlogged():
                async with asyncio.timeout(self._timeout_seconds):
                    return await self._answer(transport, request)
        except TimeoutError:
            return Failure(reason=NoSignalReason.TIMEOUT)
        except Exception as error:  # noqa: BLE001 (beside httpx's own errors those of the libraries under it, with a host or URL in their text)
            return Failure(reason=NoSignalReason.UNREACHABLE, cause=self._cause(error))
        finally:
            otel_context.detach(token)

    def _cause(self, error: Exception) -> Cause | None:
        cause = _cause(error)
        is_of_proxy = self._proxy and cause in {Cause.NAME_NOT_RESOLVED, Cause.CONNECTION_REFUSED}
        return Cause.PROXY if is_of_proxy else cause  # the connection was to the proxy

    async def _answer(self, transport: httpx.AsyncHTTPTransport, request: Request) -> Answer | Failure:
        headers = {"accept": request.accept, "accept-encoding": "identity", "user-agent": self._user_agent}
        headers |= dict(request.headers)
        response = await transport.handle_async_request(httpx.Request("GET", request.url, headers=headers))
        try:
            body = await _body(response) if response.status_code in _READ else b""
        finally:
            await response.aclose()
        if isinstance(body, NoSignalReason):
            return Failure(reason=body, status=response.status_code)
        return Answer(status=response.status_code, body=body, retry_after_seconds=self._wait(response))

    def _wait(self, response: httpx.Response) -> float | None:
        text = response.headers.get("retry-after")
        return None if text is None else parse_retry_after(text, now=self._now(), most_seconds=_MOST_WAIT_SECONDS)


def _cause(error: BaseException) -> Cause | None:
    """Say in a word what kept us from an answer; the errors' texts hold hosts and URLs and are never read."""
    seen: BaseException | None = error
    found: Cause | None = None
    while seen is not None:
        kinds = (cause for kind, cause in _CAUSES if isinstance(seen, kind))
        found = next(kinds, found)
        seen = seen.__cause__ or seen.__context__
    return found


async def _body(response: httpx.Response) -> bytes | NoSignalReason:
    body, chunks = bytearray(), 0
    async for data in response.aiter_raw():
        body += data
        chunks += 1
        if len(body) > MAX_BODY_BYTES or chunks > _MOST_CHUNKS:
            return NoSignalReason.TOO_LARGE
    return _decoded(bytes(body), response.headers.get("content-encoding", ""))


def _decoded(body: bytes, encoding: str) -> bytes | NoSignalReason:
    """Undo an encoding we did not ask for, without ever inflating beyond the limit."""
    encoding = encoding.strip().lower()
    if encoding in {"", "identity"}:
        return body
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        return NoSignalReason.NOT_UNDERSTOOD
    inflating = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        whole = inflating.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error:
        return NoSignalReason.NOT_UNDERSTOOD
    if len(whole) > MAX_BODY_BYTES:
        return NoSignalReason.TOO_LARGE
    return whole if inflating.eof else NoSignalReason.NOT_UNDERSTOOD


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


def _untraced() -> otel_context.Context:
    """Return a context in which instrumentation makes no span of what we send: its attributes would hold the URL."""
    context = otel_context.get_current()
    for name in ("_SUPPRESS_HTTP_INSTRUMENTATION_KEY", "_SUPPRESS_INSTRUMENTATION_KEY"):
        # What instrumentation looks at; the API has no public name for it, and may give it another.
        key = getattr(otel_context, name, None)
        context = context if key is None else otel_context.set_value(key, True, context)
    return context
