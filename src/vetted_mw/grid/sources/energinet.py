"""Energinet's Energi Data Service: Denmark's two zones, location-based with exchange, every five minutes. No key."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from vetted_mw.grid.absence import NoSignalReason
from vetted_mw.grid.signal import Method
from vetted_mw.grid.sources.numbers import finite
from vetted_mw.grid.sources.request import Request
from vetted_mw.grid.sources.unreadable import UnreadableError, instant, json_object, latest, rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from vetted_mw.grid.absence import NoSignal
    from vetted_mw.grid.signal import GridSignal
    from vetted_mw.grid.sources.terms import Terms

__all__ = ["METHOD", "parse", "request"]

METHOD = Method(accounting="consumption", kind="average", factor_set="energinet")
_DATASET = "CO2Emis"
_STEP = timedelta(minutes=5)
_ROWS_PER_AREA = 12


def request(base_url: str, areas: Sequence[str]) -> Request:
    """Return the one GET for all areas: a dataset may be asked once a minute."""
    query = {
        "start": "now-PT2H",
        "filter": json.dumps({"PriceArea": list(areas)}, separators=(",", ":")),
        "sort": "Minutes5UTC DESC",
        "limit": str(_ROWS_PER_AREA * len(areas)),
    }
    return Request(url=f"{base_url}/dataset/{_DATASET}?{urlencode(query)}")


def parse(data: bytes, fetched_at: datetime, *, terms: Terms) -> GridSignal | NoSignal:
    """Return the latest five minutes of one area. `CO2EmisProg`, the forecast, is another dataset and refused."""
    try:
        answer = json_object(data)
        if answer.get("dataset") != _DATASET:
            return terms.no(NoSignalReason.NOT_UNDERSTOOD)
        listed = rows(answer, "records")
        if not all(isinstance(row, dict) for row in listed):
            return terms.no(NoSignalReason.NOT_UNDERSTOOD)
        found = [
            (instant(row.get("Minutes5UTC"), is_utc=True), row.get("CO2Emission"))
            for row in listed
            if row.get("PriceArea") == terms.name and row.get("CO2Emission") is not None
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
        finite(value), data, observed_at=end, fetched_at=fetched_at, method=METHOD, resolution_minutes=5
    )
