"""The period an auditor names: days or instants, UTC, the end not included."""

from __future__ import annotations

from datetime import UTC, date, datetime

from vetted_mw.errors import ConfigurationError
from vetted_mw.instants import parse_rfc3339, rfc3339

__all__ = ["instant_of", "period_of"]

_DATE_CHARACTERS = len("2026-10-01")


def instant_of(text: str, option: str) -> datetime:
    """Read a UTC date, which is its begin, or an RFC 3339 instant.

    Args:
        text: as given.
        option: which option it was given for.

    Raises:
        ConfigurationError: it is neither.
    """
    try:
        if len(text) == _DATE_CHARACTERS:
            return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        return parse_rfc3339(text)
    except ValueError:
        raise ConfigurationError(
            "is no date and no instant.", field=option, remedy="Write 2026-10-01, or 2026-10-01T06:00:00Z."
        ) from None


def period_of(since: str, until: str) -> tuple[str, str]:
    """Return begin and end as receipts write instants, so that they compare as texts.

    Raises:
        ConfigurationError: one of them is no instant, or the end is not after the begin.
    """
    begin, end = instant_of(since, "--from"), instant_of(until, "--to")
    if begin >= end:
        raise ConfigurationError(
            "the period ends before it begins.", field="--to", remedy="Give an end after --from; it is not included."
        )
    return rfc3339(begin, milliseconds=True), rfc3339(end, milliseconds=True)
