"""What every parser meets first: is it JSON at all, or a page for people."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from vetted_mw.grid.absence import Cause, NoSignalReason
from vetted_mw.grid.signal import MAX_SKEW_MINUTES
from vetted_mw.grid.sources.request import MAX_JSON_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "UnreadableError",
    "horizon",
    "instant",
    "instant_of_milliseconds",
    "instant_of_seconds",
    "json_object",
    "json_value",
    "latest",
    "looks_like_html",
    "rows",
]

_MOST_CONTAINERS = 20_000  # fifty times as many as the largest real answer has; a million of them are a second of work
_HTML = (b"<!doctype html", b"<html")
_SKEW = timedelta(minutes=MAX_SKEW_MINUTES)
_Value = TypeVar("_Value")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("beyond every number")
    return number


_JSON = msgspec.json.Decoder(float_hook=_float)
"""With its own reading of floats, which takes ten times as long, 512 KiB of them would hold everything up for 0.2 s."""


class UnreadableError(Exception):
    """The bytes are not what was asked for. Content-free: it carries the reason, no text of theirs."""

    def __init__(self, reason: NoSignalReason, cause: Cause | None = None) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.cause = cause


def looks_like_html(data: bytes) -> bool:
    """Whether a body is a page for people, as maintenance is told, with whatever status."""
    return data.lstrip(b"\xef\xbb\xbf \t\r\n")[:16].lower().startswith(_HTML)


def json_value(data: bytes) -> Any:
    """Read JSON. The decoder lets no other thread run meanwhile, so what would take it long is not decoded.

    Raises:
        UnreadableError: it is a page, larger than any real answer, or no JSON.
    """
    if looks_like_html(data):
        raise UnreadableError(NoSignalReason.HTML_PAGE)
    if len(data) > MAX_JSON_BYTES or data.count(b"[") + data.count(b"{") > _MOST_CONTAINERS:
        raise UnreadableError(NoSignalReason.TOO_LARGE)
    try:
        return _JSON.decode(data.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError):
        raise UnreadableError(NoSignalReason.NOT_UNDERSTOOD) from None


def json_object(data: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UnreadableError: as `json_value`, and when it is no object.
    """
    found = json_value(data)
    if not isinstance(found, dict):
        raise UnreadableError(NoSignalReason.NOT_UNDERSTOOD)
    return found


def rows(table: Mapping[str, Any], name: str) -> list[Any]:
    """Return the list that stands under `name`.

    Raises:
        UnreadableError: there is none.
    """
    found = table.get(name)
    if not isinstance(found, list):
        raise UnreadableError(NoSignalReason.NOT_UNDERSTOOD)
    return found


def horizon(fetched_at: datetime) -> datetime:
    """Return how late an interval can have ended that is in an answer of this instant: clocks differ a little."""
    return fetched_at + _SKEW


def latest(
    found: Sequence[tuple[datetime, _Value]], fetched_at: datetime, *, lasting: timedelta = timedelta()
) -> tuple[datetime, _Value]:
    """Return the latest of some values, leaving out those whose time is yet to come.

    Where all are, the latest of them is returned: as a signal it is refused for that, which is seen.

    Args:
        found: one value or more with their instants, in any order.
        fetched_at: when they came.
        lasting: how long after its instant a value's interval ends.
    """
    over = [one for one in found if one[0] <= horizon(fetched_at) - lasting]
    return max(over or found, key=lambda one: one[0])


def instant(value: object, *, is_utc: bool = False) -> datetime:
    """Read an ISO 8601 instant.

    Args:
        value: the text.
        is_utc: whether a text without an offset is known to be UTC.

    Raises:
        UnreadableError: it is none, or its offset is not known.
    """
    try:
        moment = datetime.fromisoformat(value)  # type: ignore[arg-type]
        if moment.tzinfo is None:
            if not is_utc:
                raise UnreadableError(NoSignalReason.NO_OFFSET)
            moment = moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        raise UnreadableError(NoSignalReason.NOT_UNDERSTOOD) from None


def instant_of_seconds(seconds: object) -> datetime:
    """Read unix seconds.

    Raises:
        UnreadableError: they are none.
    """
    return _since_epoch(seconds, timedelta(seconds=1))


def instant_of_milliseconds(milliseconds: object) -> datetime:
    """Read unix milliseconds.

    Raises:
        UnreadableError: they are none.
    """
    return _since_epoch(milliseconds, timedelta(milliseconds=1))


def _since_epoch(count: object, unit: timedelta) -> datetime:
    if isinstance(count, bool) or not isinstance(count, (int, float)):
        raise UnreadableError(NoSignalReason.NOT_UNDERSTOOD)
    try:
        return _EPOCH + count * unit
    except (ValueError, OverflowError):
        raise UnreadableError(NoSignalReason.NOT_UNDERSTOOD) from None
