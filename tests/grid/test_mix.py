"""The latest whole interval of a mix: nothing is filled in, nothing is guessed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vetted_mw.grid.mix import Interval, Series, latest_complete

TEN = datetime(2025, 10, 24, 10, 0, tzinfo=UTC)


def series(code: str, *values: float | None, minutes: int = 60, after: int = 0) -> Series:
    """Return a series that starts `after` minutes past ten; None is a step that is missing."""
    return Series(
        code=code,
        start=TEN + timedelta(minutes=after),
        minutes=minutes,
        megawatts={step: value for step, value in enumerate(values) if value is not None},
    )


def interval(after: int, minutes: int, **mix: float) -> Interval:
    """Return an interval that starts `after` minutes past ten."""
    return Interval(start=TEN + timedelta(minutes=after), minutes=minutes, mix=mix)


@pytest.mark.parametrize(
    ("given_series", "expected"),
    [
        pytest.param([series("B14", 1, 2)], interval(60, 60, B14=2), id="one type: its last step"),
        pytest.param([series("B14", 1, 2), series("B16", 3, 4)], interval(60, 60, B14=2, B16=4), id="both whole"),
        pytest.param(
            [series("B14", 1, 2), series("B16", 3, 4, 5)], interval(60, 60, B14=2, B16=4), id="solar runs ahead"
        ),
        pytest.param([series("B14", 1, 2, None), series("B16", 3, 4, 5)], interval(60, 60, B14=2, B16=4), id="a gap"),
        pytest.param(
            [series("B14", 1, None, 3), series("B16", 4, 5, 6)], interval(120, 60, B14=3, B16=6), id="an old hole"
        ),
        pytest.param(
            [series("B14", 1, 2, 3), series("B16", 4, None, None)],
            interval(0, 60, B14=1, B16=4),
            id="a type that stopped holds the mix back",
        ),
        pytest.param(
            [series("B14", 100), series("B16", 0, 4, 8, 12, minutes=15)],
            interval(0, 60, B14=100, B16=6),
            id="quarters are averaged up to the hour",
        ),
        pytest.param(
            [series("B14", 100, 200), series("B16", *range(7), minutes=15)],
            interval(0, 60, B14=100, B16=1.5),
            id="three quarters are no hour",
        ),
        pytest.param(
            [series("B14", 100, 200), series("B16", 1, 2, 3, 4, 5, None, 7, 8, minutes=15)],
            interval(0, 60, B14=100, B16=2.5),
            id="an hour with a hole in it is none",
        ),
        pytest.param(
            [series("B01", 6), series("B14", 2, 4, minutes=30), series("B16", 1, 2, 3, 4, minutes=15)],
            interval(0, 60, B01=6, B14=3, B16=2.5),
            id="three resolutions",
        ),
        pytest.param(
            [series("B14", 1), series("B14", 2, after=60), series("B16", 3, 4)],
            interval(60, 60, B14=2, B16=4),
            id="two series of a type follow one another",
        ),
        pytest.param(
            [series("B14", 5, 6, minutes=15), series("B14", 7, 8, minutes=15, after=30), series("B16", 9)],
            interval(0, 60, B14=6.5, B16=9),
            id="two series of a type share an hour",
        ),
        pytest.param(
            [series("B14", 1, 2), series("B14", 2, after=60), series("B16", 3, 4)],
            interval(0, 60, B14=1, B16=3),
            id="two values for one hour are none, even when they agree",
        ),
        pytest.param(
            [series("B14", 1, 2), series("B14", 9, minutes=15, after=75), series("B16", 3, 4)],
            interval(0, 60, B14=1, B16=3),
            id="an hour and one of its quarters overlap",
        ),
        pytest.param(
            [series("B14", 1, 2), series("B14", 9, after=90), series("B16", 3, 4)],
            interval(0, 60, B14=1, B16=3),
            id="an hour overlaps another's half",
        ),
        pytest.param(
            [series("B04", -900), series("B12", 100)], interval(0, 60, B04=0, B12=100), id="what is drawn is not made"
        ),
        pytest.param(
            [series("B04", -8, 8, -8, 8, minutes=15), series("B12", 100)],
            interval(0, 60, B04=4, B12=100),
            id="what is drawn in one quarter does not lessen another's",
        ),
        pytest.param(
            [series("B14", 1, 2, after=30), series("B16", *range(8), minutes=15)],
            interval(30, 60, B14=1, B16=3.5),
            id="hours that begin at half past",
        ),
        pytest.param([series("B14", 7, minutes=1440)], interval(0, 1440, B14=7), id="a day"),
        pytest.param([series("B14", 7, 8, 9, minutes=1)], interval(2, 1, B14=9), id="a minute"),
        pytest.param(
            [series("B14", 1), series("B14")], interval(0, 60, B14=1), id="a series with nothing adds nothing"
        ),
    ],
)
def test_the_latest_interval_that_is_whole_for_every_type(given_series: list[Series], expected: Interval) -> None:
    """The newest one that every type covers wholly and once, as long as the coarsest step."""
    found = latest_complete(given_series)
    assert found == expected
    assert found.end == expected.start + timedelta(minutes=expected.minutes)
    assert latest_complete(reversed(given_series)) == expected


@pytest.mark.parametrize(
    ("given_series", "expected"),
    [
        pytest.param([], (), id="nothing"),
        pytest.param([series("B14")], (), id="no value"),
        pytest.param([], ("B14",), id="nothing, but something expected"),
        pytest.param([series("B14", 1, 2)], ("B14", "B04"), id="an expected type is missing"),
        pytest.param([series("B14", 1, 2), series("B04")], (), id="a type without a value"),
        pytest.param([series("B14", 1), series("B16", 1, after=60)], (), id="never together"),
        pytest.param([series("B14", 1), series("B16", 1, after=30)], (), id="hours that never meet"),
        pytest.param([series("B14", 1), series("B14", 1)], (), id="everything twice"),
        pytest.param([series("B14", 1), series("B16", 1, 1, 1, minutes=15)], (), id="three quarters"),
        pytest.param([series("B14", 1), series("B16", 1, 1, minutes=40)], (), id="a step across two hours"),
    ],
)
def test_there_may_be_no_such_interval(given_series: list[Series], expected: tuple[str, ...]) -> None:
    """None, never a mix without one of its types."""
    assert latest_complete(given_series, expected=expected) is None


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (0, interval(120, 60, B14=3)),
        (59, interval(120, 60, B14=3)),
        (60, interval(0, 60, B14=1)),
        (119, interval(0, 60, B14=1)),
        (120, interval(60, 60, B14=2)),
        (179, interval(60, 60, B14=2)),
        (180, interval(120, 60, B14=3)),
        (100_000, interval(120, 60, B14=3)),
        (-100_000, interval(120, 60, B14=3)),
    ],
)
def test_an_interval_that_ends_later_is_passed_over(before: int, expected: Interval) -> None:
    """The latest one that ends by then; where none does, the latest of all."""
    assert latest_complete([series("B14", 1, 2, 3)], before=TEN + timedelta(minutes=before)) == expected
    just_before = latest_complete([series("B14", 1, 2, 3)], before=TEN + timedelta(minutes=before, microseconds=-1))
    assert just_before == latest_complete([series("B14", 1, 2, 3)], before=TEN + timedelta(minutes=before - 1))


def test_an_expected_type_that_is_there_changes_nothing() -> None:
    """The expected types are part of the reference set, not a filter of it."""
    given_series = [series("B14", 1, 2), series("B16", 3, 4)]
    assert latest_complete(given_series, expected=("B14",)) == interval(60, 60, B14=2, B16=4)


_STEP = st.sampled_from((15, 30, 60))
_VALUES = st.lists(st.none() | st.floats(-100, 50_000), max_size=12)
_SERIES = st.builds(
    lambda code, minutes, hours, values: series(code, *values, minutes=minutes, after=60 * hours),
    st.sampled_from(("B04", "B14", "B16")),
    _STEP,
    st.integers(-3, 3),
    _VALUES,
)


def _by_minute(given_series: list[Series]) -> dict[str, dict[datetime, list[float]]]:
    """Return what is known of each minute, in the plainest way: code -> minute -> the values it was given."""
    found: dict[str, dict[datetime, list[float]]] = {one.code: defaultdict(list) for one in given_series}
    for one in given_series:
        for step, value in one.megawatts.items():
            for minute in range(one.minutes):
                found[one.code][one.start + timedelta(minutes=step * one.minutes + minute)].append(max(value, 0.0))
    return found


@settings(max_examples=300, deadline=None)
@given(st.lists(_SERIES, max_size=6), st.sets(st.sampled_from(("B04", "B14", "B19")), max_size=2))
def test_it_is_the_interval_a_count_of_minutes_finds(given_series: list[Series], expected: set[str]) -> None:
    """Every wanted type covers every minute of it exactly once, and no later interval does so."""
    known = _by_minute(given_series)
    wanted = set(known) | expected
    minutes = max((one.minutes for one in given_series if one.megawatts), default=60)
    found = latest_complete(given_series, expected=expected)

    def mix_at(start: datetime) -> dict[str, float] | None:
        mix = {}
        for code in wanted:
            values = [known.get(code, {}).get(start + timedelta(minutes=minute), []) for minute in range(minutes)]
            if any(len(value) != 1 for value in values):
                return None
            mix[code] = sum(value[0] for value in values) / minutes
        return mix

    begins = [TEN + timedelta(minutes=minutes * number) for number in range(-360 // minutes, 1440 // minutes)]
    whole = [start for start in begins if mix_at(start) is not None] if wanted else []
    assert (found is None) == (not whole)
    if found is not None:
        assert (found.start, found.minutes) == (max(whole), minutes)
        assert found.mix == pytest.approx(mix_at(found.start))
        assert set(found.mix) == wanted
        assert all(value >= 0 for value in found.mix.values())


@settings(max_examples=200, deadline=None)
@given(st.lists(_SERIES, min_size=1, max_size=4), st.data())
def test_a_series_may_come_in_two(given_series: list[Series], data: st.DataObject) -> None:
    """Cut between any two steps, a series tells the same as whole."""
    number = data.draw(st.integers(0, len(given_series) - 1))
    one = given_series[number]
    cut = data.draw(st.integers(0, max(one.megawatts, default=0) + 1))
    first = replace(one, megawatts={step: value for step, value in one.megawatts.items() if step < cut})
    second = replace(
        one,
        start=one.start + timedelta(minutes=cut * one.minutes),
        megawatts={step - cut: value for step, value in one.megawatts.items() if step >= cut},
    )
    halves = [*given_series[:number], first, second, *given_series[number + 1 :]]
    assert latest_complete(halves) == latest_complete(given_series)


@settings(max_examples=100, deadline=None)
@given(st.lists(_SERIES, min_size=1, max_size=5), st.timedeltas(timedelta(days=-400), timedelta(days=400)))
def test_time_shifts_with_its_data(given_series: list[Series], by: timedelta) -> None:
    """No calendar is in it: the same data any whole minutes earlier or later give the same mix so much earlier or later."""
    by = timedelta(minutes=by // timedelta(minutes=1))
    found = latest_complete(given_series)
    assume(found is not None)
    assert found is not None
    shifted = [replace(one, start=one.start + by) for one in given_series]
    assert latest_complete(shifted) == replace(found, start=found.start + by)
