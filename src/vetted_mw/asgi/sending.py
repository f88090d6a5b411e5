"""Send answers as ASGI messages; a caller that is gone shows as `CallerLeftError`."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING

from vetted_mw.asgi.intake import CallerLeftError
from vetted_mw.chat.response import error_envelope, retry_headers
from vetted_mw.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import Send

    from vetted_mw.asgi.intake import Inflow
    from vetted_mw.errors import AnswerError
    from vetted_mw.proxy.headers import Headers

__all__ = ["JSON", "Sender", "own_fault"]

_LOG = logging.getLogger("vetted_mw")

JSON = (b"content-type", b"application/json")


class Sender:
    """Wraps the server's `send`.

    Attributes:
        started: whether the response has begun; after that no error answer can be sent.
        status: HTTP status it has begun with; None before.
    """

    __slots__ = ("_send", "started", "status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False
        self.status: int | None = None

    async def start(self, status: int, headers: Headers) -> None:
        """Send status and headers.

        Raises:
            CallerLeftError: an ASGI 2.4 server says the caller is gone; so does every other way to send.
        """
        self.status = status
        self.started = True
        try:
            await self._send({"type": "http.response.start", "status": status, "headers": headers})
        except OSError:
            raise CallerLeftError from None

    async def body(self, data: bytes, *, more: bool) -> None:
        """Send a part of the body."""
        try:
            await self._send({"type": "http.response.body", "body": data, "more_body": more})
        except OSError:
            raise CallerLeftError from None

    def part(self, data: bytes) -> Awaitable[None]:
        """Send a part of a body that goes on: what nearly every part of a stream passes, so a call and no more.

        A caller that is gone may show as `OSError` here.
        """
        return self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer; its length is set here."""
        self.status = status
        self.started = True
        headers = [*headers, (b"content-length", b"%d" % len(body))]
        try:
            await self._send({"type": "http.response.start", "status": status, "headers": headers})
            await self._send({"type": "http.response.body", "body": body, "more_body": False})
        except OSError:
            raise CallerLeftError from None

    async def error(self, error: AnswerError, *, headers: Headers, trace: bytes | None, inflow: Inflow) -> None:
        """Send an error in OpenAI's envelope, the trace beside it when a decision was made.

        A connection on which the rest of a body is still to come is closed after a while: reading stops.
        """
        told = [JSON, *retry_headers(error), *headers]
        body = error_envelope(error, trace=trace)
        if inflow.ended:
            await self.whole(error.status, told, body)
            return
        told += [(b"connection", b"close"), (b"content-length", b"%d" % len(body))]
        await self.start(error.status, told)
        await self.body(body, more=True)
        await inflow.discard()
        await self.body(b"", more=False)


def own_fault(error: Exception) -> InternalError:
    """Log where an unexpected exception came from, without a word of what, and return what the caller is told.

    A host's handler would log the exception's text, which may be the caller's.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown"
    _LOG.error("a request failed inside the gateway", extra={"error": type(error).__name__, "place": place})
    return InternalError("The gateway failed to answer. Its log says where.")
