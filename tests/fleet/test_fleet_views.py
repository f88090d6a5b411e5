"""A fleet over the one before it: what was learned of a server goes on, what the operator wrote is the new file's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from vetted_mw.configuration import Auth, Limits, Upstream
from vetted_mw.fleet.breaker import BreakerState
from vetted_mw.fleet.engines import Engine, EngineLoad
from vetted_mw.fleet.fleet import Fleet, Health, Lease, RegionState
from vetted_mw.routing.decision import AttemptOutcome
from vetted_mw.secret import Secret
from vetted_mw.testing import ManualClock

SUCCESS, CUT = AttemptOutcome.SUCCESS, AttemptOutcome.UPSTREAM_CUT


class Reloaded:
    """Fleets of one region `a`, each over the one before, and their clock."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.old = self._fleet(settings, None)
        self.settings = settings

    def reload(self, **settings: Any) -> Fleet:
        return self._fleet(self.settings | settings, self.old)

    def _fleet(self, settings: dict[str, Any], previous: Fleet | None) -> Fleet:
        upstream = Upstream(**({"region": "a", "base_url": "https://model.example/v1"} | settings))
        return Fleet({"a": upstream}, monotonic=self.clock.monotonic, jitter=lambda: 0.0, previous=previous)


def state_of(fleet: Fleet) -> RegionState:
    state = fleet.state("a")
    assert state is not None
    return state


def lease_of(fleet: Fleet) -> Lease:
    lease = fleet.lease("a")
    assert lease is not None
    return lease


def teach(fleet: Fleet) -> None:
    """Let a fleet learn something of every kind."""
    fleet.models_fetched("a", ["learned"])
    fleet.usage_option_refused("a")
    fleet.probed("a", alive=True, status=204)
    for _ in range(8):
        fleet.connected("a", 0.0123)
    fleet.load_read("a", EngineLoad(engine=Engine.VLLM, running=3, waiting=4), asked_at=0.0, good_seconds=15.0)
    lease_of(fleet).release(AttemptOutcome.SATURATED, retry_after=30.0)
    lease_of(fleet)
    while state_of(fleet).breaker is BreakerState.CLOSED:
        lease_of(fleet).release(CUT)


LEARNED = {"discover": True, "metrics_path": "/metrics"}
SAME: list[dict[str, Any]] = [
    {},
    {"limits": Limits(max_in_flight=7)},
    {"health_path": "/live"},
    {"upstream_names": {"asked": "learned"}},
    {"max_queue": 3},
]
OTHER: list[dict[str, Any]] = [
    {"base_url": "https://other.example/v1"},
    {"proxy": "http://proxy.example:3128"},
    {"ca_file": "/other.pem"},
    {"api_key": Secret("another")},
    {"auth": Auth.NONE},
]


@pytest.mark.parametrize("settings", SAME, ids=str)
def test_what_was_learned_of_a_server_goes_on_over_a_reload(settings: dict[str, Any]) -> None:
    """Breaker, leases, window, latency, list, queue, probe result and usage option: nothing begins anew."""
    fleets = Reloaded(api_key=Secret("one"), **LEARNED)
    teach(fleets.old)
    new = fleets.reload(**{"api_key": Secret("one")} | settings)
    state = state_of(new)
    assert state.breaker is BreakerState.OPEN
    assert (state.in_flight, new.in_flight) == (1, 1)
    assert (state.saturated, state.retry_after) == (True, 30.0)
    assert (state.network_p50_ms, state.network_p95_ms) == (12.3, 12.3)
    assert state.models == frozenset({"learned", *settings.get("upstream_names", {})})
    assert state.queue is not None
    assert (state.queue.running, state.queue.waiting) == (3, 4)
    assert (state.health, state.probe_status) == (Health.HEALTHY, 204)
    assert not new.takes_usage_option("a")


@pytest.mark.parametrize("settings", OTHER, ids=lambda settings: next(iter(settings)))
def test_another_server_begins_anew(settings: dict[str, Any]) -> None:
    """Another address, way or key under the same code is another server; the old view keeps what it knows."""
    fleets = Reloaded(api_key=Secret("one"), **LEARNED)
    teach(fleets.old)
    new = fleets.reload(**settings)
    state = state_of(new)
    assert (state.breaker, state.health, state.saturated) == (BreakerState.CLOSED, Health.UNKNOWN, False)
    assert (state.models, state.queue, state.network_p95_ms, new.in_flight) == (None, None, None, 0)
    assert new.takes_usage_option("a")
    assert state_of(fleets.old).breaker is BreakerState.OPEN
    assert fleets.old.in_flight == 1


def test_one_count_of_leases_and_each_view_its_own_cap() -> None:
    """What began under the old file is counted under the new one, and the other way round."""
    fleets = Reloaded(limits=Limits(max_in_flight=3))
    first = lease_of(fleets.old)
    new = fleets.reload(limits=Limits(max_in_flight=2))
    second = lease_of(new)
    assert (new.lease("a"), state_of(new).saturated, state_of(fleets.old).saturated) == (None, True, False)
    third = lease_of(fleets.old)
    assert (fleets.old.lease("a"), new.in_flight, fleets.old.in_flight) == (None, 3, 3)
    for lease in (first, second, third):
        lease.release(SUCCESS)
    assert (new.in_flight, fleets.old.in_flight, state_of(new).saturated) == (0, 0, False)


def test_faults_of_requests_of_both_views_open_one_breaker() -> None:
    """A server that fails fails for all."""
    fleets = Reloaded()
    new = fleets.reload()
    for fleet in (fleets.old, new, fleets.old, new, new):
        lease_of(fleet).release(CUT)
    assert (fleets.old.lease("a"), new.lease("a")) == (None, None)


