"""Fingrid's open data: Finland's emission factor, direct emissions only, every three minutes. The key is a header."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vetted_mw.grid.absence import NoSignalReason
from vetted_mw.grid.signal import Method
from vetted_mw.grid.sources.numbers import finite
from vetted_mw.grid.sources.request import Request
from vetted_mw.grid.sources.unreadable import UnreadableError, instant, json_object, latest, rows

if TYPE_CHECKING:
    from datetime import datetime

    from vetted_mw.grid.absence import NoSignal
    from vetted_mw.grid.signal import GridSignal
    from vetted_mw.grid.sources.terms import Terms

__all__ = ["DATASETS", "parse", "request"]

DATASETS = {
    "consumption": (265, Method(accounting="consumption", basis="direct", kind="average", factor_set="fingrid")),
    "production": (266, Method(accounting="production", basis="direct", kind="average", factor_set="fingrid")),
}


def request(base_url: str, *, figure: str, key: str) -> Request:
    """Return the GET for the latest value of electricity consumed (dataset 265) or produced (266) in Finland."""
    number, _method = DATASETS[figure]
    return Request(url=f"{base_url}/api/datasets/{number}/data/latest", headers=(("x-api-key", key),))


def parse(data: bytes, fetched_at: datetime, *, terms: Terms, figure: str) -> GridSignal | NoSignal:
    """Return the latest value."""
    number, method = DATASETS[figure]
    try:
        value = _latest(json_object(data), fetched_at)
        if value.get("datasetId", number) != number:
            return terms.no(NoSignalReason.WRONG_AREA)
        start, end = instant(value.get("startTime")), instant(value.get("endTime"))
    except UnreadableError as error:
        return terms.no(error.reason)
    if not start <= end:
        return terms.no(NoSignalReason.NOT_UNDERSTOOD)
    minutes = round((end - start).total_seconds() / 60)
    return terms.signal(
        finite(value.get("value")),
        data,
        observed_at=end,
        fetched_at=fetched_at,
        method=method,
        resolution_minutes=minutes or None,
    )


def _latest(answer: dict[str, Any], fetched_at: datetime) -> dict[str, Any]:
    """Return the one value, from the plain form or the latest of the list form."""
    if "data" not in answer:
        return answer
    listed = rows(answer, "data")
    if not listed:
        raise UnreadableError(NoSignalReason.NO_DATA)
    if not all(isinstance(row, dict) for row in listed):
        raise UnreadableError(NoSignalReason.NOT_UNDERSTOOD)
    values: list[tuple[datetime, dict[str, Any]]] = [(instant(row.get("endTime")), row) for row in listed]
    return latest(values, fetched_at)[1]
