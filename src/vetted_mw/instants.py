"""Instants as the wire writes them: RFC 3339, UTC, `Z`."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

__all__ = ["parse_rfc3339", "rfc3339", "rfc3339_bytes"]

_WRITE = msgspec.json.Encoder().encode


def rfc3339(moment: datetime, *, milliseconds: bool = False) -> str:
    """Write an aware instant in UTC with `Z`; fractions are kept to the millisecond, always written if asked for."""
    return rfc3339_bytes(moment, milliseconds=milliseconds).decode()


def rfc3339_bytes(moment: datetime, *, milliseconds: bool = False) -> bytes:
    """Write it as `rfc3339` does, as bytes."""
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    written = _WRITE(utc)  # quoted, with six digits of a fraction or none: a quarter of the time `isoformat` takes
    if milliseconds or utc.microsecond >= 1000:  # noqa: PLR2004 (below a millisecond nothing would show)
        return (written[1:24] if utc.microsecond else written[1:20] + b".000") + b"Z"
    return written[1:20] + b"Z"


def parse_rfc3339(text: str) -> datetime:
    """Read an instant that names its offset.

    Raises:
        ValueError: it is none, or names no offset.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("an instant needs an offset, for example 2026-11-22T09:45:00Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("an instant must lie in the years 1 to 9999 in UTC") from None
