"""Walk a decision's order: lease, send, classify, and on to the next region until one serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from vetted_mw.proxy.attempt import Call
from vetted_mw.proxy.headers import outgoing_headers
from vetted_mw.proxy.outcome import AttemptFailedError, Fault, fails_over
from vetted_mw.routing.decision import AttemptOutcome, AttemptRecord

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Sequence

    from vetted_mw.chat.sse import Placement
    from vetted_mw.completion.asked import Asked
    from vetted_mw.core import Core
    from vetted_mw.fleet.fleet import Lease
    from vetted_mw.proxy.headers import Headers
    from vetted_mw.telemetry.spans import AttemptSpan, ChatSpan

__all__ = ["Attempts", "NoneServedError"]


_T = TypeVar("_T")

_MAY_HAVE_COMPUTED = frozenset(
    {
        AttemptOutcome.FIRST_BYTE_TIMEOUT,
        AttemptOutcome.ANSWER_TIMEOUT,
        AttemptOutcome.IDLE_TIMEOUT,
        AttemptOutcome.UPSTREAM_CUT,
        AttemptOutcome.INVALID_RESPONSE,
        AttemptOutcome.CLIENT_DISCONNECT,
        AttemptOutcome.SHUTTING_DOWN,
    }
)
_GONE: Headers = []
"""In place of headers that have left: a stream may be long."""
_SUCCESS = AttemptOutcome.SUCCESS  # a member of an enumeration is looked up by a call
_LIMITS_OF_OURS = frozenset({AttemptOutcome.FIRST_BYTE_TIMEOUT, AttemptOutcome.ANSWER_TIMEOUT})
"""They span the connect as well: only the transport knows whether anything was sent by then."""


class NoneServedError(Exception):
    """No attempt served.

    Attributes:
        fault: the one that ended the walk; None when nothing could be tried.
        retry_after: seconds until the soonest of the regions that asked for time may serve; None when none asked.
    """

    def __init__(self, fault: Fault | None, *, retry_after: float | None) -> None:
        super().__init__("no attempt served")
        self.fault = fault
        self.retry_after = retry_after


class _Running(Call, kw_only=True, eq=False):
    """The attempt under way.

    Attributes:
        attempts: those of the request, this one among them.
        core: the gateway's rooms.
        region: where it is made.
        lease: the right to it.
        span: its own; None where nobody knows of it.
        delivers: whether what it brought is the answer.
    """

    attempts: Attempts
    core: Core
    region: str
    lease: Lease
    span: AttemptSpan | None
    delivers: bool = False

    def on_leaving(self) -> None:
        attempts = self.attempts
        attempts.last_sent = self.core.monotonic()
        attempts.waited = attempts.lost

    def on_connected(self, seconds: float) -> None:
        self.core.fleet.connected(self.region, seconds)

    def on_usage_refused(self) -> None:
        self.core.fleet.usage_option_refused(self.region)


class Attempts(msgspec.Struct, eq=False):
    """The attempts of one request, each recorded in order; the serving one is recorded when it ends.

    Attributes:
        core: the gateway's rooms.
        asked: what the caller asked.
        span: the completion's.
        placement: where a stream carries the members.
        loop: the running event loop.
        deadline: event-loop time at which the whole request must be over.
        nonce: what the digest of a stream's content is keyed with; None: none is made.
        records: every attempt that has ended.
        serving: the region whose answer is being delivered, or was.
        given_up_as: what an attempt is called that is cut off from here: the caller left, unless told otherwise.
        lost: seconds spent in attempts that have failed.
        waited: the same, as it was when the latest request left.
        last_sent: monotonic instant at which the latest request left; None before the first.
        spent: region and outcome of each attempt that was given up and may have computed something.
        has_failed_over: whether another region was tried after one that did not serve, or did not admit it.
    """

    core: Core
    asked: Asked
    span: ChatSpan
    placement: Placement
    loop: asyncio.AbstractEventLoop
    deadline: float
    nonce: bytes | None = None
    records: Sequence[AttemptRecord] = ()
    serving: str | None = None
    given_up_as: AttemptOutcome = AttemptOutcome.CLIENT_DISCONNECT
    lost: float = 0.0
    waited: float = 0.0
    last_sent: float | None = None
    spent: Sequence[tuple[str, AttemptOutcome]] = ()
    has_failed_over: bool = False
    _sent: int = 0
    _running: _Running | None = None

    @property
    def sent(self) -> int:
        """Requests that left for an upstream, the one under way included."""
        return self._sent + (self._running is not None and self._running.is_sent)

    @property
    def is_under_way(self) -> bool:
        """Whether one of them has begun and not ended."""
        return self._running is not None

    async def first_success(self, order: tuple[str, ...], run: Callable[[Call], Awaitable[_T]]) -> _T:
        """Try the regions of `order` one after the other and return the first success.

        Raises:
            NoneServedError: none served. The caller's own fault and the end of the time budget stop the walk.
        """
        budget = self.core.configuration.limits.attempts
        fault: Fault | None = None
        waits: list[float] = []
        for region in order:
            if budget == 0 or self.loop.time() >= self.deadline:
                break
            running = self._admitted(region)
            if running is None:
                continue
            if self.records:
                self.has_failed_over = True
                self.core.meters.failed_over(self.records[-1], region, self.span.context)
            budget -= 1
            self._running = running
            try:
                running.headers = outgoing_headers(
                    self.asked.inbound,
                    upstream=running.upstream,
                    forward=self.core.forward_headers,
                    trace=() if running.span is None else running.span.headers,
                )
                result = await (run(running) if running.span is None else _within(running.span, run, running))
            except AttemptFailedError as failed:
                fault = self._failed(running, failed.fault, waits)
                if self.serving is not None or not fails_over(fault.outcome):
                    break
            except BaseException:
                self.ended(Fault(outcome=self.given_up_as, status=running.status, sent=running.is_sent))
                raise
            else:
                self.serving = region
                running.is_sent = running.delivers = True
                if self.asked.request.stream:
                    running.headers = _GONE
                    running.lease.proved()  # it is held for long; what a whole answer proves, its release tells
                return result
        raise NoneServedError(fault, retry_after=min(waits, default=None))

    def commit(self) -> bool:
        """Begin the answer with the attempt in flight: no other region is tried after it. False when there is none."""
        if self._running is None:
            return False
        self.serving = self._running.region
        return True

    def ended(self, fault: Fault | None) -> None:
        """Record how the attempt under way ended: well (None), or by `fault`. Without one this does nothing."""
        running = self._running
        if running is None:
            return
        self._running = None
        outcome, status, sent, energy = _SUCCESS, running.status, True, None
        if fault is None:
            running.lease.release(outcome)
        else:
            outcome, status, sent = fault.outcome, fault.status, fault.sent
            running.lease.release(outcome, retry_after=fault.retry_after)
            # What a delivered answer used is the receipt's; a redirect has computed nothing.
            is_abandoned = not running.delivers and not _is_redirect(status)
            if is_abandoned and sent and outcome in _MAY_HAVE_COMPUTED:
                asked = self.asked
                energy = self.core.abandoned_energy_wh(asked.request, running.region, asked.options.boundary)
                self.spent = [*self.spent, (running.region, outcome)]
        record = AttemptRecord(
            region=running.region,
            outcome=outcome,
            status=status,
            duration_ms=running.lease.seconds * 1000,
            sent=sent,
            estimated_energy_wh=energy,
        )
        if running.span is not None:
            running.span.end(record)
        self._note(record)

    def _admitted(self, region: str) -> _Running | None:
        core, stream = self.core, self.asked.request.stream
        lease = core.fleet.lease(region)
        if lease is None:
            self._note(AttemptRecord(region=region, outcome=AttemptOutcome.NOT_ADMITTED, sent=False))
            return None
        upstream = core.configuration.upstreams[region]
        return _Running(
            upstream=upstream,
            transport=core.transports[region],
            request=self.asked.request,
            deadline=self.deadline,
            loop=self.loop,
            now=core.now,
            ask_usage=stream and core.fleet.takes_usage_option(region),
            placement=self.placement,
            nonce=self.nonce,
            attempts=self,
            core=core,
            region=region,
            lease=lease,
            span=self.span.attempt(upstream, core.configuration.regions[region]) if self.span.is_known else None,
        )

    def _failed(self, running: _Running, fault: Fault, waits: list[float]) -> Fault:
        """Record an attempt that did not serve; returns its fault, which a limit of ours cannot tell in full.

        Args:
            running: the attempt.
            fault: as it was raised.
            waits: gets the seconds that the region asked for.
        """
        if fault.retry_after is not None:
            waits.append(fault.retry_after)
        if fault.outcome in _LIMITS_OF_OURS and fault.status is None:
            fault = msgspec.structs.replace(fault, sent=running.is_sent)
        self.ended(fault)
        self.lost += running.lease.seconds
        return fault

    def _note(self, record: AttemptRecord) -> None:
        self.records = [*self.records, record]
        self._sent += record.sent
        meters = self.core.meters
        if not meters.are_asleep:
            meters.attempted(record, self.span.context)


async def _within(span: AttemptSpan, run: Callable[[Call], Awaitable[_T]], call: Call) -> _T:
    """Run an attempt with its span current."""
    with span:
        return await run(call)


def _is_redirect(status: int | None) -> bool:
    return status is not None and 300 <= status < 400  # noqa: PLR2004