def test_draining_by_reload_takes_the_region_out_and_keeps_what_is_in_flight() -> None:
    """New decisions see it drained; a request that runs, and one that decided before, are left alone."""
    fleets = Reloaded()
    running = lease_of(fleets.old)
    new = fleets.reload(drained=True)
    assert (state_of(new).health, state_of(new).degraded, new.in_flight) == (Health.DRAINED, True, 1)
    assert not state_of(fleets.old).degraded
    running.release(SUCCESS)
    assert new.in_flight == 0


def test_a_list_that_was_written_and_one_that_was_discovered_change_places() -> None:
    """The file's word decides; a list fetched earlier counts again as soon as the file says `discover` again."""
    fleets = Reloaded(models=frozenset({"written"}))
    assert state_of(fleets.old).models == frozenset({"written"})
    discovering = fleets.reload(models=None, discover=True)
    assert state_of(discovering).models is None
    discovering.models_fetched("a", ["fetched"])
    assert state_of(discovering).models == frozenset({"fetched"})
    assert state_of(fleets.old).models == frozenset({"written"})
    fleets.old = discovering
    assert state_of(fleets.reload()).models == frozenset({"written"})
    assert state_of(fleets.reload(models=None)).models is None
    assert state_of(fleets.reload(models=None, discover=True)).models == frozenset({"fetched"})


def test_a_list_fetched_under_the_new_view_is_known_to_the_old_one() -> None:
    """It is the server's, by whichever names a view asks."""
    fleets = Reloaded(discover=True)
    fleets.old.models_fetched("a", ["own"])
    new = fleets.reload(upstream_names={"asked": "own"})
    assert state_of(new).models == frozenset({"own", "asked"})
    new.models_fetched("a", ["own", "more"])
    assert state_of(fleets.old).models == frozenset({"own", "more"})
    assert state_of(new).models == frozenset({"own", "more", "asked"})


def test_a_health_probe_that_is_turned_off_has_no_say_any_more() -> None:
    """A path that never worked, removed by the operator, does not keep the region out."""
    fleets = Reloaded()
    for _ in range(2):
        fleets.old.probed("a", alive=False)
    assert state_of(fleets.old).degraded
    new = fleets.reload(health_path="")
    assert (state_of(new).health, state_of(new).degraded) == (Health.UNKNOWN, False)


def test_a_queue_that_is_no_longer_read_has_no_say_any_more() -> None:
    """Without `metrics_path` nothing keeps an old reading in force."""
    fleets = Reloaded(metrics_path="/metrics", max_queue=1)
    fleets.old.load_read("a", EngineLoad(engine=Engine.TGI, running=1, waiting=9), asked_at=0.0, good_seconds=15.0)
    assert state_of(fleets.old).saturated
    assert not state_of(fleets.reload(max_queue=10)).saturated
    new = state_of(fleets.reload(metrics_path="", max_queue=0))
    assert (new.saturated, new.queue) == (False, None)


def test_a_region_that_is_gone_has_no_lease_and_one_that_is_new_is_fresh() -> None:
    """A lease of a region that the new file leaves out is given back to its server without harm."""
    fleets = Reloaded()
    held = lease_of(fleets.old)
    upstream = Upstream(region="b", base_url="https://b.example/v1")
    new = Fleet({"b": upstream}, monotonic=fleets.clock.monotonic, jitter=lambda: 0.0, previous=fleets.old)
    assert (new.lease("a"), new.state("a"), new.in_flight, fleets.old.in_flight) == (None, None, 0, 1)
    assert new.lease("b") is not None
    held.release(CUT)
    assert fleets.old.in_flight == 0


STEPS = st.one_of(
    st.tuples(st.just("lease"), st.integers(0, 9)),
    st.tuples(st.just("prove"), st.integers(0, 9)),
    st.tuples(st.sampled_from([SUCCESS, CUT, AttemptOutcome.CLIENT_DISCONNECT]), st.integers(0, 9)),
    st.tuples(st.just("reload"), st.integers(1, 6)),
    st.tuples(st.just("tick"), st.integers(0, 60)),
)


@example_settings(max_examples=150, deadline=None)
@given(steps=st.lists(STEPS, max_size=80))
def test_whatever_is_reloaded_in_between_leases_are_counted_once_and_probes_are_bounded(
    steps: list[tuple[Any, int]],
) -> None:
    """Views of several caps, leases of each: one count for all, none over its view's cap, one unproved probe at most."""
    fleets = Reloaded(limits=Limits(max_in_flight=3))
    views, caps = [fleets.old], [3]
    held: list[Lease] = []
    probing: list[Lease] = []
    for step, value in steps:
        which = value % len(views)
        if step == "lease":
            is_probe = state_of(views[which]).breaker is BreakerState.HALF_OPEN
            lease = views[which].lease("a")
            if lease is not None:
                held.append(lease)
                probing += [lease] if is_probe else []
                assert len(held) <= caps[which]
        elif step == "reload":
            fleets.old = views[-1]
            views.append(fleets.reload(limits=Limits(max_in_flight=value)))
            caps.append(value)
        elif step == "tick":
            fleets.clock.tick(value)
        elif held:
            lease = held[value % len(held)]
            if step == "prove":
                lease.proved()
            else:
                lease.release(step)
                held.remove(lease)
            probing = [one for one in probing if one is not lease]
        assert {view.in_flight for view in views} == {len(held)}
        assert len({state_of(view).breaker for view in views}) == 1
        assert len(probing) <= 1
