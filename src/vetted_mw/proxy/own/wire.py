"""One connection to an upstream: what is written to it, and who is told of what comes."""

from __future__ import annotations

import asyncio
import math
import select
from typing import TYPE_CHECKING, cast

from vetted_mw.deadlines import Limit
from vetted_mw.proxy.outcome import AttemptFailedError, Fault
from vetted_mw.proxy.own.answer import Answer
from vetted_mw.proxy.own.endings import is_all_unread, is_true_end
from vetted_mw.proxy.own.reading import AnswerReader
from vetted_mw.routing.decision import AttemptOutcome

if TYPE_CHECKING:
    from vetted_mw.proxy.own.transport import OwnTransport

__all__ = ["Wire"]

_JOINED_BYTES = 16_384  # a body up to this is copied behind its head: one piece is written for less than two
_STEP_BYTES = 262_144  # one up to this goes out at once; a larger one in such steps, as fast as it is taken
_UNREAD_BYTES = 65_536  # of a body nobody reads; the kernel is asked for no more until they were read
_ANY_EVENT = select.POLLIN | getattr(select, "POLLRDHUP", 0) if hasattr(select, "poll") else 0


class Wire(asyncio.Protocol):
    """A connection that carries one exchange at a time.

    Args:
        loop: in which it lives.
        pool: who is told when it is free again.

    Attributes:
        idle_since: when its last answer ended, by the monotonic clock.
        is_idle: the pool has it among those that wait for a request.
        is_lost: it is gone.
        is_open: it can serve; not: it is closed, or about to be.
        loop: in which it lives.
    """

    __slots__ = (
        "_answer",
        "_is_all_written",
        "_is_reading",
        "_is_writable",
        "_loss",
        "_nothing",
        "_poll",
        "_pool",
        "_reader",
        "_transport",
        "_written",
        "idle_since",
        "is_idle",
        "is_lost",
        "is_open",
        "loop",
    )

    _transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: OwnTransport) -> None:
        self.loop = loop
        self.idle_since = 0.0
        self.is_idle = False
        self.is_lost = False
        self.is_open = False
        self._pool = pool
        self._answer = Answer.over(self)  # there is always one: outside of an exchange it is the last one
        self._reader = AnswerReader(self._answer)
        self._is_all_written = True
        self._is_reading = True
        self._is_writable = True
        self._loss: asyncio.Future[None] | None = None
        self._nothing: asyncio.Future[bytes] | None = None
        self._written = 0
        self._poll: select.poll | None = None

    # ---- what the pool does

    def is_fit(self) -> bool:
        """Whether it can take the next request: still open, and nothing has come over it that the loop has yet to see.

        The loop may be busy for longer than an upstream keeps an idle connection, so the kernel is asked.
        """
        if not self.is_open or self._transport.is_closing():
            return False
        if not _ANY_EVENT:
            return True
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self._transport.get_extra_info("socket").fileno(), _ANY_EVENT)
        return not self._poll.poll(0)

    async def exchange(
        self, head: bytes, body: bytes, *, skips_body: bool = False, upload_seconds: float = math.inf
    ) -> Answer:
        """Send a request; returns its answer once the head of that, or the connection's end, has come.

        Args:
            head: with the empty line that ends it.
            body: as long as the head says.
            skips_body: the answer has none, whatever its headers say, as one to HEAD.
            upload_seconds: limit on writing a large body.

        Raises:
            AttemptFailedError: the body was not taken in time. The connection is closed then, as it is after a cancel,
                and where it has ended without a head.
        """
        answer = self._answer = Answer(self)
        self._reader.begin(answer, skips_body=skips_body)
        size = len(body)
        self._written = len(head) + size
        try:
            if size <= _JOINED_BYTES:
                self._transport.write(head + body)
            elif size <= _STEP_BYTES:
                self._transport.writelines((head, body))
            else:
                await self._uploaded(head, body, answer, upload_seconds)
            while not answer.status and not answer.is_over:
                await answer.arrival()
        except BaseException:
            self._give_up()
            raise
        if not answer.status:
            self._give_up()
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

    def nothing(self) -> asyncio.Future[bytes]:
        """Return one with which every answer that is whole tells its end."""
        if self._nothing is None:
            self._nothing = self.loop.create_future()
            self._nothing.set_result(b"")
        return self._nothing

    def let_read(self) -> None:
        """Go on reading: what had come was taken."""
        if not self._is_reading and self.is_open:
            self._is_reading = True
            self._transport.resume_reading()

    def release(self, answer: Answer) -> None:
        """End the exchange: the connection serves again where both sides have said all, else it is closed."""
        if self.is_open:
            if self._serves_again(answer):
                self.let_read()
            else:
                self.abort()
        self._pool.freed(self)

    def _serves_again(self, answer: Answer) -> bool:
        reader = self._reader
        return (
            reader.lasts
            and reader.is_clean
            and answer.is_whole
            and self._is_all_written
            and not self._transport.get_write_buffer_size()
        )

    # ---- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        self._transport = cast("asyncio.Transport", transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        answer = self._answer
        if answer.is_over:
            self.abort()  # bytes nobody asked for: the next request would take them for its answer
            return
        if not self._reader.feed(data):
            if not answer.is_over:
                answer.fail()
                self.abort()
        elif answer.unread > _UNREAD_BYTES and self._is_reading:
            self._is_reading = False
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """End the body that ends like this; anything else is cut."""
        answer = self._answer
        if not answer.is_over:
            if answer.status and self._reader.until_end and is_true_end(self._transport):
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
        self._reader.end()
        del self._answer  # it and we hold each other
        if self.is_idle:
            self._pool.forget(self)
        if self._loss is not None:
            self._loss.set_result(None)

    def pause_writing(self) -> None:
        """Write no more for now."""
        self._is_writable = False

    def resume_writing(self) -> None:
        """Go on writing."""
        self._is_writable = True
        if not self.is_lost:
            self._answer.wake()

    # ---- within

    async def _uploaded(self, head: bytes, body: bytes, answer: Answer, seconds: float) -> None:
        """Write a large body, or as much of it as is wanted."""
        try:
            with Limit(self.loop.time() + seconds, self.loop):
                await self._upload(head, memoryview(body), answer)
        except TimeoutError:
            raise AttemptFailedError(Fault(outcome=AttemptOutcome.FIRST_BYTE_TIMEOUT)) from None

    async def _upload(self, head: bytes, body: memoryview, answer: Answer) -> None:
        """Write a large body as fast as it is taken, and no more of it once its answer has begun."""
        self._is_all_written = False
        self._transport.write(head)
        for start in range(0, len(body), _STEP_BYTES):
            if answer.has_come or self._transport.is_closing():
                return  # the upstream would take the rest of the body for a request: it gets none over this connection
            self._transport.write(body[start : start + _STEP_BYTES])
            while not self._is_writable and not answer.has_come:
                await answer.arrival()
        self._is_all_written = True

    def _give_up(self) -> None:
        """End an exchange of which no answer came: whoever asked has nothing to close."""
        self.abort()
        self._pool.freed(self)

    def _is_all_unread(self, answer: Answer) -> bool:
        if answer.status or self._reader.has_heard:
            return False
        return is_all_unread(self._transport, self._written)
