"""The live state of every upstream, with one owner: what may be leased, what is saturated, what answers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vetted_mw.fleet.breaker import BreakerState
from vetted_mw.fleet.member import FAULTS, Member, is_same_server
from vetted_mw.fleet.state import Health, QueueState, RegionState, ScrapeProblem
from vetted_mw.routing.decision import AttemptOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from vetted_mw.configuration import Upstream
    from vetted_mw.fleet.breaker import Trial
    from vetted_mw.fleet.engines import EngineLoad

__all__ = ["Fleet", "Health", "Lease", "QueueState", "RegionState", "ScrapeProblem"]

_LOG = logging.getLogger("vetted_mw")


class Lease:
    """The right to one attempt at one region; released on every way out, once."""

    __slots__ = ("_is_released", "_region", "_trial")

    def __init__(self, region: _Region, trial: Trial) -> None:
        self._region = region
        self._trial = trial
        self._is_released = False

    def proved(self) -> None:
        """Tell that the attempt has begun to answer well: the first content of a stream came, or a whole JSON answer.

        It is held until its release all the same. Where the breaker was half open this is evidence, and another probe
        may start. Further calls do nothing, nor does one after the release.
        """
        if not self._is_released:
            self._region.proved(self._trial)

    def release(self, outcome: AttemptOutcome, *, retry_after: float | None = None) -> None:
        """Give it back and tell how the attempt ended. Further calls do nothing."""
        if self._is_released:
            return
        self._is_released = True
        self._region.ended(self._trial, outcome, retry_after=retry_after)


class Fleet:
    """What is known of each upstream of one configuration. Called from the event loop only; nothing here waits.

    It is a view: limits, lists and draining are this configuration's own, what was learned of a server belongs to the
    server. So a fleet over `previous` goes on with the breakers, leases, windows, latencies and lists of every server
    that both configurations name, while requests that began under the old one keep its caps; a lease of either counts
    in both.

    Args:
        upstreams: code -> upstream.
        monotonic: seconds that never go back.
        jitter: a number in [0, 1) that spreads the ends of saturation windows.
        previous: the fleet of the configuration before this one; None for a fresh start.
    """

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        *,
        monotonic: Callable[[], float],
        jitter: Callable[[], float],
        previous: Fleet | None = None,
    ) -> None:
        known: Mapping[str, _Region] = {} if previous is None else previous._regions  # noqa: SLF001 (its own kind)
        self._monotonic = monotonic
        self._regions: Mapping[str, _Region] = {
            code: _Region(upstream, _member(upstream, known.get(code), jitter), monotonic)
            for code, upstream in upstreams.items()
        }

    def state(self, region: str) -> RegionState | None:
        """Freeze what is known of `region` now; None when it has no upstream."""
        known = self._regions.get(region)
        return None if known is None else known.state()

    def lists(self, model: str) -> bool:
        """Whether the list of some upstream holds `model`."""
        return any(region.lists(model) for region in self._regions.values())

    def glance(self, region: str) -> tuple[bool, int]:
        """Say whether `region` could be sent a request, as far as is known, and how many attempts are under way there.

        For collectors of metrics: unlike everything else here it may be called from any thread, and changes nothing.
        """
        return self._regions[region].glance()

    def lease(self, region: str) -> Lease | None:
        """Take the right to one attempt at `region`, or None when it admits none now, or has no upstream."""
        known = self._regions.get(region)
        return None if known is None else known.lease()

    def takes_usage_option(self, region: str) -> bool:
        """Whether `stream_options.include_usage` may be added for `region`."""
        known = self._regions[region]
        return known.upstream.stream_usage != "rejected" and not known.member.refused_usage

    def usage_option_refused(self, region: str) -> None:
        """Remember that `region` answered well only without the option."""
        self._regions[region].member.refused_usage = True

    def connected(self, region: str, seconds: float) -> None:
        """Note the time of one connect to `region`, or of a probe's round trip; one that failed is not noted."""
        self._regions[region].member.latency.add(self._monotonic(), seconds)

    def asked(self, region: str, question: str) -> float:
        """Note that a probe asks `question` of `region` now, and return the instant."""
        now = self._monotonic()
        self._regions[region].member.asked[question] = now
        return now

    def seconds_since_asked(self, region: str, question: str) -> float | None:
        """Seconds since a probe of any configuration last asked `question` of `region`; None when none did."""
        at = self._regions[region].member.asked.get(question)
        return None if at is None else self._monotonic() - at

    def probed(self, region: str, *, alive: bool, status: int | None = None) -> None:
        """Note what a health probe of `region` found; `status` is what it answered, None when it did not."""
        known = self._regions[region]
        known.member.probed(alive=alive, status=status)
        known.tell_service()

    def models_fetched(self, region: str, models: Iterable[str]) -> None:
        """Note the list `region` gave of itself; it counts where the settings ask for it. Until then an older stays."""
        self._regions[region].member.discovered = frozenset(models)

    def load_read(self, region: str, load: EngineLoad, *, asked_at: float, good_seconds: float) -> None:
        """Note what the engine of `region` says of its load; it counts until the question is `good_seconds` old."""
        known = self._regions[region]
        known.member.load_read(load, asked_at=asked_at, good_seconds=good_seconds)
        known.tell_scrape(None)

    def load_unread(self, region: str, problem: ScrapeProblem) -> None:
        """Note that the metrics of `region` could not be used; what was read before stays until it is stale."""
        self._regions[region].tell_scrape(problem)

    @property
    def in_flight(self) -> int:
        """Leases held in all regions of this view, those taken under other configurations included."""
        return sum(region.member.in_flight for region in self._regions.values())


