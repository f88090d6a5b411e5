"""Walk a decision's order: lease, send, classify, and on to the next region until one serves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from vetted_mw.proxy.attempt import Call
from vetted_mw.proxy.headers import outgoing_headers
from vetted_mw.proxy.outcome import AttemptFailedError, Fault, fails_over
from vetted_mw.routing.decision import AttemptOutcome, AttemptRecord
from vetted_mw.routing.options import Boundary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from vetted_mw.chat.request import ChatRequest
    from vetted_mw.chat.sse import Placement
    from vetted_mw.core import Core
    from vetted_mw.fleet.fleet import Lease
    from vetted_mw.proxy.headers import Headers
    from vetted_mw.telemetry.spans import AttemptSpan, ChatSpan

__all__ = ["Attempts", "NoneServedError"]


class _Answered(Protocol):
    """What an attempt that served hands back."""

    @property
    def status(self) -> int:
        """The upstream's status."""
        ...


_T = TypeVar("_T", bound=_Answered)

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


class _Running:
    """The attempt under way; hears how its call goes on."""

    __slots__ = ("_attempts", "_core", "delivers", "is_sent", "lease", "region", "span", "started", "status")

    def __init__(self, attempts: Attempts, core: Core, region: str, lease: Lease, span: AttemptSpan) -> None:
        self._attempts = attempts
        self._core = core
        self.region = region
        self.lease = lease
        self.span = span
        self.started = core.monotonic()
        self.status: int | None = None
        self.is_sent = False
        self.delivers = False

    def on_leaving(self) -> None:
        self._attempts.note_leaving()

    def on_sent(self) -> None:
        self.is_sent = True

    def on_head(self, status: int) -> None:
        self.status = status

    def on_connected(self, seconds: float) -> None:
        self._core.fleet.connected(self.region, seconds)

    def on_usage_refused(self) -> None:
        self._core.fleet.usage_option_refused(self.region)

    def now(self) -> datetime:
        return self._core.now()


