"""Services we do not know, read by the operator's description of where value and time stand and how it was made."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from vetted_mw.grid.absence import Cause, NoSignal, NoSignalReason
from vetted_mw.grid.sources.numbers import finite
from vetted_mw.grid.sources.request import Request
from vetted_mw.grid.sources.unreadable import (
    UnreadableError,
    instant,
    instant_of_milliseconds,
    instant_of_seconds,
    json_value,
)
from vetted_mw.grid.units import GRAMS_PER_KWH

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from vetted_mw.grid.signal import GridSignal
    from vetted_mw.grid.sources.terms import Terms
    from vetted_mw.signal_configuration import JsonReading

__all__ = ["LABEL", "at_path", "parse", "request"]

LABEL = "http_json"
_Read = TypeVar("_Read")
_LEAST_MILLISECONDS = 100_000_000_000
"""Seconds up to here reach the year 5138; milliseconds down to here are of 1973."""


def request(reading: JsonReading) -> Request:
    """Return the GET; in `authorization` a key is a bearer token."""
    if reading.key is None:
        return Request(url=reading.url.reveal())
    scheme = "Bearer " if reading.header == "authorization" else ""
    return Request(url=reading.url.reveal(), headers=((reading.header, scheme + reading.key.reveal()),))


def parse(data: bytes, fetched_at: datetime, *, terms: Terms, reading: JsonReading) -> GridSignal | NoSignal:
    """Return the value that stands at the described place, in gCO2e/kWh."""
    try:
        answer = json_value(data)
        observed_at = _of(Cause.OBSERVED_AT, answer, reading.observed_at, _time)
        value = _of(Cause.VALUE, answer, reading.value, _number)
        is_measured = not reading.estimated or _of(Cause.ESTIMATED, answer, reading.estimated, _is_false)
    except UnreadableError as error:
        return terms.no(error.reason, error.cause)
    found = terms.signal(
        value * GRAMS_PER_KWH[reading.unit],
        data,
        observed_at=observed_at,
        fetched_at=fetched_at,
        method=reading.method,
        estimated=not is_measured,
    )
    return replace(found, cause=Cause.VALUE) if isinstance(found, NoSignal) else found


def at_path(answer: Any, path: str) -> Any:
    """Follow `data.0.intensity.actual`; a number counts a list's items, from its end when negative.

    Raises:
        UnreadableError: there is nothing at that place.
    """
    found = answer
    for name in path.split("."):
        try:
            found = found[int(name)] if isinstance(found, list) else found[name]
        except (KeyError, IndexError, ValueError, TypeError):
            raise UnreadableError(NoSignalReason.NOT_UNDERSTOOD) from None
    return found


def _of(place: Cause, answer: Any, path: str, read: Callable[[Any], _Read]) -> _Read:
    """Read what stands at one of the described places; a fault names the place."""
    try:
        return read(at_path(answer, path))
    except UnreadableError as error:
        raise UnreadableError(error.reason, place) from None


def _number(value: Any) -> float:
    number = finite(value)
    if number is None:
        raise UnreadableError(NoSignalReason.NOT_A_NUMBER)
    return number


def _is_false(value: Any) -> bool:
    return value is False


def _time(value: Any) -> datetime:
    if isinstance(value, str):
        return instant(value)
    if isinstance(value, (int, float)) and abs(value) >= _LEAST_MILLISECONDS:
        return instant_of_milliseconds(value)
    return instant_of_seconds(value)
