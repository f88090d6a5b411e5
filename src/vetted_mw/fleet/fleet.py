"""The live state of every upstream, with one owner: what may be leased, what is saturated, what answers."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from vetted_mw.fleet.breaker import Breaker, BreakerState
from vetted_mw.routing.decision import AttemptOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from vetted_mw.configuration import Upstream

__all__ = ["Fleet", "Health", "Lease", "RegionState"]

_LOG = logging.getLogger("vetted_mw")
_FAULTS = frozenset(
    {
        AttemptOutcome.UPSTREAM_ERROR,
        AttemptOutcome.CONNECT_ERROR,
        AttemptOutcome.TLS_ERROR,
        AttemptOutcome.CONNECT_TIMEOUT,
        AttemptOutcome.FIRST_BYTE_TIMEOUT,
        AttemptOutcome.IDLE_TIMEOUT,
        AttemptOutcome.ANSWER_TIMEOUT,
        AttemptOutcome.UPSTREAM_CUT,
        AttemptOutcome.INVALID_RESPONSE,
    }
)
_DEFAULT_WINDOW_SECONDS = 1.0
_PROBE_FAILURES = 2


class Health(StrEnum):
    """What the last probes said of a region."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    FAILING = "failing"
    DRAINED = "drained"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionState:
    """One region at one instant, frozen.

    Attributes:
        models: names it serves; None when any, or not fetched yet.
        degraded: breaker not closed for business, probe failing, or drained.
        saturated: in-flight cap reached or inside a `Retry-After` window.
        retry_after: seconds until that window or the breaker's ends; None when unknown.
        health: what probes say.
        breaker: where the breaker stands.
        in_flight: leases held.
        probe_status: HTTP status of the last probe; None when there was no answer, or no probe yet.
    """

    models: frozenset[str] | None
    degraded: bool
    saturated: bool
    retry_after: float | None
    health: Health
    breaker: BreakerState
    in_flight: int
    probe_status: int | None = None


class Lease:
    """The right to one attempt at one region; released on every way out, once."""

    __slots__ = ("_member", "_probe", "_released")

    def __init__(self, member: _Member, *, probe: bool) -> None:
        self._member = member
        self._probe = probe
        self._released = False

    def release(self, outcome: AttemptOutcome, *, retry_after: float | None = None) -> None:
        """Give it back and tell how the attempt ended. Further calls do nothing."""
        if self._released:
            return
        self._released = True
        self._member.ended(outcome, probe=self._probe, retry_after=retry_after)


class Fleet:
    """Owns what is known of each upstream. Called from the event loop only; nothing here waits.

    Args:
        upstreams: code -> upstream.
        monotonic: seconds that never go back.
        jitter: a number in [0, 1) that spreads the ends of saturation windows.
    """

    def __init__(
        self, upstreams: Mapping[str, Upstream], *, monotonic: Callable[[], float], jitter: Callable[[], float]
    ) -> None:
        self._members = {code: _Member(upstream, monotonic, jitter) for code, upstream in upstreams.items()}

    def state(self, region: str) -> RegionState | None:
        """Freeze what is known of `region` now; None when it has no upstream."""
        member = self._members.get(region)
        return None if member is None else member.state()

    def lease(self, region: str) -> Lease | None:
        """Take the right to one attempt at `region`, or None when it admits none now."""
        return self._members[region].lease()

    def takes_usage_option(self, region: str) -> bool:
        """Whether `stream_options.include_usage` may be added for `region`."""
        return self._members[region].takes_usage

    def usage_option_refused(self, region: str) -> None:
        """Remember that `region` answered well only without the option."""
        self._members[region].takes_usage = False

    def probed(self, region: str, *, alive: bool, status: int | None = None) -> None:
        """Note what a health probe of `region` found; `status` is what it answered, None when it did not."""
        self._members[region].probed(alive=alive, status=status)

    def models_fetched(self, region: str, models: Iterable[str]) -> None:
        """Note the list `region` gave of itself, with the requested names of those it knows by names of its own.

        An older list stays until then.
        """
        member = self._members[region]
        own = frozenset(models)
        member.models = own | {asked for asked, name in member.upstream.upstream_names.items() if name in own}

    @property
    def in_flight(self) -> int:
        """Leases held in all regions."""
        return sum(member.in_flight for member in self._members.values())


