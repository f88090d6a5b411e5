"""Read one request body from ASGI messages, within its limits."""

from __future__ import annotations

import asyncio
import contextlib
from types import MappingProxyType
from typing import TYPE_CHECKING

from vetted_mw.deadlines import Limit
from vetted_mw.errors import BodyTooLargeError, BodyTooSlowError, InvalidRequestError, UnsupportedEncodingError
from vetted_mw.proxy.decoding import BodyDecoder, DecodingError, TooLargeError, is_known_encoding
from vetted_mw.proxy.headers import first_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope

    from vetted_mw.configuration import Limits

__all__ = ["Body", "CallerLeftError", "Inflow", "read_body"]

_LINGER_SECONDS = 5.0
_LINGER_BYTES = 33_554_432
_PLAIN = frozenset({b"", b"identity"})
_NO_NAMES: Mapping[bytes, bytes] = MappingProxyType({})


class CallerLeftError(Exception):
    """The caller went away; there is nobody to answer."""


class Body:
    """A request body: as it came, and decoded.

    Attributes:
        raw: the bytes on the wire, for a replay.
        content: the same after `Content-Encoding`.
    """

    __slots__ = ("content", "raw")

    def __init__(self, raw: bytes, content: bytes) -> None:
        self.raw = raw
        self.content = content


class Inflow:
    """What comes of one request: its headers, looked up by name, and the server's `receive` for its body.

    Args:
        scope: the request's.
        receive: the server's.
        limits: bound what is thrown away.

    Attributes:
        scope: the request's.
        named: the first value of each header, names in lower case.
        ended: whether the last part of the body has come, none was announced, or the caller left.
    """

    __slots__ = ("_limits", "_receive", "ended", "named", "scope")

    def __init__(self, scope: Scope, receive: Receive, limits: Limits) -> None:
        self.scope = scope
        self.named: Mapping[bytes, bytes] = first_values(scope["headers"])
        self._receive = receive
        self._limits = limits
        self.ended = not _announces_body(scope, self.named)

    async def part(self) -> bytes:
        """Return what the next message brings of the body.

        Raises:
            CallerLeftError: the caller went away instead.
        """
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.ended = True
            raise CallerLeftError
        self.ended = not message.get("more_body", False)
        data: bytes = message.get("body", b"")
        if not (data or self.ended):
            await asyncio.sleep(0)  # a `receive` that never waits must not stop the loop
        return data

    def let_go_of_names(self) -> None:
        """Forget the headers by name, once whoever let the request in has asked for all that it needs."""
        self.named = _NO_NAMES

    async def discard(self) -> None:
        """Throw away what still comes, for a short while and up to a limit.

        A server that closes on unread bytes resets the connection, and the answer is lost with it (RFC 9112 §9.6).
        """
        left = max(2 * self._limits.max_body_bytes, _LINGER_BYTES)
        patience = min(self._limits.body_read_seconds, _LINGER_SECONDS)
        limit = Limit(asyncio.get_running_loop().time() + patience)
        with contextlib.suppress(TimeoutError, CallerLeftError), limit:
            while not self.ended and left > 0:
                left -= len(await self.part())
                await asyncio.sleep(0)  # a `receive` that never waits must not stop the loop


async def read_body(inflow: Inflow, limits: Limits) -> Body:
    """Read the whole body.

    Raises:
        BodyTooLargeError: over `max_body_bytes`, on the wire or decoded; reading stops there.
        BodyTooSlowError: not whole within `body_read_seconds`.
        UnsupportedEncodingError: an encoding we do not undo.
        InvalidRequestError: the bytes are not in the encoding named, or where they end is said in two ways.
        CallerLeftError: the caller went away.
    """
    named = inflow.named
    encoding = named.get(b"content-encoding")
    if encoding and not is_known_encoding(encoding := encoding.strip().lower()):
        raise UnsupportedEncodingError("Send the body as it is, or with content-encoding gzip or deflate.")
    if b"transfer-encoding" in named:
        _refuse_unclear_end(inflow.scope, named)
    _refuse_declared_size(named, limits)
    try:
        with Limit(asyncio.get_running_loop().time() + limits.body_read_seconds):
            if not encoding or encoding in _PLAIN:
                parts: list[bytes] = []
                left = limits.max_body_bytes
                while not inflow.ended or not parts:  # an end without a part is an empty body, told by one message
                    parts.append(await inflow.part())
                    left -= len(parts[-1])
                    if left < 0:
                        raise TooLargeError  # noqa: TRY301 (as the decoder does, without a call for each part)
                content = bytes(parts[0]) if len(parts) == 1 else b"".join(parts)  # no copy of what is bytes
                return Body(content, content)
            return await _decoded(inflow, BodyDecoder(encoding, max_bytes=limits.max_body_bytes), limits)
    except TimeoutError:
        raise BodyTooSlowError(f"The body did not arrive within {limits.body_read_seconds:g} seconds.") from None
    except TooLargeError:
        raise _too_large(limits) from None
    except DecodingError:
        raise InvalidRequestError("The body is not in the encoding its content-encoding header names.") from None


async def _decoded(inflow: Inflow, decoder: BodyDecoder, limits: Limits) -> Body:
    raw: list[bytes] = []
    content: list[bytes] = []
    size = 0
    is_whole = False
    while not is_whole:
        data = await inflow.part()
        is_whole = inflow.ended
        size += len(data)
        if size > limits.max_body_bytes:
            raise TooLargeError
        content.append(decoder.feed(data))
        raw.append(data)
    decoder.finish()
    return Body(b"".join(raw), b"".join(content))


def _announces_body(scope: Scope, named: Mapping[bytes, bytes]) -> bool:
    """Whether HTTP/1 headers announce a body; later versions close a stream without harm to its answer."""
    if not scope.get("http_version", "1.1").startswith("1"):
        return False
    return named.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in named


def _refuse_unclear_end(scope: Scope, named: Mapping[bytes, bytes]) -> None:
    """Refuse a body whose end two servers could see in two places (RFC 9112 §6.1): not every server does.

    h11 takes a length beside chunks, and httptools an encoding beside `chunked`; the connection is closed after the
    answer, so what is hidden behind such a body is never read as a request.
    """
    codings = [value.strip(b" \t").lower() for name, value in scope["headers"] if name.lower() == b"transfer-encoding"]
    if codings != [b"chunked"] or b"content-length" in named or scope.get("http_version") == "1.0":
        raise InvalidRequestError("Send the body with a content-length, or in chunks without one, over HTTP/1.1.")


def _refuse_declared_size(named: Mapping[bytes, bytes], limits: Limits) -> None:
    declared = named.get(b"content-length")
    if declared and declared.isdigit() and int(declared[:20]) > limits.max_body_bytes:
        raise _too_large(limits)


def _too_large(limits: Limits) -> BodyTooLargeError:
    return BodyTooLargeError(f"The body is over {limits.max_body_bytes} bytes. Send a shorter request.")
