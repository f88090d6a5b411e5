"""Leases, saturation windows and health of each region, ticked by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vetted_mw.configuration import Limits, Upstream
from vetted_mw.fleet.breaker import BreakerState
from vetted_mw.fleet.fleet import Fleet, Health, Lease, RegionState
from vetted_mw.routing.decision import AttemptOutcome
from vetted_mw.testing import ManualClock

CAP = 3
SUCCESS, SATURATED, ABORTED = AttemptOutcome.SUCCESS, AttemptOutcome.SATURATED, AttemptOutcome.CLIENT_DISCONNECT
NEUTRAL = {
    AttemptOutcome.CALLER_ERROR,
    AttemptOutcome.SATURATED,
    AttemptOutcome.NOT_ADMITTED,
    AttemptOutcome.CLIENT_DISCONNECT,
    AttemptOutcome.SHUTTING_DOWN,
}
"""The rows of the outcome table that say "neutral" for the breaker."""


class Kept:
    """A fleet of the region `a` (and `b`), and its clock."""

    def __init__(self, *, jitter: float = 0.0, cap: int = CAP, **settings: Any) -> None:
        self.clock = ManualClock()
        limits = Limits(max_in_flight=cap)
        upstreams = {
            code: Upstream(region=code, base_url="https://model.example/v1", limits=limits, **settings)
            for code in ("a", "b")
        }
        self.fleet = Fleet(upstreams, monotonic=self.clock.monotonic, jitter=lambda: jitter)

    def state(self, region: str = "a") -> RegionState:
        state = self.fleet.state(region)
        assert state is not None
        return state

    def lease(self, region: str = "a") -> Lease:
        lease = self.fleet.lease(region)
        assert lease is not None
        return lease

    def attempt(self, outcome: AttemptOutcome, *, retry_after: float | None = None) -> None:
        self.lease().release(outcome, retry_after=retry_after)


def test_a_lease_tells_how_long_it_was_held() -> None:
    """From its taking to its release, the first one: further calls do nothing."""
    kept = Kept()
    kept.clock.tick(3)
    lease = kept.lease()
    taken_at = lease.taken_at
    kept.clock.tick(2.5)
    assert (taken_at, lease.seconds) == (kept.clock.monotonic() - 2.5, 0.0)
    lease.release(SUCCESS)
    kept.clock.tick(1)
    lease.release(SUCCESS)
    assert lease.seconds == 2.5


def test_a_region_without_an_upstream_has_no_state() -> None:
    """The catalogue knows more regions than have a server; nor is there a lease."""
    assert Kept().fleet.state("elsewhere") is None
    assert Kept().fleet.lease("elsewhere") is None


def test_a_fresh_region_is_ready_and_unknown() -> None:
    """Before the first request and the first probe nothing speaks against it."""
    state = Kept().state()
    assert (state.degraded, state.saturated, state.retry_after) == (False, False, None)
    assert (state.health, state.breaker, state.in_flight) == (Health.UNKNOWN, BreakerState.CLOSED, 0)
    assert state.models is None


def test_as_many_leases_as_the_cap_and_not_one_more() -> None:
    """At the cap a lease is refused and the region is saturated; the other region has a cap of its own."""
    kept = Kept()
    leases = [kept.lease() for _ in range(CAP)]
    assert kept.fleet.lease("a") is None
    assert (kept.state().saturated, kept.state().in_flight, kept.state().retry_after) == (True, CAP, None)
    assert (kept.state("b").saturated, kept.fleet.in_flight) == (False, CAP)
    kept.lease("b").release(SUCCESS)
    leases[0].release(SUCCESS)
    assert (kept.state().saturated, kept.state().in_flight) == (False, CAP - 1)
    kept.lease()


@pytest.mark.parametrize("outcome", list(AttemptOutcome))
def test_a_lease_is_given_back_once_whatever_the_outcome(outcome: AttemptOutcome) -> None:
    """A second release changes nothing: neither the count nor what is known of the region."""
    kept = Kept()
    lease = kept.lease()
    lease.release(outcome, retry_after=5.0)
    after = kept.state()
    lease.release(AttemptOutcome.UPSTREAM_ERROR)
    lease.release(SATURATED, retry_after=3000.0)
    assert kept.state() == after
    assert kept.fleet.in_flight == 0


@pytest.mark.parametrize("outcome", list(AttemptOutcome))
def test_what_each_outcome_is_for_the_breaker(outcome: AttemptOutcome) -> None:
    """A row of attempts with one outcome opens the breaker if the table calls it a fault, and not otherwise."""
    kept = Kept()
    for _ in range(50):
        lease = kept.fleet.lease("a")
        if lease is not None:
            lease.release(outcome)
    is_fault = outcome is not SUCCESS and outcome not in NEUTRAL
    assert kept.state().breaker is (BreakerState.OPEN if is_fault else BreakerState.CLOSED)
    assert kept.state().degraded is is_fault
    assert (kept.state().retry_after is not None) is (is_fault or outcome is SATURATED)


def test_a_region_whose_breaker_has_waited_enough_is_tried_again_by_one_at_a_time() -> None:
    """Half open with its probe taken it is degraded and leases are refused; with the probe back it is open to one."""
    kept = Kept()
    while kept.state().breaker is BreakerState.CLOSED:
        kept.attempt(AttemptOutcome.UPSTREAM_CUT)
    assert kept.fleet.lease("a") is None
    kept.clock.tick(kept.state().retry_after or 0)
    assert (kept.state().breaker, kept.state().degraded) == (BreakerState.HALF_OPEN, False)
    probe = kept.lease()
    assert (kept.state().degraded, kept.fleet.lease("a")) == (True, None)
    probe.release(ABORTED)
    assert not kept.state().degraded
    kept.attempt(SUCCESS)
    assert kept.state().breaker is BreakerState.CLOSED


def test_a_proved_lease_is_held_until_its_release_and_lets_the_next_probe_start() -> None:
    """The count of leases is the cap's; the place of the probe is free from the first content on."""
    kept = Kept()
    while kept.state().breaker is BreakerState.CLOSED:
        kept.attempt(AttemptOutcome.UPSTREAM_CUT)
    kept.clock.tick(kept.state().retry_after or 0)
    stream = kept.lease()
    assert kept.fleet.lease("a") is None
    stream.proved()
    stream.proved()
    assert kept.state().in_flight == 1
    second = kept.lease()
    assert (kept.fleet.lease("a"), kept.state().breaker) == (None, BreakerState.HALF_OPEN)
    second.proved()
    assert (kept.state().breaker, kept.state().degraded) == (BreakerState.CLOSED, False)
    for lease in (stream, second):
        lease.release(SUCCESS)
        lease.proved()
        lease.release(SUCCESS)
    assert kept.fleet.in_flight == 0


