"""What every reader is made of: numbers, instants, pages for people, units, and what makes a value a signal."""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.samples import LIFECYCLE, NOW
from vetted_mw.grid.absence import NoSignal, NoSignalReason
from vetted_mw.grid.signal import DECLARED, GridSignal, Method, SignalKind
from vetted_mw.grid.sources.numbers import finite, grouped
from vetted_mw.grid.sources.terms import Terms
from vetted_mw.grid.sources.unreadable import (
    UnreadableError,
    instant,
    instant_of_milliseconds,
    instant_of_seconds,
    json_object,
    latest,
    looks_like_html,
    rows,
)
from vetted_mw.grid.units import GRAMS_PER_KWH

if TYPE_CHECKING:
    from collections.abc import Callable

ENDLESS = pytest.param(10**400, id="endless")

# ---- numbers


@pytest.mark.parametrize(
    ("written", "number"),
    [
        (0, 0.0),
        (-0.4, -0.4),
        (38.2, 38.2),
        (10**12, 1e12),
        ("0", 0.0),
        ("489", 489.0),
        ("-6", -6.0),
        ("+6", 6.0),
        ("38.20", 38.2),
        ("1e3", 1000.0),
        ("1E-3", 0.001),
    ],
)
def test_numbers_and_plain_decimal_texts_are_numbers(written: Any, number: float) -> None:
    """As services write them, as numbers or in quotes."""
    assert finite(written) == number
    assert grouped(written) == number


@pytest.mark.parametrize(
    "written",
    [
        None,
        True,
        False,
        "",
        "-",
        "ND",
        "N/A",
        "null",
        "nan",
        "NaN",
        "inf",
        "Infinity",
        "0x10",
        "1_000",
        "1,5",
        "1.2.3",
        ".5",
        "5.",
        "1e400",
        "1e13",
        "12 MW",
        "\u0661\u0662",
        "1\n",
        pytest.param("9" * 5000, id="5000 digits"),
        [],
        [1],
        {},
        b"1",
        math.nan,
        math.inf,
        -math.inf,
        1e300,
        ENDLESS,
        pytest.param(-(10**400), id="endless below"),
        1.0000001e12,
    ],
)
def test_what_is_no_number_is_none(written: Any) -> None:
    """Placeholders, words, truth values, endless ones, and more than any grid makes."""
    assert finite(written) is None
    assert grouped(written) is None


@pytest.mark.parametrize("blank", [" ", "\u00a0", "\u202f", "\u2009"])
def test_only_grouped_texts_may_hold_blanks(blank: str) -> None:
    """Where a service groups thousands they are passed over; elsewhere a blank makes it no number."""
    assert grouped(f"12{blank}345") == 12_345.0
    assert grouped(f"\u22121{blank}345{blank}678.5") == -1_345_678.5
    assert finite(f"12{blank}345") is None


@settings(max_examples=200, deadline=None)
@given(st.integers(-(10**11), 10**11), st.sampled_from([" ", "\u00a0", "\u202f", "\u2009"]))
def test_a_grouped_text_is_the_number_it_shows(number: int, blank: str) -> None:
    """For any number of megawatts, with any of the blanks between its thousands."""
    assert grouped(f"{number:,}".replace(",", blank)) == number


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=20)
    | st.text("0123456789+-.eE \u00a0", max_size=20)
    | st.integers()
    | st.floats()
    | st.booleans()
    | st.none()
)
def test_any_value_is_a_finite_number_or_none(written: Any) -> None:
    """Nothing raises, and what comes back can be summed."""
    for read in (finite, grouped):
        number = read(written)
        assert number is None or (isinstance(number, float) and math.isfinite(number) and abs(number) <= 1e12)


# ---- units


