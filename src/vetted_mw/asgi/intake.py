"""Read one request body from ASGI messages, within its limits."""

from __future__ import annotations

import asyncio
import contextlib
from types import CoroutineType, MappingProxyType
from typing import TYPE_CHECKING, Any

from vetted_mw.deadlines import Limit
from vetted_mw.errors import BodyTooLargeError, BodyTooSlowError, InvalidRequestError, UnsupportedEncodingError
from vetted_mw.proxy.decoding import BodyDecoder, DecodingError, TooLargeError, is_known_encoding
from vetted_mw.proxy.headers import heard

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator, Mapping

    from starlette.types import Message, Receive, Scope

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
    """What comes of one request: the headers that mean something here, and the server's `receive` for its body.

    Args:
        scope: the request's.
        receive: the server's.
        limits: bound what is thrown away.

    Attributes:
        scope: the request's.
        headers: those of its headers that are heard, in their order.
        named: the first value of each of them, names in lower case.
    """

    __slots__ = ("_asked", "_begun", "_ended", "_limits", "_receive", "headers", "named", "scope")

    def __init__(self, scope: Scope, receive: Receive, limits: Limits) -> None:
        self.scope = scope
        self.named: Mapping[bytes, bytes]
        self.headers, self.named = heard(scope["headers"])
        self._receive = receive
        self._limits = limits
        self._begun: bytes | None = None
        self._asked: Awaitable[Message] | None = None
        self._ended: bool | None = None

    @property
    def ended(self) -> bool:
        """Whether the last part of the body has come, none was announced, or the caller left."""
        if self._ended is None:
            self._ended = not _announces_body(self.scope, self.named)
        return self._ended

    def whole_at_once(self) -> bytes | None:
        """Return the whole body where the server has it at hand, which costs no wait, and so no limit in time.

        None where it has not; `part` then goes on from there. Called once, before anything was read.

        Raises:
            CallerLeftError: the caller went away instead.
        """
        asked = self._receive()
        if type(asked) is not CoroutineType:
            self._asked = asked
            return None
        try:
            awaited = asked.send(None)
        except StopIteration as came:
            data = self._brought_by(came.value)
            if self._ended:
                return data
            self._begun = data
        else:
            self._asked = _Begun(asked, awaited)
        return None

    async def part(self) -> bytes:
        """Return what the next message brings of the body.

        Raises:
            CallerLeftError: the caller went away instead.
        """
        begun, self._begun = self._begun, None
        if begun:
            return begun
        asked, self._asked = self._asked, None
        data = self._brought_by(await (self._receive() if asked is None else asked))
        if not (data or self._ended):
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
        loop = asyncio.get_running_loop()
        limit = Limit(loop.time() + patience, loop)
        with contextlib.suppress(TimeoutError, CallerLeftError), limit:
            while not self.ended and left > 0:
                left -= len(await self.part())
                await asyncio.sleep(0)  # a `receive` that never waits must not stop the loop

    def _brought_by(self, message: Message) -> bytes:
        if message["type"] == "http.disconnect":
            self._ended = True
            raise CallerLeftError
        self._ended = not message.get("more_body", False)
        data: bytes = message.get("body", b"")
        return data


class _Begun:
    """A coroutine that has taken its first step, for who waits for it after all: awaited, it goes on from there.

    Args:
        coroutine: the one.
        awaited: what it waits for at the end of that step.
    """

    __slots__ = ("_awaited", "_coroutine")

    def __init__(self, coroutine: CoroutineType[Any, Any, Message], awaited: object) -> None:
        self._coroutine = coroutine
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, Message]:
        try:
            yield self._awaited
        except BaseException as error:  # noqa: BLE001 (it is the coroutine's to hear of, a cancel above all)
            try:
                awaited = self._coroutine.throw(error)
            except StopIteration as came:
                message: Message = came.value
                return message
            return (yield from _Begun(self._coroutine, awaited).__await__())
        return (yield from self._coroutine.__await__())


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
    most, declared = limits.max_body_bytes, named.get(b"content-length")
    if declared and declared.isdigit() and int(declared[:20]) > most:
        raise _too_large(limits)
    decoder = None if not encoding or encoding in _PLAIN else BodyDecoder(encoding, max_bytes=most)
    if decoder is None and (whole := inflow.whole_at_once()) is not None:
        if len(whole) > most:
            raise _too_large(limits)
        content = bytes(whole)  # no copy of what is bytes
        return Body(content, content)
    loop = asyncio.get_running_loop()
    try:
        with Limit(loop.time() + limits.body_read_seconds, loop):
            return await _joined(inflow, decoder, most=most)
    except TimeoutError:
        raise BodyTooSlowError(f"The body did not arrive within {limits.body_read_seconds:g} seconds.") from None
    except TooLargeError:
        raise _too_large(limits) from None
    except DecodingError:
        raise InvalidRequestError("The body is not in the encoding its content-encoding header names.") from None


async def _joined(inflow: Inflow, decoder: BodyDecoder | None, *, most: int) -> Body:
    """Read a body part by part."""
    parts: list[bytes] = []
    decoded: list[bytes] = []
    left = most
    while not inflow.ended or not parts:  # an end without a part is an empty body, told by one message
        data = await inflow.part()
        left -= len(data)
        if left < 0:
            raise TooLargeError
        parts.append(data)
        if decoder is not None:
            decoded.append(decoder.feed(data))
    raw = b"".join(parts)
    if decoder is None:
        return Body(raw, raw)
    decoder.finish()
    return Body(raw, b"".join(decoded))


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


def _too_large(limits: Limits) -> BodyTooLargeError:
    return BodyTooLargeError(f"The body is over {limits.max_body_bytes} bytes. Send a shorter request.")
