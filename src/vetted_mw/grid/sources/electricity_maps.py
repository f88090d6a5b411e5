"""Electricity Maps: consumption-based, flow-traced intensity by the service's own factors. The key is a header.

An unknown zone is asked to be an error: left to itself the service answers for the place of the caller's address.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from vetted_mw.grid.absence import NoSignalReason
from vetted_mw.grid.signal import Method
from vetted_mw.grid.sources.numbers import finite
from vetted_mw.grid.sources.request import Request
from vetted_mw.grid.sources.unreadable import UnreadableError, instant, json_object

if TYPE_CHECKING:
    from datetime import datetime

    from vetted_mw.grid.absence import NoSignal
    from vetted_mw.grid.signal import GridSignal
    from vetted_mw.grid.sources.terms import Terms

__all__ = ["METHODS", "parse", "request"]

_HOUR = timedelta(hours=1)
METHODS = {
    "lifecycle": Method(accounting="consumption", basis="lifecycle", kind="average", factor_set="electricity_maps"),
    "direct": Method(accounting="consumption", basis="direct", kind="average", factor_set="electricity_maps"),
}


def request(base_url: str, terms: Terms, *, figure: str, key: str) -> Request:
    """Return the GET for the latest hour, estimates and guesses of our place turned off."""
    query = {
        "zone": terms.name,
        "emissionFactorType": figure,
        "disableEstimations": "true",
        "shouldUseFallbackCallerLookup": "false",
    }
    return Request(url=f"{base_url}/v3/carbon-intensity/latest?{urlencode(query)}", headers=(("auth-token", key),))


def parse(data: bytes, fetched_at: datetime, *, terms: Terms, figure: str) -> GridSignal | NoSignal:
    """Return the latest hour's value; what the service estimated is marked, what is of another zone refused."""
    try:
        answer = json_object(data)
        if answer.get("zone") != terms.name:
            return terms.no(NoSignalReason.WRONG_AREA)
        end = instant(answer.get("datetime")) + _HOUR
    except UnreadableError as error:
        return terms.no(error.reason)
    except OverflowError:
        return terms.no(NoSignalReason.NOT_UNDERSTOOD)
    if answer.get("emissionFactorType", figure) != figure:
        return terms.no(NoSignalReason.NOT_UNDERSTOOD)
    return terms.signal(
        finite(answer.get("carbonIntensity")),
        data,
        observed_at=end,
        fetched_at=fetched_at,
        method=METHODS[figure],
        resolution_minutes=60,
        estimated=answer.get("isEstimated") is not False,
    )
