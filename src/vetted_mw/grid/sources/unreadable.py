"""What every parser meets first: is it JSON at all, or a page for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.grid.absence import Cause, NoSignalReason

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "UnreadableError",
    "instant",
    "instant_of_milliseconds",
    "instant_of_seconds",
    "json_object",
    "looks_like_html",
    "rows",
]

_HTML = (b"<!doctype html", b"<html")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class UnreadableError(Exception):
    """The bytes are not what was asked for. Content-free: it carries the reason, no text of theirs."""

    def __init__(self, reason: NoSignalReason, cause: Cause | None = None) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.cause = cause


def looks_like_html(data: bytes) -> bool:
    """Whether a body is a page for people, as maintenance is told, with whatever status."""
    return data.lstrip(b"\xef\xbb\xbf \t\r\n")[:16].lower().startswith(_HTML)


def json_object(data: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UnreadableError: it is a page, no JSON, or no object.
    """
    if looks_like_html(data):
        raise UnreadableError(NoSignalReason.HTML_PAGE)
    try:
        found = msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError):
        raise UnreadableError(NoSignalReason.NOT_UNDERSTOOD) from None
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
