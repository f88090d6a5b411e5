"""The pool of our own connections to one upstream."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import httpx

from vetted_mw.proxy.connection import closed_surely, tls_for
from vetted_mw.proxy.outcome import AttemptFailedError, Fault
from vetted_mw.proxy.own.dialing import Origin, dialed
from vetted_mw.proxy.own.heads import Heads, UnsendableError
from vetted_mw.proxy.own.wire import Wire
from vetted_mw.routing.decision import AttemptOutcome

if TYPE_CHECKING:
    from vetted_mw.configuration import Upstream
    from vetted_mw.proxy.own.answer import Answer
    from vetted_mw.proxy.transport import UpstreamRequest

__all__ = ["OwnTransport"]

_PORTS = {"http": 80, "https": 443}
_SWEEP_SECONDS = 1.0  # least time between two looks for connections that have been idle for too long


class OwnTransport:
    """A `Transport` on connections of our own: one per request in flight, kept for the next one while it is idle.

    There is no queue: how many there are is bounded by who sends, the leases of the region, and a probe.

    Raises:
        ConfigurationError: `ca_file` cannot be read.
    """

    def __init__(self, upstream: Upstream) -> None:
        base = httpx.URL(upstream.base_url)
        limits = upstream.limits
        tls = tls_for(upstream) if base.scheme == "https" else None
        if tls is not None:
            tls.set_alpn_protocols(["http/1.1"])
        self._origin = Origin(
            host=base.raw_host.decode("ascii").strip("[]"),
            port=base.port or _PORTS[base.scheme],
            tls=tls,
            connect_seconds=limits.connect_seconds,
        )
        self._heads = Heads(base)
        self._idle_seconds = limits.idle_connection_seconds
        self._upload_seconds = limits.first_byte_seconds
        self._idle: deque[Wire] = deque()
        self._busy: set[Wire] = set()
        self._dialing: set[asyncio.Task[Wire]] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def send(self, request: UpstreamRequest) -> Answer:
        """Send and return once the head of the answer has arrived."""
        try:
            head = self._heads.head_of(request)
        except UnsendableError:
            raise AttemptFailedError(Fault(outcome=AttemptOutcome.CONNECT_ERROR, sent=False)) from None
        wire = self._idle_wire(request.loop or asyncio.get_running_loop())
        was_idle = wire is not None
        if wire is None:
            wire = await self._dialed(request)
        request.on_sent()
        body, skips_body, upload_seconds = request.body, request.method == "HEAD", self._upload_seconds
        answer = await wire.exchange(head, body, skips_body=skips_body, upload_seconds=upload_seconds)
        if answer.is_unread and was_idle:
            # The connection had been closed before the request came, and nobody has seen it: it is sent once more.
            wire = await self._dialed(request, has_left=True)
            answer = await wire.exchange(head, body, skips_body=skips_body, upload_seconds=upload_seconds)
        if not answer.status:
            raise AttemptFailedError(Fault(outcome=AttemptOutcome.UPSTREAM_CUT))
        return answer

    async def aclose(self) -> None:
        """Close every connection, those in use and those that are being made as well; nothing is sent after it."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for task in self._dialing:
            task.cancel()
        wires = [*self._idle, *self._busy]
        self._idle.clear()
        for wire in wires:
            wire.is_idle = False
            wire.abort()
        ending: list[asyncio.Future[Any]] = [*self._dialing, *(wire.loss() for wire in wires if not wire.is_lost)]
        if ending:
            await closed_surely(asyncio.wait(ending))

    def freed(self, wire: Wire) -> None:
        """Keep a connection whose exchange has ended for the next request, unless it, or the pool, was closed."""
        self._busy.discard(wire)
        if not wire.is_open:
            return
        wire.idle_since = time.monotonic()
        wire.is_idle = True
        self._idle.append(wire)
        if self._sweep is None:
            self._sweep_later()

    def forget(self, wire: Wire) -> None:
        """Forget an idle connection: it is gone."""
        wire.is_idle = False
        self._idle.remove(wire)

    def _idle_wire(self, loop: asyncio.AbstractEventLoop) -> Wire | None:
        """Return, as taken, the connection that has been idle for the shortest time, where it is fit."""
        idle = self._idle
        oldest = time.monotonic() - self._idle_seconds
        while idle:
            wire = idle.pop()
            wire.is_idle = False
            if wire.loop is not loop:  # which has ended without us, and cannot even close it any more
                self._sweep = None
                continue
            if wire.idle_since >= oldest and wire.is_fit():
                self._busy.add(wire)
                return wire
            wire.abort()
        return None

    async def _dialed(self, request: UpstreamRequest, *, has_left: bool = False) -> Wire:
        """Return, as taken, a new connection. It is made in a task of its own, in no request's context: it stays."""
        if self._is_closed:  # a connection made now would be nobody's to close
            raise AttemptFailedError(_unreached(has_left))
        loop = asyncio.get_running_loop()
        making = loop.create_task(
            dialed(self._origin, lambda: Wire(loop, self), request.on_connected), context=contextvars.Context()
        )
        self._dialing.add(making)
        try:
            await asyncio.wait({making})
        except asyncio.CancelledError:
            making.cancel()
            try:
                await closed_surely(asyncio.wait({making}))
            finally:
                _let_go(making)
            raise
        finally:
            self._dialing.discard(making)
        if making.cancelled() or self._is_closed:
            _let_go(making)
            raise AttemptFailedError(_unreached(has_left))
        error = making.exception()
        if isinstance(error, AttemptFailedError):
            raise AttemptFailedError(_unreached(has_left, error.fault.outcome))
        wire = making.result()
        if not wire.is_open:  # it was lost, or spoke first, before we came to write
            raise AttemptFailedError(_unreached(has_left))
        self._busy.add(wire)
        return wire

    def _sweep_later(self) -> None:
        """See to it that idle connections end even when nobody sends any more."""
        over = self._idle[0].idle_since + self._idle_seconds
        # A context of its own: it belongs to no request, not even to the one that ended now.
        self._sweep = asyncio.get_running_loop().call_later(
            max(_SWEEP_SECONDS, over - time.monotonic()), self._close_expired, context=contextvars.Context()
        )

    def _close_expired(self) -> None:
        """Close those that have been idle for too long, the oldest first."""
        self._sweep = None
        oldest = time.monotonic() - self._idle_seconds
        while self._idle and (self._idle[0].idle_since < oldest or not self._idle[0].is_open):
            wire = self._idle.popleft()
            wire.is_idle = False
            wire.abort()
        if self._idle:
            self._sweep_later()


def _let_go(making: asyncio.Task[Wire]) -> None:
    """Close what a task that nobody waits for any more may have made."""
    if not making.cancelled() and making.exception() is None:
        making.result().abort()


def _unreached(has_left: bool, outcome: AttemptOutcome = AttemptOutcome.CONNECT_ERROR) -> Fault:  # noqa: FBT001 (private)
    """Return how an attempt failed that could not connect, `has_left`: anew, after its request had left once."""
    return Fault(outcome=AttemptOutcome.UPSTREAM_CUT if has_left else outcome, sent=has_left)
