"""Whether anybody records yet: the OpenTelemetry API is asked seldom, and an SDK that is set is noticed in a moment."""

from __future__ import annotations

from vetted_mw.telemetry.slumber import Slumber
from vetted_mw.testing import ManualClock


class Api:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.is_unset = True
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.is_unset


def test_a_moment_of_requests_asks_once() -> None:
    """A thousand questions at one instant are one to the API; a moment later it is asked anew."""
    api, clock = Api(), ManualClock()
    slumber = Slumber(api, monotonic=clock.monotonic)
    clock.tick(1.0)
    assert all(slumber.lasts() for _ in range(1000))
    assert api.asked == 1
    clock.tick(0.02)
    assert slumber.lasts()
    assert api.asked == 2


def test_an_sdk_that_is_set_is_noticed_within_a_moment_and_for_good() -> None:
    """Once it is there nobody is asked any more: a global provider is set once."""
    api, clock = Api(), ManualClock()
    slumber = Slumber(api, monotonic=clock.monotonic)
    clock.tick(1.0)
    assert slumber.lasts()
    api.is_unset = False
    clock.tick(0.02)
    assert not slumber.lasts()
    asked = api.asked
    clock.tick(1.0)
    assert not slumber.lasts()
    assert api.asked == asked


def test_the_first_question_is_always_asked() -> None:
    """A process whose clock began just now has not been answered yet."""
    api = Api()
    api.is_unset = False
    assert not Slumber(api, monotonic=ManualClock().monotonic).lasts()