def test_what_is_told_of_a_lease_after_its_release_is_no_evidence() -> None:
    """Two probes that were given back proved nothing, whatever is said of them then."""
    kept = Kept()
    while kept.state().breaker is BreakerState.CLOSED:
        kept.attempt(AttemptOutcome.UPSTREAM_CUT)
    kept.clock.tick(kept.state().retry_after or 0)
    for _ in range(2):
        lease = kept.lease()
        lease.release(ABORTED)
        lease.proved()
    assert kept.state().breaker is BreakerState.HALF_OPEN


def test_content_is_better_evidence_than_a_probe() -> None:
    """A region whose health path fails and which has begun to answer is not failing."""
    kept = Kept()
    lease = kept.lease()
    for _ in range(2):
        kept.fleet.probed("a", alive=False)
    lease.proved()
    assert not kept.state().degraded


# ---- saturation windows


def _window(kept: Kept) -> float:
    """Tick until the region is free again; returns how long that took."""
    waited = 0.0
    while kept.state().saturated:
        left = kept.state().retry_after
        assert left is not None
        kept.clock.tick(left)
        waited += left
    return waited


def test_a_window_lasts_as_long_as_the_upstream_asked() -> None:
    """Inside it the region is saturated and says how long; after it, it is free without any further evidence."""
    kept = Kept()
    kept.attempt(SATURATED, retry_after=30.0)
    assert (kept.state().saturated, kept.state().degraded, kept.state().retry_after) == (True, False, 30.0)
    kept.clock.tick(29.5)
    assert (kept.state().saturated, kept.state().retry_after) == (True, 0.5)
    kept.clock.tick(0.5)
    assert (kept.state().saturated, kept.state().retry_after) == (False, None)


@pytest.mark.parametrize("order", [(10.0, 40.0), (40.0, 10.0)])
def test_the_longer_of_two_windows_wins(order: tuple[float, float]) -> None:
    """A short wait never shortens a longer one, whichever came first."""
    kept = Kept()
    leases = [kept.lease(), kept.lease()]
    for lease, seconds in zip(leases, order, strict=True):
        lease.release(SATURATED, retry_after=seconds)
    assert _window(kept) == 40.0


def test_a_later_short_window_that_reaches_further_wins() -> None:
    """What counts is when it ends."""
    kept = Kept()
    leases = [kept.lease(), kept.lease()]
    leases[0].release(SATURATED, retry_after=10.0)
    kept.clock.tick(8.0)
    leases[1].release(SATURATED, retry_after=5.0)
    assert kept.state().retry_after == 5.0


def test_without_a_wait_there_is_a_default_window() -> None:
    """A 429 that says nothing still keeps requests away for a moment."""
    kept = Kept()
    kept.attempt(SATURATED)
    assert 0 < _window(kept) <= 5


def test_a_wait_of_zero_is_none() -> None:
    """`Retry-After: 0` invites the next request at once."""
    kept = Kept()
    kept.attempt(SATURATED, retry_after=0.0)
    assert not kept.state().saturated


@pytest.mark.parametrize("retry_after", [None, 20.0])
def test_windows_are_spread_and_never_shortened(retry_after: float | None) -> None:
    """Jitter lengthens a window by up to a tenth, so that not every process comes back at once."""
    plain, spread = Kept(jitter=0.0), Kept(jitter=0.999)
    for kept in (plain, spread):
        kept.attempt(SATURATED, retry_after=retry_after)
    exact = plain.state().retry_after or 0
    assert exact < (spread.state().retry_after or 0) <= exact * 1.1


