"""Energy-Charts (Fraunhofer ISE): a country's intensity by the service's own factors, measured and forecast kept apart.

One answer holds both, in two arrays over the same quarters of an hour. Only the measured one is ever live; the service
builds on ENTSO-E and is down when ENTSO-E is.
"""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from vetted_mw.grid.absence import NoSignalReason
from vetted_mw.grid.signal import Method, SignalKind
from vetted_mw.grid.sources.numbers import finite
from vetted_mw.grid.sources.request import Request
from vetted_mw.grid.sources.unreadable import UnreadableError, instant_of_seconds, json_object, latest, rows

if TYPE_CHECKING:
    from datetime import datetime

    from vetted_mw.grid.absence import NoSignal
    from vetted_mw.grid.signal import GridSignal
    from vetted_mw.grid.sources.terms import Terms

__all__ = ["FORECAST", "METHOD", "parse", "parse_forecast", "request"]

FORECAST = "energy_charts_forecast"
METHOD = Method(kind="average", factor_set="energy_charts")
_STEP = timedelta(minutes=15)


def request(base_url: str, terms: Terms) -> Request:
    """Return the GET for today, in the country's local time."""
    return Request(url=f"{base_url}/co2eq?{urlencode({'country': terms.name})}")


def parse(data: bytes, fetched_at: datetime, *, terms: Terms) -> GridSignal | NoSignal:
    """Return the last measured value of a quarter of an hour that is over."""
    try:
        starts, measured, _forecast = _arrays(data)
        found = [
            (instant_of_seconds(start), value)
            for start, value in zip(starts, measured, strict=True)
            if value is not None
        ]
        if not found:
            return terms.no(NoSignalReason.NO_DATA)
        start, value = latest(found, fetched_at, lasting=_STEP)
        end = start + _STEP
    except UnreadableError as error:
        return terms.no(error.reason)
    except OverflowError:
        return terms.no(NoSignalReason.NOT_UNDERSTOOD)
    return terms.signal(
        finite(value), data, observed_at=end, fetched_at=fetched_at, method=METHOD, resolution_minutes=15
    )


def parse_forecast(data: bytes, fetched_at: datetime, *, terms: Terms) -> GridSignal | NoSignal:
    """Return the forecast for the quarter of an hour that holds `fetched_at`; it never decides."""
    try:
        starts, _measured, forecast = _arrays(data)
        for start, value in zip(starts, forecast, strict=True):
            begins = instant_of_seconds(start)
            if value is not None and begins <= fetched_at < begins + _STEP:
                return terms.signal(
                    finite(value),
                    data,
                    observed_at=begins + _STEP,
                    fetched_at=fetched_at,
                    method=METHOD,
                    resolution_minutes=15,
                    kind=SignalKind.FORECAST,
                )
    except UnreadableError as error:
        return terms.no(error.reason)
    return terms.no(NoSignalReason.NO_DATA)


def _arrays(data: bytes) -> tuple[list[Any], list[Any], list[Any]]:
    """Return interval starts, measured and forecast values.

    Raises:
        UnreadableError: one is missing, or they differ in length, so that no value has a sure time; the starts do not
            ascend; or a moment has both a measured value and a forecast.
    """
    answer = json_object(data)
    starts, measured, forecast = (rows(answer, name) for name in ("unix_seconds", "co2eq", "co2eq_forecast"))
    numbers = all(isinstance(start, int) and not isinstance(start, bool) for start in starts)
    if not len(starts) == len(measured) == len(forecast) or not numbers:
        raise UnreadableError(NoSignalReason.NOT_UNDERSTOOD)
    ascend = all(one < other for one, other in itertools.pairwise(starts))
    both = any(one is not None and other is not None for one, other in zip(measured, forecast, strict=True))
    if not ascend or both:
        raise UnreadableError(NoSignalReason.NOT_UNDERSTOOD)
    return starts, measured, forecast
