"""Read one request body from ASGI messages, within its limits, and notice when the caller leaves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from vetted_mw.errors import BodyTooLargeError, BodyTooSlowError, InvalidRequestError, UnsupportedEncodingError
from vetted_mw.proxy.decoding import BodyDecoder, DecodingError, TooLargeError, is_known_encoding
from vetted_mw.proxy.headers import header_value

if TYPE_CHECKING:
    from types import TracebackType

    from starlette.types import Receive, Scope

    from vetted_mw.configuration import Limits

__all__ = ["Body", "CallerLeftError", "UntilCallerLeaves", "read_body"]


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


async def read_body(scope: Scope, receive: Receive, limits: Limits) -> Body:
    """Read the whole body.

    Raises:
        BodyTooLargeError: over `max_body_bytes`, on the wire or decoded; reading stops there.
        BodyTooSlowError: not whole within `body_read_seconds`.
        UnsupportedEncodingError: an encoding we do not undo.
        InvalidRequestError: the bytes are not in the encoding named.
        CallerLeftError: the caller went away.
    """
    encoding = (header_value(scope["headers"], b"content-encoding") or b"").strip().lower()
    if not is_known_encoding(encoding):
        raise UnsupportedEncodingError("Send the body as it is, or with content-encoding gzip or deflate.")
    _refuse_declared_size(scope, limits)
    try:
        async with asyncio.timeout(limits.body_read_seconds):
            return await _collected(receive, BodyDecoder(encoding, max_bytes=limits.max_body_bytes), limits)
    except TimeoutError:
        raise BodyTooSlowError(f"The body did not arrive within {limits.body_read_seconds:g} seconds.") from None
    except TooLargeError:
        raise _too_large(limits) from None
    except DecodingError:
        raise InvalidRequestError("The body is not in the encoding its content-encoding header names.") from None


async def _collected(receive: Receive, decoder: BodyDecoder, limits: Limits) -> Body:
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
        raw.append(data)
        content.append(decoder.feed(data))
        more = message.get("more_body", False)
    decoder.finish()
    return Body(b"".join(raw), b"".join(content))


def _refuse_declared_size(scope: Scope, limits: Limits) -> None:
    declared = header_value(scope["headers"], b"content-length") or b""
    if declared.isdigit() and int(declared[:20]) > limits.max_body_bytes:
        raise _too_large(limits)


def _too_large(limits: Limits) -> BodyTooLargeError:
    return BodyTooLargeError(f"The body is over {limits.max_body_bytes} bytes. Send a shorter request.")


class UntilCallerLeaves:
    """Cancel the block when the caller goes away, and raise `CallerLeftError` then.

    One task waits for `http.disconnect`. Works as `asyncio.timeout` does: the running task is cancelled, and the cancel
    is taken back at the block's end, so that a cancel from outside still goes its own way.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left = False
        self._cancelling = 0
        self._task: asyncio.Task[object] | None = None
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        self._cancelling = 0 if self._task is None else self._task.cancelling()
        self._watch = asyncio.ensure_future(self._watched())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watch is None or self._task is None:
            return
        self._watch.cancel()
        try:
            await asyncio.wait([self._watch])
        except asyncio.CancelledError:
            if not self._left:
                raise
            kind = kind or asyncio.CancelledError  # our own cancel, delivered only here
        if self._left and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise CallerLeftError from None

    async def _watched(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue
        self._left = True
        if self._task is not None:
            self._task.cancel()
