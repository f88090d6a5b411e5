"""Read `Retry-After`, the way every service writes it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["parse_retry_after"]

_MOST_SECONDS = 3600.0
_SECONDS = re.compile(r"-?[0-9]+(?:\.[0-9]*)?")
_DATE = re.compile(r"[A-Z][a-z]+,? .{16,32}")
"""What the three forms of an HTTP date (RFC 9110 §5.6.7) begin with: the name of a day."""


def parse_retry_after(text: str, *, now: datetime, most_seconds: float = _MOST_SECONDS) -> float | None:
    """Return `Retry-After` in seconds (0 to `most_seconds`), from seconds or an HTTP date; None when unreadable.

    RFC 9110 §10.2.3 has whole seconds only. Services send fractions too, and those are taken as they are; an exponent,
    a word for infinity, digits of another alphabet or a list are not read. What is longer than `most_seconds`, is
    negative, or lies in the past is still read: as the longest wait, or as no wait.

    Args:
        text: the header's value.
        now: the time by which a date is read; aware.
        most_seconds: the longest wait taken.
    """
    text = text.strip(" \t")
    seconds = float(text) if _SECONDS.fullmatch(text) else _seconds_until(text, now)
    return None if seconds is None else min(max(seconds, 0.0), most_seconds)


def _seconds_until(text: str, now: datetime) -> float | None:
    if not text.isascii() or not _DATE.fullmatch(text):
        return None
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:  # "-0000", or asctime's form, which names no zone
            moment = moment.replace(tzinfo=UTC)
        return (moment - now).total_seconds()
    except (ValueError, OverflowError):
        return None