class _Region:
    """One server as one configuration names it."""

    def __init__(self, upstream: Upstream, member: Member, monotonic: Callable[[], float]) -> None:
        self.upstream = upstream
        self.member = member
        self._monotonic = monotonic
        self._listed: frozenset[str] | None = None
        self._models: frozenset[str] | None = None

    def state(self) -> RegionState:
        now = self._monotonic()
        member = self.member
        health = self._health()
        quantiles = member.latency.quantiles(now)
        queue = member.queue(now) if self.upstream.metrics_path else None
        waits = [seconds for seconds in (member.saturated_until - now, member.breaker.seconds_left(now)) if seconds > 0]
        return RegionState(
            models=self._served(),
            degraded=health in {Health.DRAINED, Health.FAILING} or not member.breaker.admits(now),
            saturated=self._is_full or now < member.saturated_until or self._has_queue(queue),
            retry_after=max(waits, default=None),
            health=health,
            breaker=member.breaker.state(now),
            in_flight=member.in_flight,
            probe_status=member.probe_status,
            network_p50_ms=None if quantiles is None else quantiles.p50_ms,
            network_p95_ms=None if quantiles is None else quantiles.p95_ms,
            queue=queue,
        )

    def lists(self, model: str) -> bool:
        served = self._served()
        return served is not None and model in served

    def glance(self) -> tuple[bool, int]:
        is_out = self._health() in {Health.DRAINED, Health.FAILING} or not self.member.breaker.admits(self._monotonic())
        return not is_out, self.member.in_flight

    def lease(self) -> Lease | None:
        now = self._monotonic()
        if self._is_full or not self.member.breaker.admits(now):
            return None
        self.member.in_flight += 1
        return Lease(self, self.member.breaker.started(now))

    def proved(self, trial: Trial) -> None:
        self.member.proved(self._monotonic(), trial)
        self.tell_service()

    def ended(self, trial: Trial, outcome: AttemptOutcome, *, retry_after: float | None) -> None:
        self.member.ended(self._monotonic(), trial, outcome, retry_after=retry_after)
        self._tell_fault(outcome)
        self.tell_service()

    def _tell_fault(self, outcome: AttemptOutcome) -> None:
        """Log a fault that is the first of its kind since the last success."""
        member = self.member
        if outcome in FAULTS:
            if outcome is not member.told:
                extra = {"region": self.upstream.region, "outcome": str(outcome)}
                _LOG.warning("an attempt at a region failed", extra=extra)
            member.told = outcome
        elif outcome is AttemptOutcome.SUCCESS:
            member.told = None

    def tell_service(self) -> None:
        """Log when the region goes and when it is back; a drained one is out by the operator's word."""
        health = self._health()
        breaker = self.member.breaker.state(self._monotonic())
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
        return self.member.in_flight >= self.upstream.limits.max_in_flight

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


def _member(upstream: Upstream, known: _Region | None, jitter: Callable[[], float]) -> Member:
    if known is not None and is_same_server(known.upstream, upstream):
        return known.member
    return Member(jitter)