class Attempts:
    """The attempts of one request, each recorded in order; the serving one is recorded when it ends.

    Attributes:
        records: every attempt that has ended.
        serving: the region whose answer is being delivered, or was.
        given_up_as: what an attempt is called that is cut off from here: the caller left, unless told otherwise.
        waited: seconds spent in attempts that had failed when the latest request left.
        deadline: event-loop time at which the whole request must be over.
        last_sent: monotonic instant at which the latest request left; None before the first.
        spent: region and outcome of each attempt that was given up and may have computed something.
        has_failed_over: whether another region was tried after one that did not serve, or did not admit it.
    """

    __slots__ = (
        "_boundary",
        "_core",
        "_inbound",
        "_lost",
        "_nonce",
        "_placement",
        "_request",
        "_running",
        "_sent",
        "_span",
        "deadline",
        "given_up_as",
        "has_failed_over",
        "last_sent",
        "records",
        "serving",
        "spent",
        "waited",
    )

    def __init__(
        self,
        core: Core,
        *,
        request: ChatRequest,
        inbound: Headers,
        span: ChatSpan,
        placement: Placement,
        deadline: float,
        boundary: Boundary = Boundary.COMPREHENSIVE,
        nonce: bytes | None = None,
    ) -> None:
        self.records: list[AttemptRecord] = []
        self.serving: str | None = None
        self.given_up_as = AttemptOutcome.CLIENT_DISCONNECT
        self.waited = 0.0
        self._lost = 0.0
        self._sent = 0
        self.last_sent: float | None = None
        self.spent: list[tuple[str, AttemptOutcome]] = []
        self.has_failed_over = False
        self._core = core
        self._request = request
        self._inbound = inbound
        self._span = span
        self._placement = placement
        self._boundary = boundary
        self._nonce = nonce
        self.deadline = deadline
        self._running: _Running | None = None

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
        budget = self._core.configuration.limits.attempts
        fault: Fault | None = None
        waits: list[float] = []
        clock = asyncio.get_running_loop().time
        for region in order:
            if budget == 0 or clock() >= self.deadline:
                break
            running = self._admitted(region)
            if running is None:
                continue
            if self.records:
                self.has_failed_over = True
                self._core.meters.failed_over(self.records[-1], region, self._span.context)
            budget -= 1
            self._running = running
            try:
                with running.span:
                    result = await run(self._call(running))
            except AttemptFailedError as failed:
                fault = self._failed(running, failed.fault, waits)
                if self.serving is not None or not fails_over(fault.outcome):
                    break
            except BaseException:
                self._running = None
                self._record(running, Fault(outcome=self.given_up_as, status=running.status, sent=running.is_sent))
                raise
            else:
                self.serving = region
                running.status = result.status
                running.is_sent = running.delivers = True
                if self._request.stream:
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
        """Note how the serving attempt ended: well (None), or by `fault`. Further calls do nothing."""
        running, self._running = self._running, None
        if running is not None:
            self._record(running, fault or Fault(outcome=AttemptOutcome.SUCCESS, status=running.status))

    def _admitted(self, region: str) -> _Running | None:
        lease = self._core.fleet.lease(region)
        if lease is None:
            self._note(AttemptRecord(region=region, outcome=AttemptOutcome.NOT_ADMITTED, sent=False))
            return None
        configuration = self._core.configuration
        span = self._span.attempt(configuration.upstreams[region], configuration.regions[region])
        return _Running(self, self._core, region, lease, span)

    def _failed(self, running: _Running, fault: Fault, waits: list[float]) -> Fault:
        """Record an attempt that did not serve; returns its fault, which a limit of ours cannot tell in full.

        Args:
            running: the attempt.
            fault: as it was raised.
            waits: gets the seconds that the region asked for.
        """
        self._running = None
        if fault.retry_after is not None:
            waits.append(fault.retry_after)
        if fault.outcome in _LIMITS_OF_OURS and fault.status is None:
            fault = msgspec.structs.replace(fault, sent=running.is_sent)
        self._record(running, fault)
        self._lost += self._core.monotonic() - running.started
        return fault

    def _call(self, running: _Running) -> Call:
        core = self._core
        region = running.region
        upstream = core.configuration.upstreams[region]
        return Call(
            upstream=upstream,
            transport=core.transports[region],
            request=self._request,
            headers=outgoing_headers(
                self._inbound,
                upstream=upstream,
                forward=core.forward_headers,
                trace=running.span.headers,
            ),
            deadline=self.deadline,
            ask_usage=self._request.stream and core.fleet.takes_usage_option(region),
            placement=self._placement,
            nonce=self._nonce,
            events=running,
        )

    def note_leaving(self) -> None:
        """Note that a request of the attempt under way goes to its transport now."""
        self.last_sent = self._core.monotonic()
        self.waited = self._lost

    def _record(self, running: _Running, fault: Fault) -> None:
        running.lease.release(fault.outcome, retry_after=fault.retry_after)
        energy = None
        # What a delivered answer used is the receipt's; a redirect has computed nothing.
        is_abandoned = not running.delivers and not _is_redirect(fault.status)
        if is_abandoned and fault.sent and fault.outcome in _MAY_HAVE_COMPUTED:
            energy = self._core.abandoned_energy_wh(self._request, running.region, self._boundary)
            self.spent.append((running.region, fault.outcome))
        record = AttemptRecord(
            region=running.region,
            outcome=fault.outcome,
            status=fault.status,
            duration_ms=(self._core.monotonic() - running.started) * 1000,
            sent=fault.sent,
            estimated_energy_wh=energy,
        )
        running.span.end(record)
        self._note(record)

    def _note(self, record: AttemptRecord) -> None:
        self.records.append(record)
        self._sent += record.sent
        if not self._core.meters.are_asleep:
            self._core.meters.attempted(record, self._span.context)


def _is_redirect(status: int | None) -> bool:
    return status is not None and 300 <= status < 400  # noqa: PLR2004
