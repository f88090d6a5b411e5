"""One connection to an upstream: what is written to it, and the parser behind what comes."""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, cast

import httptools

from vetted_mw.proxy.own.answer import Answer
from vetted_mw.proxy.own.endings import is_all_unread, is_true_end
from vetted_mw.proxy.own.framing import (
    FRAMING,
    MAX_BARREN_BYTES,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    RefusedError,
    ends_with_connection,
    head_end,
)

if TYPE_CHECKING:
    from vetted_mw.proxy.headers import Headers
    from vetted_mw.proxy.own.transport import OwnTransport

__all__ = ["Wire"]

_AT_ONCE_BYTES = 65_536  # a body up to this goes out in one write with its head
_STEP_BYTES = 262_144  # a larger one in such steps, each only once the last has mostly left
_UNREAD_BYTES = 65_536  # of a body nobody reads; the kernel is asked for no more until they were read
_SWITCHING = 101
_ANY_EVENT = select.POLLIN | getattr(select, "POLLRDHUP", 0) if hasattr(select, "poll") else 0


class Wire(asyncio.Protocol):
    """A connection that carries one exchange at a time.

    Args:
        loop: in which it lives.
        pool: who is told when it is free again.

    Attributes:
        idle_since: when its last answer ended, by the monotonic clock.
        is_lost: it is gone.
        is_open: it can serve; not: it is closed, or about to be.
        loop: in which it lives.
    """

    __slots__ = (
        "_answer",
        "_barren",
        "_body_bytes",
        "_drained",
        "_framing",
        "_head_start",
        "_headers",
        "_is_clean",
        "_is_interim",
        "_is_reading",
        "_is_writable",
        "_lasts",
        "_loss",
        "_parser",
        "_poll",
        "_pool",
        "_seen",
        "_skips_body",
        "_transport",
        "_until_end",
        "_written",
        "idle_since",
        "is_lost",
        "is_open",
        "loop",
    )

    _transport: asyncio.Transport
    _parser: httptools.HttpResponseParser

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: OwnTransport) -> None:
        self.loop = loop
        self.idle_since = 0.0
        self.is_lost = False
        self.is_open = False
        self._pool = pool
        self._answer = Answer.over(self)  # there is always one: outside of an exchange it is the last one
        self._headers: Headers = []
        self._framing: Headers = []
        self._barren = 0
        self._body_bytes = 0
        self._head_start = 0
        self._seen: list[bytes] = []
        self._drained: asyncio.Future[None] | None = None
        self._is_clean = True
        self._is_interim = False
        self._is_reading = True
        self._is_writable = True
        self._lasts = False
        self._loss: asyncio.Future[None] | None = None
        self._skips_body = False
        self._until_end = False
        self._written = 0
        self._poll: select.poll | None = None

    # ---- what the pool does

    def is_fit(self) -> bool:
        """Whether it can take the next request: still open, and nothing has come over it that the loop has yet to see.

        The loop may be busy for longer than an upstream keeps an idle connection, so the kernel is asked.
        """
        return self.is_open and (self._poll is None or not self._poll.poll(0))

    async def exchange(
        self, head: bytes, body: bytes, *, skips_body: bool = False, upload_seconds: float | None = None
    ) -> Answer:
        """Send a request; returns its answer once the head of that, or the connection's end, has come.

        Args:
            head: with the empty line that ends it.
            body: as long as the head says.
            skips_body: the answer has none, whatever its headers say, as one to HEAD.
            upload_seconds: limit on writing a large body.

        Raises:
            TimeoutError: the body was not taken in time.
        """
        answer = self._answer = Answer(self)
        self._is_interim = False
        self._barren = self._head_start = 0
        self._seen.clear()
        self._skips_body = skips_body
        self._written = len(head) + len(body)
        if len(body) <= _AT_ONCE_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            async with asyncio.timeout(upload_seconds):
                await self._upload(memoryview(body), answer)
        while not answer.has_come:
            await answer.arrival()
        return answer

    def abort(self) -> None:
        """Close it now, whatever state it is in. May be called twice."""
        if self.is_open:
            self.is_open = False
            self._transport.abort()

    def loss(self) -> asyncio.Future[None]:
        """Return what is done when the connection is gone, socket and all."""
        if self._loss is None:
            self._loss = self.loop.create_future()
        return self._loss

    # ---- what the answer's reader does

    def let_read(self) -> None:
        """Go on reading: what had come was taken."""
        if not self._is_reading:
            self._is_reading = True
            self._transport.resume_reading()

    def release(self, answer: Answer) -> None:
        """End the exchange: the connection serves again where both sides have said all, else it is closed."""
        if self.is_open:
            if self._lasts and self._is_clean and answer.is_whole and not self._transport.get_write_buffer_size():
                self.let_read()
            else:
                self.abort()
        self._pool.freed(self)

    # ---- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(lenient_headers=True)  # `head_end` looks at what that lets pass
        self.is_open = True
        if _ANY_EVENT:
            self._poll = select.poll()
            self._poll.register(transport.get_extra_info("socket").fileno(), _ANY_EVENT)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        answer = self._answer
        if answer.is_over:
            self.abort()  # bytes nobody asked for: the next request would take them for its answer
            return
        self._body_bytes = 0
        if not answer.status:
            self._seen.append(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._is_clean = False
            self._give_up(answer)
            return
        if self._body_bytes:
            self._barren = 0
            if answer.unread > _UNREAD_BYTES and self._is_reading:
                self._is_reading = False
                self._transport.pause_reading()
        elif not answer.is_whole:
            self._barren += len(data)
            if self._barren > MAX_BARREN_BYTES:
                self._give_up(answer)

    def eof_received(self) -> None:
        """End the body that ends like this; anything else is cut."""
        answer = self._answer
        if not answer.is_over:
            if answer.status and self._until_end and is_true_end(self._transport):
                answer.end()
            else:
                answer.fail(is_unread=self._is_all_unread(answer))
        self.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Tell everyone who waits for it."""
        self.is_open = False
        self.is_lost = self._is_reading = True
        self._poll = None
        self._answer.fail()
        self.resume_writing()
        del self._answer, self._parser  # they and we hold each other
        if self._loss is not None:
            self._loss.set_result(None)

    def pause_writing(self) -> None:
        """Write no more for now."""
        self._is_writable = False

    def resume_writing(self) -> None:
        """Go on writing."""
        self._is_writable = True
        self._wake_writer()

    # ---- what the parser calls

    def on_message_begin(self) -> None:
        """Begin a head; one behind a whole answer belongs to nobody."""
        if self._answer.is_over:
            self._is_clean = False
            raise RefusedError
        self._headers = []
        self._framing.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header. Those of a trailer are dropped."""
        if self._answer.status:
            return
        name, value = name.lower(), value.rstrip(b" \t")
        headers = self._headers
        headers.append((name, value))
        if name in FRAMING:
            self._framing.append((name, value))
        if len(headers) > MAX_HEADERS:
            raise RefusedError

    def on_headers_complete(self) -> None:
        """Hand the head over, unless it is an interim one."""
        answer = self._answer
        parser = self._parser
        status = parser.get_status_code()
        self._look_at_head()
        if 100 <= status < 200:  # noqa: PLR2004
            if status == _SWITCHING:
                raise RefusedError  # nobody asked for another protocol
            self._is_interim = True
            return
        self._seen.clear()
        self._until_end = ends_with_connection(status, parser.get_http_version(), self._framing)
        self._lasts = not self._until_end and not self._skips_body and parser.should_keep_alive()
        answer.begin(status, self._headers)
        self._wake_writer()
        if self._skips_body:
            answer.end()
            raise RefusedError  # the parser would take for a body what is none

    def on_body(self, part: bytes) -> None:
        """Hand a part of the body over."""
        self._body_bytes += len(part)
        self._answer.feed(part)

    def on_message_complete(self) -> None:
        """End the answer, unless it was an interim one."""
        if self._is_interim:
            self._is_interim = False
        else:
            self._answer.end()

    # ---- within

    async def _upload(self, body: memoryview, answer: Answer) -> None:
        """Write a large body as fast as it is taken, and no more of it once its answer has begun."""
        for start in range(0, len(body), _STEP_BYTES):
            self._transport.write(body[start : start + _STEP_BYTES])
            while not self._is_writable and not answer.has_come:
                self._drained = self.loop.create_future()
                await self._drained
            if answer.has_come:
                self._is_clean = False  # the upstream may take the rest of the body for a request
                return

    def _look_at_head(self) -> None:
        """Refuse a head that the parser, lenient with the values of headers, has let pass."""
        seen = self._seen
        if len(seen) > 1:
            seen[:] = [b"".join(seen)]
        start = self._head_start
        self._head_start = head_end(seen[0], start)
        if self._head_start - start > MAX_HEAD_BYTES:
            raise RefusedError

    def _wake_writer(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def _give_up(self, answer: Answer) -> None:
        if not answer.is_over:
            answer.fail()
            self.abort()

    def _is_all_unread(self, answer: Answer) -> bool:
        if answer.status or self._barren:
            return False
        return is_all_unread(self._transport, self._written)