@pytest.mark.parametrize(
    ("unit", "grams"),
    [
        ("g_per_kwh", 1.0),
        ("kg_per_kwh", 1e3),
        ("kg_per_mwh", 1e3 / 1e3),
        ("t_per_mwh", 1e6 / 1e3),
        ("lb_per_mwh", 453.59237 / 1e3),
    ],
)
def test_a_unit_is_its_grams_over_its_kilowatt_hours(unit: str, grams: float) -> None:
    """Each factor from what its name says; no unit is missing here."""
    assert GRAMS_PER_KWH[unit] == grams
    assert len(GRAMS_PER_KWH) == 5


# ---- instants


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2026-11-22T10:31:07Z", NOW),
        ("2026-11-22T10:31:07+00:00", NOW),
        ("2026-11-22T11:31:07+01:00", NOW),
        ("2026-11-22T05:01:07-05:30", NOW),
        ("2026-11-22T10:31:07.000Z", NOW),
        ("2026-11-22 10:31:07Z", NOW),
    ],
)
def test_an_instant_is_read_into_utc(written: str, expected: datetime) -> None:
    """Whatever its offset, the same instant; what is known to be UTC changes nothing where there is an offset."""
    for is_utc in (True, False):
        found = instant(written, is_utc=is_utc)
        assert (found, found.tzinfo) == (expected, UTC)


@pytest.mark.parametrize("written", ["2026-11-22T10:31:07", "2026-11-22T10:31:07.0", "2026-11-22 10:31:07"])
def test_an_instant_without_an_offset_is_one_only_where_it_is_known_to_be_utc(written: str) -> None:
    """Elsewhere it is refused by name."""
    assert instant(written, is_utc=True) == NOW
    assert refused(lambda: instant(written)) is NoSignalReason.NO_OFFSET


@pytest.mark.parametrize("is_utc", [True, False])
@pytest.mark.parametrize(
    "written",
    [
        None,
        True,
        0,
        1.5,
        "",
        "now",
        "10:31",
        "2026-02-30T00:00:00Z",
        "2026-11-22T25:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "2026-11-22T10:31:07+99:00",
        [],
        {},
        b"2026-11-22T10:31:07Z",
    ],
)
def test_what_is_no_instant_is_refused(written: Any, is_utc: bool) -> None:
    """Nothing but a text of a day and time that exist."""
    assert refused(lambda: instant(written, is_utc=is_utc)) is NoSignalReason.NOT_UNDERSTOOD


@pytest.mark.parametrize("count", [None, True, "0", [], {}, math.nan, math.inf, ENDLESS, 1e300, -(10**20)])
@pytest.mark.parametrize("read", [instant_of_seconds, instant_of_milliseconds])
def test_what_is_no_count_of_time_is_refused(read: Callable[[object], datetime], count: Any) -> None:
    """Nothing but a number within the calendar."""
    assert refused(lambda: read(count)) is NoSignalReason.NOT_UNDERSTOOD


MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))  # noqa: DTZ001
OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@settings(max_examples=200, deadline=None)
@given(MOMENTS, OFFSETS)
def test_any_instant_survives_being_written(moment: datetime, offset: timezone) -> None:
    """For any instant and offset the text is read back, and whole milliseconds count up to it."""
    aware = moment.replace(tzinfo=offset)
    assert instant(aware.isoformat()) == aware
    whole = aware.replace(microsecond=0)
    since = (whole - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    assert instant_of_seconds(since) == instant_of_milliseconds(since * 1000) == whole


# ---- documents


def refused(read: Callable[[], object]) -> NoSignalReason:
    """Return why `read` refuses; its error holds the reason and nothing else."""
    with pytest.raises(UnreadableError) as caught:
        read()
    assert caught.value.args == (caught.value.reason.value,)
    assert caught.value.__cause__ is None
    return caught.value.reason


@pytest.mark.parametrize("before", [b"", b" ", b"\r\n\t ", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
@pytest.mark.parametrize("page", [b"<!doctype html>", b"<!DOCTYPE HTML PUBLIC", b"<html>", b"<HTML lang=en>"])
def test_a_page_is_told_by_its_start(before: bytes, page: bytes) -> None:
    """Blanks and a byte-order mark before it do not hide it."""
    assert looks_like_html(before + page)
    assert refused(lambda: json_object(before + page)) is NoSignalReason.HTML_PAGE


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"{}"',
        b"{}{}",
        b"\xff\xfe{\x00}\x00",
        b'{"a":NaN}',
        b'{"a":1e999}',
        b"{'a':1}",
        b'{"a":"\xff"}',
        b'{"a":' * 10_000,
        b"page not found",
        b"<?xml version='1.0'?>",
    ],
)
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    """Text, other JSON, what is cut short, wrongly encoded or nested without end."""
    assert not looks_like_html(data)
    assert refused(lambda: json_object(data)) is NoSignalReason.NOT_UNDERSTOOD


def test_a_byte_order_mark_is_passed_over() -> None:
    """Some servers write one."""
    assert json_object(b'\xef\xbb\xbf{"a": [1]}') == {"a": [1]}


@pytest.mark.parametrize("table", [{}, {"a": None}, {"a": {}}, {"a": "[]"}, {"a": 0}, {"b": []}])
def test_rows_that_are_no_list_are_refused(table: dict[str, Any]) -> None:
    """A list, even an empty one, or nothing."""
    assert refused(lambda: rows(table, "a")) is NoSignalReason.NOT_UNDERSTOOD
    assert rows({"a": []}, "a") == []


@pytest.mark.parametrize("container", [b"[]", b"{}", b"[[[[]]]]", b'{"a":{}}'])
def test_json_of_too_many_parts_is_not_decoded(container: bytes) -> None:
    """Lists and objects are a few bytes each and take long all the same; as many as any answer has are read."""
    assert json_object(b'{"a":[' + container + b"," + b"0," * 100_000 + b"0]}")["a"][-1] == 0
    many = b'{"a":[' + (container + b",") * 20_000 + b"0]}"
    assert refused(lambda: json_object(many)) is NoSignalReason.TOO_LARGE


EARLIER = [(NOW - timedelta(minutes=minutes), minutes) for minutes in (30, -5, 15, -6, 0, -600)]


@pytest.mark.parametrize(("lasting", "expected"), [(0, -5), (5, 0), (6, 15), (15, 15), (30, 30), (60, -600)])
def test_the_latest_value_is_the_latest_whose_time_is_over(lasting: int, expected: int) -> None:
    """In any order, five minutes of skew allowed; where the time of none is over it is the latest of all."""
    for found in (EARLIER, EARLIER[::-1]):
        assert latest(found, NOW, lasting=timedelta(minutes=lasting)) == (NOW - timedelta(minutes=expected), expected)


# ---- what makes a value a signal

TERMS = Terms(
    source="own_live",
    zone="SE_3",
    area="SE",
    name="se",
    max_age_minutes=42.0,
    max_proxy_share=0.3,
    min_total_mw=100.0,
)
BODY = b'{"value": 1}'


def of_value(value: float | None, **members: Any) -> GridSignal | NoSignal:
    given_: dict[str, Any] = {"observed_at": NOW, "fetched_at": NOW, "method": DECLARED}
    return TERMS.signal(value, BODY, **(given_ | members))


def of_mix(mix: dict[str, float]) -> GridSignal | NoSignal:
    return TERMS.signal_of_mix(mix, BODY, observed_at=NOW, fetched_at=NOW, resolution_minutes=60)


def test_a_signal_carries_its_terms_and_its_bodys_digest() -> None:
    """Zone, area, label, limits and lineage; what the reader says of it holds."""
    later = NOW + timedelta(seconds=3)
    found = of_value(7.0, fetched_at=later, kind=SignalKind.FORECAST, estimated=True, resolution_minutes=5)
    assert found == GridSignal(
        source="own_live",
        zone="SE_3",
        area="SE",
        kind=SignalKind.FORECAST,
        gco2_per_kwh=7.0,
        observed_at=NOW,
        fetched_at=later,
        max_age_minutes=42.0,
        max_proxy_share=0.3,
        estimated=True,
        resolution_minutes=5,
        raw_ref=hashlib.sha256(BODY).hexdigest(),
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, NoSignalReason.NOT_A_NUMBER),
        (-1e-9, NoSignalReason.NOT_A_NUMBER),
        (math.nan, NoSignalReason.NOT_A_NUMBER),
        (-math.inf, NoSignalReason.NOT_A_NUMBER),
        (math.inf, NoSignalReason.IMPLAUSIBLE),
        (3000.001, NoSignalReason.IMPLAUSIBLE),
        (0.0, NoSignalReason.IMPLAUSIBLE),
        (0.999, NoSignalReason.IMPLAUSIBLE),
    ],
)
def test_what_is_no_intensity_gives_its_reason(value: float | None, reason: NoSignalReason) -> None:
    """Nothing, a negative, more than any grid emits, or less than any does over the life cycle of its plants."""
    assert of_value(value) == NoSignal(source="own_live", zone="SE_3", reason=reason)


