"""What is known of one server, whichever configurations name it: it outlives each of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.fleet.breaker import Breaker
from vetted_mw.fleet.latency import LatencyWindow
from vetted_mw.fleet.state import Changes, QueueState, ScrapeProblem
from vetted_mw.routing.decision import AttemptOutcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from vetted_mw.configuration import Upstream
    from vetted_mw.fleet.breaker import Trial
    from vetted_mw.fleet.engines import EngineLoad

__all__ = ["FAULTS", "Member", "is_same_server"]

FAULTS = frozenset(
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
"""The outcomes that speak against a server."""

_SUCCESS = AttemptOutcome.SUCCESS  # a member of an enumeration is looked up by a call
_DEFAULT_WINDOW_SECONDS = 1.0
_PROBE_FAILURES = 2


def is_same_server(one: Upstream, other: Upstream) -> bool:
    """Whether what was learned of `one` holds for `other`: the same address, reached the same way, by the same key."""
    return (one.base_url, one.proxy, one.ca_file, one.auth, one.api_key) == (
        other.base_url,
        other.proxy,
        other.ca_file,
        other.auth,
        other.api_key,
    )


class _Reading(msgspec.Struct, frozen=True, kw_only=True):
    load: EngineLoad
    asked_at: float
    good_seconds: float


class Member:
    """The live state of one server. Every method takes the monotonic instant in seconds.

    Attributes:
        breaker: its breaker.
        latency: its network round trips.
        in_flight: leases held, of all configurations.
        saturated_until: the instant its latest saturation window ends.
        discovered: names its own list holds; None when none was fetched.
        refused_usage: whether it answered well only without `stream_options.include_usage`.
        was_probed: whether a health probe has ended.
        probe_status: HTTP status of the last one; None when there was no answer.
        asked: what its probes asked -> when they last did.
        told: the fault the log told last; None since the last success.
        is_told_down: whether the log told that it is out of service.
        scrape_problem: what the log told of its metrics; None when they can be read.
        touched: how often something happened that could change a decision. Whatever does goes through a method here.
    """

    def __init__(self, jitter: Callable[[], float], changes: Changes | None = None) -> None:
        self.breaker = Breaker(jitter=jitter)
        self.latency = LatencyWindow()
        self.in_flight = 0
        self.saturated_until = 0.0
        self.discovered: frozenset[str] | None = None
        self.refused_usage = False
        self.was_probed = False
        self.probe_status: int | None = None
        self.asked: dict[str, float] = {}
        self.told: AttemptOutcome | None = None
        self.is_told_down = False
        self.scrape_problem: ScrapeProblem | None = None
        self.touched = 0
        self._changes = Changes() if changes is None else changes
        self._caps: frozenset[int] = frozenset()
        self._jitter = jitter
        self._probe_failures = 0
        self._reading: _Reading | None = None

    @property
    def is_failing(self) -> bool:
        """Whether its last probes found nobody."""
        return self._probe_failures >= _PROBE_FAILURES

    @property
    def is_healthy(self) -> bool:
        """Whether its last probe found it alive."""
        return self.was_probed and self._probe_failures == 0

    @property
    def is_calm(self) -> bool:
        """Whether its breaker is closed and no probe failed: one more good answer would change nothing."""
        return self.breaker.is_closed and not self._probe_failures

    def capped_at(self, most: int) -> None:
        """Note that a view of it admits `most` attempts at once: taking or giving back that one changes a decision."""
        self._caps |= {most}

    def started(self, now: float) -> Trial:
        """Note that an admitted attempt starts."""
        self.in_flight += 1
        breaker = self.breaker
        if not breaker.is_closed:
            self._touch()
            return breaker.started(now)
        if self.in_flight in self._caps:
            self._touch()
        return breaker.ordinary

    def proved(self, now: float, trial: Trial) -> None:
        """Note that an attempt has begun to answer well."""
        if not self.is_calm:
            self._touch()
        self.breaker.proved(now, trial)
        self._probe_failures = 0  # better evidence than a probe

    def ended(self, now: float, trial: Trial, outcome: AttemptOutcome, *, retry_after: float | None) -> None:
        """Note how an attempt ended; `retry_after` in seconds counts where the server is saturated."""
        is_full = self.in_flight in self._caps
        self.in_flight -= 1
        if outcome is _SUCCESS:
            was_calm = self.breaker.is_closed and not self._probe_failures
            self.breaker.ended(now, trial, fault=False)
            self._probe_failures = 0
            # A success may open a breaker too: it can be the outcome that makes enough of them.
            if is_full or not (was_calm and self.breaker.is_closed):
                self._touch()
            return
        if outcome is AttemptOutcome.SATURATED:
            seconds = (_DEFAULT_WINDOW_SECONDS if retry_after is None else retry_after) * (1 + 0.1 * self._jitter())
            self.saturated_until = max(self.saturated_until, now + seconds)
        self.breaker.ended(now, trial, fault=True if outcome in FAULTS else None)
        self._touch()

    def probed(self, *, alive: bool, status: int | None) -> None:
        """Note what a health probe found."""
        was_failing = self.is_failing
        self.was_probed = True
        self.probe_status = status
        self._probe_failures = 0 if alive else self._probe_failures + 1
        if self.is_failing != was_failing:
            self._touch()

    def connected(self, now: float, seconds: float) -> None:
        """Note the time of one network round trip."""
        self.latency.add(now, seconds)
        self._touch()

    def models_fetched(self, models: frozenset[str]) -> None:
        """Note the list it gave of itself."""
        self.discovered = models
        self._touch()

    def load_read(self, load: EngineLoad, *, asked_at: float, good_seconds: float) -> None:
        """Note what its engine says of its load. Leases taken and given back since do not change it."""
        self._reading = _Reading(load=load, asked_at=asked_at, good_seconds=good_seconds)
        self._touch()

    def queue_counts_until(self) -> float:
        """Return the monotonic instant after which its engine's last word is stale."""
        return -math.inf if self._reading is None else self._reading.asked_at + self._reading.good_seconds

    def queue(self, now: float) -> QueueState | None:
        """Say what its engine last said of its queue; None when it never did."""
        reading = self._reading
        if reading is None:
            return None
        age = max(0.0, now - reading.asked_at)
        return QueueState(
            engine=reading.load.engine,
            running=reading.load.running,
            waiting=reading.load.waiting,
            age_seconds=age,
            stale=age > reading.good_seconds,
        )

    def _touch(self) -> None:
        self.touched += 1
        self._changes.count += 1
