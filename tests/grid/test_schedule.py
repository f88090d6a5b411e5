"""When a source is asked next: its own pace, sooner after a failure that may pass, later where it asks for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vetted_mw.grid.schedule import next_pause


def paused(refresh_seconds: float = 600.0, **members: Any) -> float:
    given_members: dict[str, Any] = {"failures": 0, "is_transient": True, "retry_after_seconds": None, "jitter": 0.0}
    return next_pause(refresh_seconds, **(given_members | members))


@pytest.mark.parametrize(
    ("refresh", "members", "seconds"),
    [
        (600.0, {}, 600.0),
        (600.0, {"failures": 1}, 18.75),
        (600.0, {"failures": 2}, 37.5),
        (600.0, {"failures": 3}, 75.0),
        (600.0, {"failures": 5}, 300.0),
        (600.0, {"failures": 6}, 600.0),
        (600.0, {"failures": 7}, 600.0),
        (600.0, {"failures": 10_000}, 600.0),
        (600.0, {"failures": 1, "is_transient": False}, 600.0),
        (600.0, {"failures": 9, "is_transient": False}, 600.0),
        (60.0, {"failures": 1}, 5.0),
        (60.0, {"failures": 2}, 10.0),
        (60.0, {"failures": 5}, 60.0),
        (1.0, {}, 1.0),
        (1.0, {"failures": 1}, 1.0),
        (86_400.0, {"failures": 1}, 2700.0),
        (600.0, {"retry_after_seconds": 10.0}, 600.0),
        (600.0, {"retry_after_seconds": 900.0}, 900.0),
        (600.0, {"failures": 1, "retry_after_seconds": 10.0}, 18.75),
        (600.0, {"failures": 1, "retry_after_seconds": 60.0}, 60.0),
        (600.0, {"failures": 1, "is_transient": False, "retry_after_seconds": 86_400.0}, 86_400.0),
        (600.0, {"failures": 1, "retry_after_seconds": 0.0}, 18.75),
        (600.0, {"jitter": 0.5}, 570.0),
        (600.0, {"failures": 1, "jitter": 0.5}, 17.8125),
        (600.0, {"retry_after_seconds": 700.0, "jitter": 0.99}, 700.0),
        (600.0, {"failures": 1, "least_seconds": 60.0}, 60.0),
        (300.0, {"jitter": 0.9, "least_seconds": 300.0}, 300.0),
        (600.0, {"failures": 9, "least_seconds": 60.0, "retry_after_seconds": 900.0}, 900.0),
    ],
)
def test_the_pause_is_as_told(refresh: float, members: dict[str, Any], seconds: float) -> None:
    """A refresh while it answers; a thirty-second of it, five seconds at least, doubled per failure, after one."""
    assert paused(refresh, **members) == pytest.approx(seconds)


REFRESH = st.floats(min_value=0.001, max_value=86_400.0)
FAILURES = st.integers(min_value=0, max_value=100_000)
JITTER = st.floats(min_value=0.0, max_value=1.0, exclude_max=True)
WAIT = st.floats(min_value=0.0, max_value=1e7)


@given(REFRESH, FAILURES, st.booleans(), JITTER)
def test_a_pause_is_never_longer_than_a_refresh(
    refresh: float, failures: int, is_transient: bool, jitter: float
) -> None:
    """A service that is back is seen within one, unless it asked for more time itself."""
    assert 0.0 < paused(refresh, failures=failures, is_transient=is_transient, jitter=jitter) <= refresh


@given(REFRESH, FAILURES, st.booleans(), JITTER, WAIT)
def test_the_time_a_service_asked_for_is_always_kept(
    refresh: float, failures: int, is_transient: bool, jitter: float, wait: float
) -> None:
    """However long, whatever the jitter; and it never makes the pause any shorter."""
    members: dict[str, Any] = {"failures": failures, "is_transient": is_transient, "jitter": jitter}
    without = paused(refresh, **members)
    assert paused(refresh, **members, retry_after_seconds=wait) == max(without, wait)


@given(REFRESH, st.integers(min_value=1, max_value=1000), JITTER)
def test_each_failure_makes_the_pause_no_shorter(refresh: float, failures: int, jitter: float) -> None:
    """It grows to the refresh and stays."""
    pauses = [paused(refresh, failures=count, jitter=jitter) for count in range(failures, failures + 4)]
    assert pauses == sorted(pauses)
    assert paused(refresh, failures=1, jitter=jitter) <= pauses[0]


@given(REFRESH, st.integers(min_value=1, max_value=1000), JITTER)
def test_a_failure_that_will_not_pass_is_not_asked_after_sooner(refresh: float, failures: int, jitter: float) -> None:
    """A refused key is refused in ten seconds too."""
    lasting = paused(refresh, failures=failures, is_transient=False, jitter=jitter)
    assert lasting == paused(refresh, jitter=jitter)


@given(REFRESH, FAILURES, JITTER)
def test_jitter_takes_up_to_a_tenth_and_adds_nothing(refresh: float, failures: int, jitter: float) -> None:
    """Several processes spread over the last tenth of the pause."""
    plain = paused(refresh, failures=failures)
    spread = paused(refresh, failures=failures, jitter=jitter)
    assert 0.9 * plain * (1 - 1e-9) <= spread <= plain


@given(REFRESH, FAILURES, JITTER, JITTER)
def test_more_jitter_is_never_later(refresh: float, failures: int, one: float, other: float) -> None:
    """It orders the processes."""
    first, second = sorted((one, other), reverse=True)
    assert paused(refresh, failures=failures, jitter=first) <= paused(refresh, failures=failures, jitter=second)
