"""An answer as it comes over a connection of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from vetted_mw.proxy.outcome import AttemptFailedError, Fault
from vetted_mw.routing.decision import AttemptOutcome

if TYPE_CHECKING:
    import asyncio

    from vetted_mw.proxy.headers import Headers
    from vetted_mw.proxy.own.wire import Wire

__all__ = ["Answer"]


class Answer:
    """An upstream's answer, as `transport.Response` promises it once its head has come.

    The connection writes it, from the event loop; whoever sent the request reads it. Neither waits for the other,
    except that a body nobody reads makes the connection stop reading.

    Attributes:
        status: 0 until the head has come.
        headers: names in lower case.
        unread: bytes of the body that have come and were not read.
        is_whole: its end has come.
        is_over: so has it, or it was cut.
        is_unread: it was cut before any of it came, and nothing of its request had reached the upstream.
    """

    __slots__ = (
        "_arrival",
        "_is_closed",
        "_parts",
        "_reading",
        "_wire",
        "headers",
        "is_over",
        "is_unread",
        "is_whole",
        "status",
        "unread",
    )

    def __init__(self, wire: Wire) -> None:
        self.status = 0
        self.headers: Headers = []
        self.unread = 0
        self.is_over = False
        self.is_unread = False
        self.is_whole = False
        self._is_closed = False
        self._wire = wire
        self._parts: list[bytes] = []
        self._arrival: asyncio.Future[None] | None = None
        self._reading: asyncio.Future[bytes] | None = None

    @classmethod
    def over(cls, wire: Wire) -> Self:
        """Return one that nobody waits for."""
        answer = cls(wire)
        answer.is_over = answer._is_closed = True
        return answer

    # ---- what its reader does

    @property
    def has_come(self) -> bool:
        """Whether its head has come, or never will."""
        return self.status != 0 or self.is_over

    def read(self) -> asyncio.Future[bytes]:
        """Return the body's next bytes as they arrive, `b""` at its end.

        What comes while somebody waits is handed over in the future itself: nearly every part of a stream is.
        """
        wire, parts = self._wire, self._parts
        if self.is_whole and not parts:
            return wire.nothing()
        reading = wire.loop.create_future()
        if parts:
            reading.set_result(parts[0] if len(parts) == 1 else b"".join(parts))
            parts.clear()
            self.unread = 0
            wire.let_read()
        elif self.is_over:
            self._tell_end(reading)
        else:
            self._reading = reading
        return reading

    def arrival(self) -> asyncio.Future[None]:
        """Return what is done when its head has come, or its end, or when more of its request may be written."""
        arrival = self._arrival = self._wire.loop.create_future()
        return arrival

    async def aclose(self) -> None:
        """Give the connection back, or close it. Nothing is waited for, so no cancel can come in between."""
        if not self._is_closed:
            self._is_closed = True
            self._wire.release(self)
            if self._parts:
                self._parts.clear()
                self.is_whole = False  # what is read from now on would lack them
            self.fail()

    # ---- what the connection does

    def begin(self, status: int, headers: Headers) -> None:
        """The head has come."""
        self.status = status
        self.headers = headers
        self.wake()

    def feed(self, parts: list[bytes]) -> None:
        """Some of the body has come, if any; the list is emptied."""
        reading = self._reading
        if reading is None or reading.done():
            self._parts += parts
            self.unread += len(parts[0]) if len(parts) == 1 else sum(map(len, parts))
        elif parts:
            reading.set_result(parts[0] if len(parts) == 1 else b"".join(parts))
        parts.clear()

    def end(self) -> None:
        """All of it has come."""
        if not self.is_over:
            self.is_over = self.is_whole = True
            self._ended()

    def fail(self, *, is_unread: bool = False) -> None:
        """It was cut, unless it was over."""
        if not self.is_over:
            self.is_over = True
            self.is_unread = is_unread
            self._ended()

    def wake(self) -> None:
        """Let whoever waits for it look again."""
        arrival, self._arrival = self._arrival, None
        if arrival is not None and not arrival.done():
            arrival.set_result(None)

    # ---- within

    def _ended(self) -> None:
        if self._arrival is not None:
            self.wake()
        # Kept, it would hold the last part as long as the connection is idle, and a cut the frame of its reader.
        reading, self._reading = self._reading, None
        if reading is not None and not reading.done():
            self._tell_end(reading)

    def _tell_end(self, reading: asyncio.Future[bytes]) -> None:
        if self.is_whole:
            reading.set_result(b"")
        else:
            cut = Fault(outcome=AttemptOutcome.UPSTREAM_CUT, status=self.status or None)
            reading.set_exception(AttemptFailedError(cut))
            reading.exception()  # seen: the event loop would log one that no reader waits for any more
