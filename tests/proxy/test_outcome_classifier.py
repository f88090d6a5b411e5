"""The one classifier: every status has one outcome, and `Retry-After` is read in both its forms."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vetted_mw.configuration import Auth
from vetted_mw.proxy.outcome import AttemptFailedError, Fault, fails_over, outcome_of_status, retry_after_seconds
from vetted_mw.routing.decision import AttemptOutcome

NOW = datetime(2026, 11, 22, 10, 30, tzinfo=UTC)
unhurried = settings(max_examples=200, deadline=None)


def _row(status: int, *, waits: bool, auth: Auth) -> AttemptOutcome:
    """The contract's table, read from the top; a caller error is any 4xx that no other row names."""
    if 200 <= status < 300:
        return AttemptOutcome.SUCCESS
    if status < 400:
        return AttemptOutcome.INVALID_RESPONSE
    if status in {429, 529} or (status == 503 and waits):
        return AttemptOutcome.SATURATED
    if status >= 500 or status == 408 or (status in {401, 403} and auth is not Auth.PASSTHROUGH):
        return AttemptOutcome.UPSTREAM_ERROR
    return AttemptOutcome.CALLER_ERROR


@pytest.mark.parametrize("auth", list(Auth))
@pytest.mark.parametrize("waits", [False, True], ids=["", "retry-after"])
def test_every_status_has_the_outcome_of_the_table(waits: bool, auth: Auth) -> None:
    """Row by row as the contract has it, for every status there can be."""
    for status in range(100, 600):
        expected = _row(status, waits=waits, auth=auth)
        assert outcome_of_status(status, auth=auth, has_retry_after=waits) is expected, status


@pytest.mark.parametrize("outcome", list(AttemptOutcome))
def test_only_success_the_callers_own_fault_its_leaving_and_our_shutdown_end_the_walk(outcome: AttemptOutcome) -> None:
    """Every other outcome before commit fails over."""
    ending = {
        AttemptOutcome.SUCCESS,
        AttemptOutcome.CALLER_ERROR,
        AttemptOutcome.CLIENT_DISCONNECT,
        AttemptOutcome.SHUTTING_DOWN,
    }
    assert fails_over(outcome) is (outcome not in ending)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"7", 7.0),
        (b" 7 ", 7.0),
        (b"0", 0.0),
        (b"2.5", 2.5),
        (b"-3", 0.0),
        (b"86400", 3600.0),
        (b"", None),
        (b"soon", None),
        (b"nan", None),
        (b"inf", None),
        (b"1e400", None),
        (b"7 seconds", None),
        (b"\xff", None),
        (b"Sun, 22 Nov 2026 10:30:42 GMT", 42.0),
        (b"Sunday, 22-Nov-26 10:31:00 GMT", 60.0),
        (b"Sun, 22 Nov 2026 10:29:00 GMT", 0.0),
        (b"Sun, 22 Nov 2027 10:30:00 GMT", 3600.0),
        (b"Sun, 22 Nov 2026 11:31:00 +0100", 60.0),
        (b"Sun Nov 22 10:30:42 2026", 42.0),
        (b"Sun, 99 Nov 2026 10:30:42 GMT", None),
        (b"Sun, 22 Nov 99999 10:30:42 GMT", None),
    ],
)
def test_retry_after_is_read_in_seconds_or_as_a_date(value: bytes, seconds: float | None) -> None:
    """Both forms, never negative, never over an hour; what cannot be read counts as absent."""
    assert retry_after_seconds([(b"Retry-After", value)], now=NOW) == seconds


def test_no_header_is_no_wait() -> None:
    """Absent is None, which is not zero."""
    assert retry_after_seconds([(b"date", b"x")], now=NOW) is None


@unhurried
@given(value=st.one_of(st.binary(max_size=40), st.text(max_size=30).map(lambda text: text.encode("utf-8", "replace"))))
def test_no_retry_after_raises_or_leaves_its_bounds(value: bytes) -> None:
    """Whatever an upstream writes, the wait is None or between zero and an hour."""
    seconds = retry_after_seconds([(b"retry-after", value)], now=NOW)
    assert seconds is None or 0 <= seconds <= 3600


@unhurried
@given(ahead=st.integers(min_value=0, max_value=3600))
def test_seconds_and_date_say_the_same(ahead: int) -> None:
    """A date so many seconds ahead is the wait of so many seconds."""
    date = format_datetime(NOW + timedelta(seconds=ahead), usegmt=True).encode()
    headers = [[(b"retry-after", value)] for value in (date, str(ahead).encode())]
    assert [retry_after_seconds(one, now=NOW) for one in headers] == [ahead, ahead]


def test_a_failed_attempt_says_its_outcome_and_nothing_an_upstream_wrote() -> None:
    """The exception's text is the outcome's name: it may land in any log."""
    error = AttemptFailedError(Fault(outcome=AttemptOutcome.UPSTREAM_CUT, status=200))
    assert str(error) == "upstream_cut"
