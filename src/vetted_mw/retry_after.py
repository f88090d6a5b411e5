"""Read `Retry-After`, the way every service writes it."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["parse_retry_after"]

_MOST_SECONDS = 3600.0


def parse_retry_after(text: str, *, now: datetime, most_seconds: float = _MOST_SECONDS) -> float | None:
    """Return `Retry-After` in seconds (0 to `most_seconds`), from seconds or an HTTP date; None when unreadable."""
    try:
        seconds = _seconds(text.strip(), now)
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), most_seconds) if math.isfinite(seconds) else None


def _seconds(text: str, now: datetime) -> float:
    try:
        return float(text)
    except ValueError:
        moment = parsedate_to_datetime(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - now).total_seconds()
