"""One server as one configuration names it, and the right to one attempt there."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.fleet.breaker import BreakerState
from vetted_mw.fleet.member import FAULTS
from vetted_mw.fleet.state import Health, QueueState, RegionState, ScrapeProblem, Standing
from vetted_mw.routing.values import AttemptOutcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from vetted_mw.configuration import Upstream
    from vetted_mw.fleet.breaker import Trial
    from vetted_mw.fleet.member import Member

__all__ = ["Lease", "RegionView"]

_LOG = logging.getLogger("vetted_mw")
_SUCCESS = AttemptOutcome.SUCCESS  # a member of an enumeration is looked up by a call
_OUT = frozenset({Health.DRAINED, Health.FAILING})
_MARGIN = 0.001
"""Seconds before the end of a window from which everything is looked at anew: no rounding can make it last longer."""


class Lease(msgspec.Struct, eq=False):
    """The right to one attempt at one region; released on every way out, once.

    Attributes:
        view: the region.
        trial: the attempt as the region's breaker sees it.
        taken_at: monotonic instant at which it was taken.
        is_released: whether it was given back.
        seconds: for how long it was held; 0 until it is given back.
    """

    view: RegionView
    trial: Trial
    taken_at: float
    is_released: bool = False
    seconds: float = 0.0

    def proved(self) -> None:
        """Tell that the attempt has begun to answer well: the first content of a stream came, or a whole JSON answer.

        It is held until its release all the same. Where the breaker was half open this is evidence, and another probe
        may start. Further calls do nothing, nor does one after the release.
        """
        if self.is_released:
            return
        view, member = self.view, self.view.member
        touched = member.touched
        member.proved(view.monotonic(), self.trial)
        if member.touched != touched:
            view.tell_service()

    def release(self, outcome: AttemptOutcome, *, retry_after: float | None = None) -> None:
        """Give it back and tell how the attempt ended. Further calls do nothing."""
        if self.is_released:
            return
        self.is_released = True
        view, member = self.view, self.view.member
        now = view.monotonic()
        self.seconds = now - self.taken_at
        touched = member.touched
        member.ended(now, self.trial, outcome, retry_after=retry_after)
        if outcome is _SUCCESS:
            member.told = None
        else:
            view.tell_fault(outcome)
        if member.touched != touched:  # else nothing happened by which a region goes or is back
            view.tell_service()


class RegionView:
    """One server as one configuration names it.

    Args:
        upstream: what the configuration says of it.
        member: what was learned of it, by whichever configuration.
        monotonic: seconds that never go back.

    Attributes:
        upstream: the same.
        member: the same.
        monotonic: the same.
        holds_until: the instant until which the last look at it holds if nothing happens there.
    """

    def __init__(self, upstream: Upstream, member: Member, monotonic: Callable[[], float]) -> None:
        self.upstream = upstream
        self.member = member
        self.holds_until = -math.inf
        self._cap = upstream.limits.max_in_flight
        self.monotonic = monotonic
        self._touched = -1
        self._listed: frozenset[str] | None = None
        self._models: frozenset[str] | None = None
        member.capped_at(self._cap)

    def state(self) -> RegionState:
        """Freeze what is known of it now."""
        now = self.monotonic()
        member = self.member
        quantiles = member.latency.quantiles(now)
        standing = self._standing(now)
        return RegionState(
            models=standing.models,
            degraded=standing.degraded,
            saturated=standing.saturated,
            retry_after=standing.retry_after(now),
            health=self._health(),
            breaker=member.breaker.state(now),
            in_flight=member.in_flight,
            probe_status=member.probe_status,
            network_p50_ms=None if quantiles is None else quantiles.p50_ms,
            network_p95_ms=standing.network_p95_ms,
            queue=self._queue(now),
        )

    def is_due(self, now: float) -> bool:
        """Whether it has to be looked at again: something happened there, or a window of time has ended."""
        return self._touched != self.member.touched or now >= self.holds_until

    def looked_at(self, now: float) -> Standing:
        """Look at it again; what is returned holds until `holds_until`, or until something happens there."""
        self._touched = self.member.touched
        standing = self._standing(now)
        self.holds_until = self._holds_until(now)
        return standing

    def _standing(self, now: float) -> Standing:
        member = self.member
        quantiles = member.latency.quantiles(now)
        free_at = max(member.saturated_until, member.breaker.open_until)
        return Standing(
            models=self._served(),
            degraded=self._health() in _OUT or not member.breaker.admits(now),
            saturated=self._is_full or now < member.saturated_until or self._has_queue(self._queue(now)),
            free_at=free_at if now < free_at else None,
            network_p95_ms=None if quantiles is None else quantiles.p95_ms,
        )

    def _holds_until(self, now: float) -> float:
        """Return the instant until which what was seen at `now` holds by itself; too early does no harm."""
        member = self.member
        ends = (member.saturated_until, member.breaker.open_until, member.queue_counts_until())
        return min((end for end in (*ends, member.latency.holds_until()) if end >= now), default=math.inf) - _MARGIN

    def glance(self) -> tuple[bool, int]:
        """Say whether it could be sent a request, and how many attempts are under way there; from any thread."""
        is_out = self._health() in _OUT or not self.member.breaker.admits(self.monotonic())
        return not is_out, self.member.in_flight

    def lease(self) -> Lease | None:
        """Take the right to one attempt, or None when it admits none now."""
        now, member = self.monotonic(), self.member
        if member.in_flight >= self._cap or not (member.breaker.is_closed or member.breaker.admits(now)):
            return None
        return Lease(self, member.started(now), now)

    def tell_fault(self, outcome: AttemptOutcome) -> None:
        """Log a fault that is the first of its kind since the last success."""
        member = self.member
        if outcome in FAULTS:
            if outcome is not member.told:
                extra = {"region": self.upstream.region, "outcome": str(outcome)}
                _LOG.warning("an attempt at a region failed", extra=extra)
            member.told = outcome

    def tell_service(self) -> None:
        """Log when the region goes and when it is back; a drained one is out by the operator's word."""
        health = self._health()
        breaker = self.member.breaker.state(self.monotonic())
        is_down = health is Health.FAILING or breaker is not BreakerState.CLOSED
        if is_down != self.member.is_told_down:
            self.member.is_told_down = is_down
            level, message = (
                (logging.WARNING, "a region is out of service") if is_down else (logging.INFO, "a region is back")
            )
            extra = {"region": self.upstream.region, "probe": health.value, "breaker": breaker.value}
            _LOG.log(level, message, extra=extra)

    def tell_scrape(self, problem: ScrapeProblem | None) -> None:
        """Log when the metrics cannot be used, and when they can again."""
        if problem is self.member.scrape_problem:
            return
        self.member.scrape_problem = problem
        extra = {"region": self.upstream.region}
        if problem is None:
            _LOG.info("the metrics of a region's engine are read again", extra=extra)
        elif problem is ScrapeProblem.UNKNOWN_ENGINE:
            _LOG.warning(
                "the metrics of a region tell of no queue that is known, so it is ignored: set metrics_path to the "
                "Prometheus page of vLLM, SGLang, llama.cpp or TGI, or remove it",
                extra=extra,
            )
        else:
            _LOG.warning(
                "the metrics of a region's engine cannot be read, so its queue is soon ignored: see that metrics_path "
                "is right and the engine's metrics are turned on",
                extra=extra,
            )

    @property
    def _is_full(self) -> bool:
        return self.member.in_flight >= self._cap

    def _queue(self, now: float) -> QueueState | None:
        return self.member.queue(now) if self.upstream.metrics_path else None

    def _has_queue(self, queue: QueueState | None) -> bool:
        most = self.upstream.max_queue
        return most > 0 and queue is not None and not queue.stale and queue.waiting >= most

    def _served(self) -> frozenset[str] | None:
        """Names it serves, with the requested names of those it knows by names of its own."""
        if not self.upstream.discover:
            return self.upstream.models
        listed = self.member.discovered
        if listed is not self._listed:
            names = self.upstream.upstream_names.items()
            self._models = None if listed is None else listed | {asked for asked, name in names if name in listed}
            self._listed = listed
        return self._models

    def _health(self) -> Health:
        if self.upstream.drained:
            return Health.DRAINED
        if not self.upstream.health_path:
            return Health.UNKNOWN  # a probe that was turned off has no say
        if self.member.is_failing:
            return Health.FAILING
        return Health.HEALTHY if self.member.is_healthy else Health.UNKNOWN
