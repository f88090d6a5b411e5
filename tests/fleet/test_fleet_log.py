"""The log tells when a region goes and comes back, and the first fault of each kind; never once per request."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from vetted_mw.configuration import Upstream
from vetted_mw.fleet.fleet import Fleet
from vetted_mw.routing.values import AttemptOutcome
from vetted_mw.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable

PARIS = "scaleway-par-1"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def fleet(clock: ManualClock) -> Fleet:
    upstream = Upstream(region=PARIS, base_url="http://127.0.0.1:9/v1")
    return Fleet({PARIS: upstream}, monotonic=clock.monotonic, jitter=lambda: 0.0)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[int, str, Any]]]:
    caplog.set_level(logging.INFO, "vetted_mw")
    return lambda: [(one.levelno, one.getMessage(), getattr(one, "outcome", None)) for one in caplog.records]


def attempted(fleet: Fleet, *outcomes: AttemptOutcome) -> None:
    for outcome in outcomes:
        lease = fleet.lease(PARIS)
        assert lease is not None
        lease.release(outcome)


def test_a_probe_that_fails_twice_and_then_answers_is_told_as_going_and_coming_back(
    fleet: Fleet, told: Callable[[], list[tuple[int, str, Any]]]
) -> None:
    """One line when the region is out, one when it is back, however many probes lie between."""
    for alive in (True, False, False, False, True, True):
        fleet.probed(PARIS, alive=alive, status=200 if alive else None)
    assert told() == [(logging.WARNING, "a region is out of service", None), (logging.INFO, "a region is back", None)]


def test_a_breaker_that_only_half_opens_is_not_told_as_back(
    fleet: Fleet, clock: ManualClock, told: Callable[[], list[tuple[int, str, Any]]]
) -> None:
    """A probe whose caller left, or that failed, says nothing in the log; one that served says the region is back."""

    def service() -> list[str]:
        return [message for _level, message, _outcome in told() if message.startswith("a region is")]

    attempted(fleet, *[AttemptOutcome.UPSTREAM_CUT] * 5)
    assert service() == ["a region is out of service"]
    for outcome in (AttemptOutcome.CLIENT_DISCONNECT, AttemptOutcome.UPSTREAM_CUT, AttemptOutcome.CLIENT_DISCONNECT):
        clock.tick(100)
        attempted(fleet, outcome)
    assert service() == ["a region is out of service"]
    attempted(fleet, AttemptOutcome.SUCCESS)
    assert service() == ["a region is out of service", "a region is back"]


def test_a_stream_that_closes_the_breaker_is_told_with_its_first_content(
    fleet: Fleet, clock: ManualClock, told: Callable[[], list[tuple[int, str, Any]]]
) -> None:
    """The log does not wait for the end of a long answer."""
    attempted(fleet, *[AttemptOutcome.UPSTREAM_CUT] * 5)
    clock.tick(100)
    for _ in range(2):
        lease = fleet.lease(PARIS)
        assert lease is not None
        lease.proved()
    assert told()[-1] == (logging.INFO, "a region is back", None)


def test_faults_are_told_once_per_kind_until_the_region_serves_again(
    fleet: Fleet, told: Callable[[], list[tuple[int, str, Any]]]
) -> None:
    """A wrong key or address shows in the log with its kind, without a line for every request."""
    refused, cut, served = AttemptOutcome.UPSTREAM_ERROR, AttemptOutcome.UPSTREAM_CUT, AttemptOutcome.SUCCESS
    attempted(fleet, *[served] * 8, refused, refused, cut, served, refused, AttemptOutcome.CALLER_ERROR)
    assert [outcome for _level, message, outcome in told() if message == "an attempt at a region failed"] == [
        "upstream_error",
        "upstream_cut",
        "upstream_error",
    ]


def test_the_last_probes_status_is_known(fleet: Fleet) -> None:
    """A health path that answers 404 or 401 counts as alive, and an operator can see that it did."""
    fleet.probed(PARIS, alive=True, status=401)
    state = fleet.state(PARIS)
    assert state is not None
    assert (state.health, state.probe_status) == ("healthy", 401)
