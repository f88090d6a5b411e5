"""`Retry-After` in every form services write, and in those they should not: a wait within bounds, or none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vetted_mw.proxy.outcome import retry_after_seconds
from vetted_mw.retry_after import parse_retry_after

NOW = datetime(2026, 11, 22, 10, 31, 7, tzinfo=UTC)
unhurried = settings(max_examples=300, deadline=None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        ("007", 7.0),
        ("120", 120.0),
        (" 30\t", 30.0),
        ("0.83", 0.83),
        ("2.", 2.0),
        ("3600", 3600.0),
        ("3601", 3600.0),
        ("86400", 3600.0),
        ("9" * 400, 3600.0),
        ("9" * 5000, 3600.0),
        ("0." + "1" * 5000, 1 / 9),
        ("-0", 0.0),
        ("-5", 0.0),
        ("-" + "9" * 400, 0.0),
    ],
)
def test_seconds_are_read_and_the_longest_wait_is_an_hour(text: str, seconds: float) -> None:
    """Whole seconds and fractions of them are the wait; longer than an hour is an hour, less than nothing is none."""
    assert parse_retry_after(text, now=NOW) == pytest.approx(seconds)


FORMS = {
    "IMF-fixdate": "%a, %d %b %Y %H:%M:%S GMT",
    "RFC 850": "%A, %d-%b-%y %H:%M:%S GMT",
    "asctime": "%a %b %e %H:%M:%S %Y",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize(
    ("later", "seconds"), [(90, 90.0), (0, 0.0), (-5, 0.0), (-(10**8), 0.0), (3600, 3600.0), (10**7, 3600.0)]
)
def test_each_of_the_three_forms_of_a_date_is_read(form: str, later: int, seconds: float) -> None:
    """A date in any form a recipient must accept is the time until it: none when it is past, an hour at most."""
    assert parse_retry_after((NOW + timedelta(seconds=later)).strftime(form), now=NOW) == seconds


def test_a_date_of_a_day_with_one_digit_is_read() -> None:
    """asctime writes such a day after two blanks."""
    now = datetime(1994, 11, 6, 8, 49, 0, tzinfo=UTC)
    for text in ("Sun Nov  6 08:49:37 1994", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT"):
        assert parse_retry_after(text, now=now) == 37.0


def test_a_date_is_read_in_its_own_zone() -> None:
    """Services that write their own zone for GMT mean it."""
    there = (NOW + timedelta(seconds=60)).astimezone(timezone(timedelta(hours=2)))
    assert parse_retry_after(format_datetime(there), now=NOW) == 60.0


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "--5", "- 5", "+5", "1e3", "inf", "Infinity", "nan", "NaN", "0x10", "1_000", "1,5", "5, 10", "5;10"),
        *(
            "5 s",
            "5s",
            "1 0",
            ".",
            ".5",
            "\u0665",
            "\uff15",
            "5\u00a0",
            "\u22125",
            "soon",
            "null",
            "true",
            "[5]",
            '"5"',
        ),
        *("5\n", "\x005", "5\r\nx: y"),
        *("Sun, 99 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994", "Sun, 06 Foo 1994 08:49:37 GMT"),
        *("Sun, 06 Nov 1994 99:49:37 GMT", "Sun, 06 Nov 99999 08:49:37 GMT"),
        *("Sun, 06 Nov 1994 08:49:37 +9999999999", "Sun, 0\u0666 Nov 2026 08:49:37 GMT", "2026-11-22T10:31:07Z"),
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
    ],
)
def test_what_is_neither_is_not_read(text: str) -> None:
    """A plus, an exponent, a word, a list, digits of another alphabet and impossible dates say nothing."""
    assert parse_retry_after(text, now=NOW) is None


def test_the_first_and_the_last_moment_there_is_are_read() -> None:
    """A date at the edge of what dates can be is past, or an hour away."""
    assert parse_retry_after("Mon, 01 Jan 0001 00:00:00 GMT", now=NOW) in {0.0, None}  # email reads 1 as 2001
    assert parse_retry_after("Fri, 31 Dec 9999 23:59:59 GMT", now=NOW) == 3600.0
    assert parse_retry_after("Fri, 31 Dec 9999 23:59:59 -2359", now=NOW) in {3600.0, None}


@unhurried
@given(
    text=st.text(max_size=40)
    | st.from_regex(r"[A-Z][a-z]{2},? ?[0-9 :A-Za-z+-]{0,40}", fullmatch=True)
    | st.builds(
        "{}, {} {} {} {}:{}:{} {}".format,
        st.sampled_from(["Sun", "Sunday", "X"]),
        *(st.integers(-1, 10**5) for _ in range(1)),
        st.sampled_from(["Jan", "Dec", "13"]),
        *(st.integers(-1, 10**5) for _ in range(4)),
        st.sampled_from(["GMT", "-0000", "+2400", "-99999999999999", "EST", ""]),
    )
)
def test_no_text_raises_and_every_wait_is_within_bounds(text: str) -> None:
    """Whatever an upstream writes is a wait of 0 to 3600 seconds, or none."""
    seconds = parse_retry_after(text, now=NOW)
    assert seconds is None or 0.0 <= seconds <= 3600.0


@unhurried
@given(raw=st.binary(max_size=60))
def test_no_bytes_of_a_header_raise(raw: bytes) -> None:
    """The header's bytes are read as they are; absent is none."""
    seconds = retry_after_seconds([(b"retry-after", raw)], now=NOW)
    assert seconds is None or 0.0 <= seconds <= 3600.0
    assert retry_after_seconds([], now=NOW) is None
