"""Read one request body from ASGI messages, within its limits, and notice when the caller leaves."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

from vetted_mw.errors import BodyTooLargeError, BodyTooSlowError, InvalidRequestError, UnsupportedEncodingError
from vetted_mw.proxy.decoding import BodyDecoder, DecodingError, TooLargeError, is_known_encoding
from vetted_mw.proxy.headers import header_value

if TYPE_CHECKING:
    from types import TracebackType

    from starlette.types import Message, Receive, Scope

    from vetted_mw.configuration import Limits
    from vetted_mw.errors import AnswerError

__all__ = ["Body", "CallerLeftError", "Inflow", "UntilCallerLeaves", "read_body"]

_LINGER_SECONDS = 5.0
_LINGER_BYTES = 33_554_432
_PAUSE_SECONDS = 0.05
_PLAIN = frozenset({b"", b"identity"})


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
    """The server's `receive` for one request's body; knows whether more of it may be on its way.

    Args:
        scope: the request's.
        receive: the server's.
        limits: bound what is thrown away.

    Attributes:
        ended: whether the last part has come, none was announced, or the caller left.
    """

    __slots__ = ("_limits", "_receive", "ended")

    def __init__(self, scope: Scope, receive: Receive, limits: Limits) -> None:
        self._receive = receive
        self._limits = limits
        self.ended = not _announces_body(scope)

    async def __call__(self) -> Message:
        """Return the next message."""
        message = await self._receive()
        self.ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def discard(self) -> None:
        """Throw away what still comes, for a short while and up to a limit.

        A server that closes on unread bytes resets the connection, and the answer is lost with it (RFC 9112 §9.6).
        """
        left = max(2 * self._limits.max_body_bytes, _LINGER_BYTES)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(self._limits.body_read_seconds, _LINGER_SECONDS)):
                while not self.ended and left > 0:
                    left -= len((await self()).get("body", b""))
                    await asyncio.sleep(0)  # a `receive` that never waits must not stop the loop


async def read_body(scope: Scope, receive: Receive, limits: Limits) -> Body:
    """Read the whole body.

    Raises:
        BodyTooLargeError: over `max_body_bytes`, on the wire or decoded; reading stops there.
        BodyTooSlowError: not whole within `body_read_seconds`.
        UnsupportedEncodingError: an encoding we do not undo.
        InvalidRequestError: the bytes are not in the encoding named, or where they end is said in two ways.
        CallerLeftError: the caller went away.
    """
    encoding = (header_value(scope["headers"], b"content-encoding") or b"").strip().lower()
    if not is_known_encoding(encoding):
        raise UnsupportedEncodingError("Send the body as it is, or with content-encoding gzip or deflate.")
    _refuse_unclear_end(scope)
    _refuse_declared_size(scope, limits)
    try:
        async with asyncio.timeout(limits.body_read_seconds):
            decoder = BodyDecoder(encoding, max_bytes=limits.max_body_bytes)
            return await _collected(receive, decoder, limits, is_plain=encoding in _PLAIN)
    except TimeoutError:
        raise BodyTooSlowError(f"The body did not arrive within {limits.body_read_seconds:g} seconds.") from None
    except TooLargeError:
        raise _too_large(limits) from None
    except DecodingError:
        raise InvalidRequestError("The body is not in the encoding its content-encoding header names.") from None


async def _collected(receive: Receive, decoder: BodyDecoder, limits: Limits, *, is_plain: bool) -> Body:
    raw: list[bytes] = []
    content: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerLeftError
        data = message.get("body", b"")
        size += len(data)
        if size > limits.max_body_bytes:
            raise TooLargeError
        content.append(decoder.feed(data))
        if not is_plain:
            raw.append(data)
        more = message.get("more_body", False)
        if more and not data:
            await asyncio.sleep(0)  # a `receive` that never waits must not stop the loop
    decoder.finish()
    whole = b"".join(content)
    return Body(whole if is_plain else b"".join(raw), whole)


def _announces_body(scope: Scope) -> bool:
    """Whether HTTP/1 headers announce a body; later versions close a stream without harm to its answer."""
    if not scope.get("http_version", "1.1").startswith("1"):
        return False
    length = header_value(scope["headers"], b"content-length")
    return length not in {None, b"0"} or header_value(scope["headers"], b"transfer-encoding") is not None


def _refuse_unclear_end(scope: Scope) -> None:
    """Refuse a body whose end two servers could see in two places (RFC 9112 §6.1): not every server does.

    h11 takes a length beside chunks, and httptools an encoding beside `chunked`; the connection is closed after the
    answer, so what is hidden behind such a body is never read as a request.
    """
    codings = [value.strip(b" \t").lower() for name, value in scope["headers"] if name == b"transfer-encoding"]
    if not codings:
        return
    has_length = header_value(scope["headers"], b"content-length") is not None
    if codings != [b"chunked"] or has_length or scope.get("http_version") == "1.0":
        raise InvalidRequestError("Send the body with a content-length, or in chunks without one, over HTTP/1.1.")


def _refuse_declared_size(scope: Scope, limits: Limits) -> None:
    declared = header_value(scope["headers"], b"content-length") or b""
    if declared.isdigit() and int(declared[:20]) > limits.max_body_bytes:
        raise _too_large(limits)


def _too_large(limits: Limits) -> BodyTooLargeError:
    return BodyTooLargeError(f"The body is over {limits.max_body_bytes} bytes. Send a shorter request.")


class UntilCallerLeaves:
    """Cancel the block when the caller goes away, and raise `CallerLeftError` then; or when it is told to stop.

    One task waits for `http.disconnect`. Works as `asyncio.timeout` does: the running task is cancelled, and the cancel
    is taken back at the block's end, so that a cancel from outside still goes its own way.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._why: Exception | None = None
        self._is_inside = False
        self._is_cancelled = False
        self._cancelling = 0
        self._task: asyncio.Task[object] | None = None
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        self._cancelling = 0 if self._task is None else self._task.cancelling()
        self._is_inside = True
        if self._why is not None:
            self._cancel(self._why)
        self._watch = asyncio.ensure_future(self._watched())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watch is None or self._task is None:
            return
        self._is_inside = False
        interrupted = await _ended(self._watch)
        is_ours = self._is_cancelled and self._task.uncancel() <= self._cancelling
        has_left = interrupted and isinstance(self._why, CallerLeftError)  # a block told to stop may have ended first
        if is_ours and self._why is not None and (has_left or kind is asyncio.CancelledError):
            raise self._why from None
        if interrupted and not is_ours:
            raise asyncio.CancelledError

    def stop(self, error: AnswerError) -> bool:
        """Cancel the block, now or when it begins, and raise `error` at its end; returns whether that is to come.

        A block that has ended, or is being cancelled already, is left alone.
        """
        if self._task is None and self._why is None:
            self._why = error
            return True
        return self._is_inside and self._cancel(error)

    async def _watched(self) -> None:
        # A receive that says anything else may say it again at once, and for ever.
        while (await self._receive())["type"] != "http.disconnect":  # noqa: ASYNC110 (a message is no event)
            await asyncio.sleep(_PAUSE_SECONDS)
        self._cancel(CallerLeftError())

    def _cancel(self, why: Exception) -> bool:
        if self._is_cancelled or self._task is None:
            return False
        self._is_cancelled = True
        self._why = why
        self._task.cancel()
        return True


async def _ended(task: asyncio.Task[None]) -> bool:
    """Cancel a task and wait for its end; returns whether we were cancelled meanwhile."""
    task.cancel()
    interrupted = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            interrupted = True
    return interrupted