def test_the_wait_told_is_the_longer_of_window_and_breaker() -> None:
    """A region that is both full and failing is free when both are over."""
    kept = Kept(cap=20)
    late = kept.lease()
    while kept.state().breaker is BreakerState.CLOSED:
        kept.attempt(AttemptOutcome.UPSTREAM_ERROR)
    breaker = kept.state().retry_after or 0
    late.release(SATURATED, retry_after=breaker + 10)
    assert kept.state().retry_after == breaker + 10


# ---- health


def test_two_failing_probes_in_a_row_degrade_a_region_and_one_good_one_mends_it() -> None:
    """One lost probe is nothing."""
    kept = Kept()
    kept.fleet.probed("a", alive=False)
    assert (kept.state().health, kept.state().degraded) == (Health.UNKNOWN, False)
    kept.fleet.probed("a", alive=True)
    kept.fleet.probed("a", alive=False)
    assert not kept.state().degraded
    kept.fleet.probed("a", alive=False)
    assert (kept.state().health, kept.state().degraded) == (Health.FAILING, True)
    assert not kept.state("b").degraded
    kept.fleet.probed("a", alive=True)
    assert (kept.state().health, kept.state().degraded) == (Health.HEALTHY, False)


def test_a_completion_that_succeeds_is_better_evidence_than_a_probe() -> None:
    """A region whose health path is broken and which serves is not failing."""
    kept = Kept()
    lease = kept.lease()
    for _ in range(2):
        kept.fleet.probed("a", alive=False)
    assert kept.state().degraded
    lease.release(SUCCESS)
    assert not kept.state().degraded


def test_a_drained_region_is_degraded_and_keeps_what_is_in_flight() -> None:
    """Whatever its probes say; leases already taken are given back as usual."""
    kept = Kept(drained=True)
    kept.fleet.probed("a", alive=True)
    assert (kept.state().health, kept.state().degraded) == (Health.DRAINED, True)
    kept.attempt(SUCCESS)
    assert kept.fleet.in_flight == 0


# ---- models and the usage option


def test_a_list_of_models_replaces_the_one_before() -> None:
    """An empty list is a list; the other region keeps its own."""
    kept = Kept(discover=True)
    assert kept.state().models is None
    for region in ("a", "b"):
        kept.fleet.models_fetched(region, ["new", "newer", "new"])
    assert kept.state().models == frozenset({"new", "newer"})
    kept.fleet.models_fetched("a", [])
    assert (kept.state().models, kept.state("b").models) == (frozenset(), frozenset({"new", "newer"}))


@pytest.mark.parametrize("models", [None, frozenset({"mine"})])
def test_a_list_counts_only_where_it_is_asked_for(models: frozenset[str] | None) -> None:
    """What the operator wrote, a list or any model, is not overruled by what the server says."""
    kept = Kept(models=models)
    kept.fleet.models_fetched("a", ["other"])
    assert kept.state().models == models


def test_a_model_the_region_knows_by_a_name_of_its_own_is_served_by_the_requested_one() -> None:
    """The list holds the region's names; requests name the other."""
    kept = Kept(discover=True, upstream_names={"asked": "own", "absent": "gone"})
    kept.fleet.models_fetched("a", ["own"])
    assert kept.state().models == frozenset({"own", "asked"})


@pytest.mark.parametrize(("setting", "takes"), [("auto", True), ("supported", True), ("rejected", False)])
def test_the_usage_option_is_added_until_it_is_refused(setting: str, takes: bool) -> None:
    """By setting at first, by experience then, each region for itself."""
    kept = Kept(stream_usage=setting)
    assert kept.fleet.takes_usage_option("a") is takes
    kept.fleet.usage_option_refused("a")
    assert kept.fleet.takes_usage_option("a") is False
    assert kept.fleet.takes_usage_option("b") is takes


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.sampled_from(["lease", "prove"]),
            st.tuples(st.sampled_from(list(AttemptOutcome)), st.none() | st.floats(min_value=0, max_value=100)),
            st.floats(min_value=0, max_value=100),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_whatever_happens_leases_are_counted_and_a_quiet_region_comes_back(steps: list[Any]) -> None:
    """The count equals the leases held, never over the cap; with all given back and time gone by, one lease is free."""
    kept = Kept()
    held: list[Lease] = []
    for step in steps:
        if step == "lease":
            lease = kept.fleet.lease("a")
            held += [] if lease is None else [lease]
        elif step == "prove" and held:
            held[0].proved()
        elif isinstance(step, tuple) and held:
            held.pop().release(step[0], retry_after=step[1])
        elif isinstance(step, bool):
            kept.fleet.probed("a", alive=step)
        elif isinstance(step, float):
            kept.clock.tick(step)
        assert kept.state().in_flight == len(held) <= CAP
    for lease in held:
        lease.release(ABORTED)
    kept.clock.tick(10_000)
    assert kept.fleet.in_flight == 0
    assert not kept.state().saturated
    kept.lease()