@pytest.mark.parametrize(
    ("value", "basis"),
    [(1.0, "unknown"), (1.0, "lifecycle"), (3000.0, "unknown"), (0.0, "direct"), (0.999, "direct"), (3000.0, "direct")],
)
def test_the_bounds_are_values(value: float, basis: Literal["lifecycle", "direct", "unknown"]) -> None:
    """The least and the most there may be; of direct emissions alone there may be none."""
    assert isinstance(of_value(value, method=Method(basis=basis)), GridSignal)


@pytest.mark.parametrize("value", [-1.0, math.nan, 3000.001])
def test_direct_emissions_have_the_other_bounds_all_the_same(value: float) -> None:
    """Less than none, none that is a number, and more than any grid emits."""
    assert isinstance(of_value(value, method=Method(basis="direct")), NoSignal)


def test_a_mix_is_summed_under_the_zones_factors() -> None:
    """Sweden's own factor for what is not specified, storage in neither sum, a negative as 0, all of it in the mix."""
    found = of_mix({"B14": 80.0, "B20": 20.0, "B10": 500.0, "B19": -5.0})
    assert isinstance(found, GridSignal)
    assert found.gco2_per_kwh == pytest.approx((80 * 12 + 20 * 258) / 100)
    assert found.proxy_share == pytest.approx(0.2)
    assert found.max_proxy_share == 0.3
    assert (found.method, found.resolution_minutes) == (LIFECYCLE, 60)
    assert dict(found.mix)["B19"] == 0.0
    assert found.raw_ref == hashlib.sha256(BODY).hexdigest()


@pytest.mark.parametrize("mix", [{}, {"B14": 0.0}, {"B14": -500.0}, {"B14": 99.9}, {"B10": 5000.0, "B25": 900.0}])
def test_a_mix_of_nothing_or_too_little_is_not_believed(mix: dict[str, float]) -> None:
    """Below what the zone always makes, fuels have vanished from the data; storage does not count."""
    assert of_mix(mix) == NoSignal(source="own_live", zone="SE_3", reason=NoSignalReason.IMPLAUSIBLE)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["B01", "B04", "B10", "B14", "B20", "B99"]), st.floats(-1e12, 1e12)))
def test_any_mix_is_a_signal_within_its_factors_or_none(mix: dict[str, float]) -> None:
    """For any amounts: an intensity between the smallest and the largest factor, a share between 0 and 1."""
    found = of_mix(mix)
    if isinstance(found, GridSignal):
        assert 12.0 * (1 - 1e-9) <= found.gco2_per_kwh <= 490.0 * (1 + 1e-9)
        assert found.proxy_share is not None
        assert 0.0 <= found.proxy_share <= 1.0
        assert all(megawatts >= 0 for _code, megawatts in found.mix)
    else:
        assert sum(max(one, 0.0) for code, one in mix.items() if code != "B10") < 100.0 * (1 + 1e-9)