class _Member:
    def __init__(self, upstream: Upstream, monotonic: Callable[[], float], jitter: Callable[[], float]) -> None:
        self.upstream = upstream
        self.models = upstream.models
        self.in_flight = 0
        self.takes_usage = upstream.stream_usage != "rejected"
        self._monotonic = monotonic
        self._jitter = jitter
        self._breaker = Breaker(jitter=jitter)
        self._saturated_until = 0.0
        self._probe_failures = 0
        self._probed = False
        self._probe_status: int | None = None
        self._is_down = False
        self._told: AttemptOutcome | None = None

    def state(self) -> RegionState:
        now = self._monotonic()
        breaker = self._breaker.state(now)
        health = self._health()
        waits = [seconds for seconds in (self._saturated_until - now, self._breaker.seconds_left(now)) if seconds > 0]
        return RegionState(
            models=self.models,
            degraded=health in {Health.DRAINED, Health.FAILING} or not self._breaker.admits(now),
            saturated=self.in_flight >= self.upstream.limits.max_in_flight or now < self._saturated_until,
            retry_after=max(waits, default=None),
            health=health,
            breaker=breaker,
            in_flight=self.in_flight,
            probe_status=self._probe_status,
        )

    def lease(self) -> Lease | None:
        now = self._monotonic()
        if self.in_flight >= self.upstream.limits.max_in_flight or not self._breaker.admits(now):
            return None
        self.in_flight += 1
        return Lease(self, probe=self._breaker.started(now))

    def ended(self, outcome: AttemptOutcome, *, probe: bool, retry_after: float | None) -> None:
        now = self._monotonic()
        self.in_flight -= 1
        if outcome is AttemptOutcome.SATURATED:
            seconds = (_DEFAULT_WINDOW_SECONDS if retry_after is None else retry_after) * (1 + 0.1 * self._jitter())
            self._saturated_until = max(self._saturated_until, now + seconds)
        self._breaker.ended(now, fault=_fault(outcome), probe=probe)
        if outcome is AttemptOutcome.SUCCESS:
            self._probe_failures = 0  # better evidence than a probe
        self._tell(outcome)

    def probed(self, *, alive: bool, status: int | None) -> None:
        self._probed = True
        self._probe_status = status
        self._probe_failures = 0 if alive else self._probe_failures + 1
        self._tell(None)

    def _tell(self, outcome: AttemptOutcome | None) -> None:
        """Log a fault that is the first of its kind since the last success, and when the region goes or comes back."""
        extra = {"region": self.upstream.region}
        if outcome in _FAULTS and outcome is not self._told:
            _LOG.warning("an attempt at a region failed", extra=extra | {"outcome": str(outcome)})
        if outcome is AttemptOutcome.SUCCESS or outcome in _FAULTS:
            self._told = None if outcome is AttemptOutcome.SUCCESS else outcome
        state = self.state()
        is_down = state.health is Health.FAILING or state.breaker is BreakerState.OPEN
        if is_down != self._is_down:
            self._is_down = is_down
            level, message = (
                (logging.WARNING, "a region is out of service") if is_down else (logging.INFO, "a region is back")
            )
            _LOG.log(level, message, extra=extra | {"probe": state.health.value, "breaker": state.breaker.value})

    def _health(self) -> Health:
        if self.upstream.drained:
            return Health.DRAINED
        if self._probe_failures >= _PROBE_FAILURES:
            return Health.FAILING
        return Health.HEALTHY if self._probed and self._probe_failures == 0 else Health.UNKNOWN


def _fault(outcome: AttemptOutcome) -> bool | None:
    if outcome is AttemptOutcome.SUCCESS:
        return False
    return True if outcome in _FAULTS else None
