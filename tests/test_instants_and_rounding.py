"""Instants and figures as the wire writes them."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vetted_mw.instants import parse_rfc3339, rfc3339
from vetted_mw.rounding import minutes, significant

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")

offsets = st.integers(-23 * 60, 23 * 60).map(lambda east: timezone(timedelta(minutes=east)))
instants = st.datetimes(
    min_value=datetime(1, 1, 3),  # noqa: DTZ001 (hypothesis adds the zone)
    max_value=datetime(9999, 12, 29),  # noqa: DTZ001
    timezones=offsets | st.just(UTC),
)
figures = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)


@settings(deadline=None)
@given(moment=instants, milliseconds=st.booleans())
def test_an_instant_is_written_in_utc_with_z_and_reads_back(moment: datetime, milliseconds: bool) -> None:
    """Any aware instant is RFC 3339 in UTC with `Z`, and reads back as itself to the millisecond."""
    text = rfc3339(moment, milliseconds=milliseconds)
    assert RFC_3339.fullmatch(text)
    read = parse_rfc3339(text)
    assert read.utcoffset() == timedelta(0)
    assert timedelta(0) <= moment - read < timedelta(milliseconds=1)
    assert "." in text or not milliseconds


@pytest.mark.parametrize(
    ("moment", "plain", "with_milliseconds"),
    [
        (datetime(2026, 11, 22, 9, 45, tzinfo=UTC), "2026-11-22T09:45:00Z", "2026-11-22T09:45:00.000Z"),
        (
            datetime(2026, 11, 22, 10, 45, tzinfo=timezone(timedelta(hours=1))),
            "2026-11-22T09:45:00Z",
            "2026-11-22T09:45:00.000Z",
        ),
        (datetime(2026, 11, 22, 9, 45, 7, 250_999, tzinfo=UTC), "2026-11-22T09:45:07.250Z", "2026-11-22T09:45:07.250Z"),
        (datetime(2026, 11, 22, 9, 45, 7, 999, tzinfo=UTC), "2026-11-22T09:45:07Z", "2026-11-22T09:45:07.000Z"),
        (datetime(33, 4, 3, tzinfo=UTC), "0033-04-03T00:00:00Z", "0033-04-03T00:00:00.000Z"),
    ],
)
def test_an_instant_shows_milliseconds_where_it_has_any_or_they_are_asked_for(
    moment: datetime, plain: str, with_milliseconds: str
) -> None:
    """Whole seconds are written plainly, as the wire page shows them; `issued_at` always has milliseconds."""
    assert rfc3339(moment) == plain
    assert rfc3339(moment, milliseconds=True) == with_milliseconds


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T09:45:00Z",
        "2026-11-22T09:45:00+00:00",
        "2026-11-22T10:45:00+01:00",
        "2026-11-22T05:15:00-04:30",
        "2026-11-22T09:45:00.000000Z",
        "2026-11-22 09:45:00Z",
    ],
)
def test_an_instant_with_any_offset_is_read_in_utc(text: str) -> None:
    """Every way to write one instant reads as the same instant in UTC."""
    read = parse_rfc3339(text)
    assert read == datetime(2026, 11, 22, 9, 45, tzinfo=UTC)
    assert read.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-22",
        "2026-11-22T09:45:00",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-11-22T25:00:00Z",
        "2026-11-22T09:45:00+25:00",
        "1764000000",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-10:00",
    ],
)
def test_a_text_that_is_no_instant_or_names_no_offset_is_a_value_error(text: str) -> None:
    """No offset is no instant: local time is never guessed; what lies outside the calendar is refused the same way."""
    with pytest.raises(ValueError, match=r"."):
        parse_rfc3339(text)


@settings(deadline=None)
@given(value=figures, digits=st.integers(1, 12))
def test_rounding_keeps_a_figure_to_its_digits(value: float, digits: int) -> None:
    """A figure is at most half a unit of its last digit off, keeps its sign, and does not change when rounded again."""
    rounded = significant(value, digits)
    assert abs(Decimal(rounded) - Decimal(value)) <= abs(Decimal(value)) * Decimal("0.5000001") * Decimal(10) ** (
        1 - digits
    )
    assert math.copysign(1, rounded) == math.copysign(1, value)
    assert significant(rounded, digits) == rounded
    assert len(Decimal(repr(rounded)).normalize().as_tuple().digits) <= digits


@settings(deadline=None)
@given(low=figures, high=figures)
def test_rounding_keeps_the_order_of_figures(low: float, high: float) -> None:
    """An interval's ends never change places by rounding."""
    low, high = min(low, high), max(low, high)
    assert significant(low) <= significant(high)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1.23456789, 1.23457), (0.000123456789, 0.000123457), (1234567.0, 1234570.0), (-58.00000001, -58.0), (0.0, 0.0)],
)
def test_six_digits_are_what_the_wire_shows(value: float, expected: float) -> None:
    """Without a number of digits a figure keeps six."""
    assert significant(value) == expected


@pytest.mark.parametrize("value", [math.inf, -math.inf, 0.0])
def test_what_has_no_digits_stays(value: float) -> None:
    """Zero and infinities pass as they are, and so does what is no number."""
    assert significant(value) == value
    assert math.isnan(significant(math.nan))


@settings(deadline=None)
@given(age=st.floats(min_value=-1e6, max_value=1e6))
def test_an_age_is_told_to_a_tenth_of_a_minute(age: float) -> None:
    """An age is at most 0.05 minutes off, and rounding it again changes nothing, so that two members can be equal."""
    told = minutes(age)
    assert abs(told - age) <= 0.05 + 1e-9
    assert minutes(told) == told


@pytest.mark.parametrize(
    ("age", "expected"), [(46.123, "46.1"), (0.0, "0.0"), (-0.01, "0.0"), (-0.0, "0.0"), (-3.0, "-3.0")]
)
def test_an_age_of_nothing_is_zero_and_not_minus_zero(age: float, expected: str) -> None:
    """A reading a moment ahead of our clock is 0.0 minutes old on the wire."""
    assert repr(minutes(age)) == expected
