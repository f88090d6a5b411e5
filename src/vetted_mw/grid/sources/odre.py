"""RTE's eCO2mix on ODRE: France's generation by type, quarter by quarter, independent of ENTSO-E. No key.

The mix is turned into an intensity under our factors. RTE's own figure (`figure = "taux_co2"`) counts direct emissions
only, so it never competes with life-cycle values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

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

__all__ = ["DIRECT", "METHOD", "parse", "parse_direct", "request"]

DIRECT = "rte_eco2mix_direct"
METHOD = Method(accounting="production", basis="direct", kind="average", factor_set="rte")
_PATH = "/api/explore/v2.1/catalog/datasets/eco2mix-national-tr/records"
_QUERY = {"where": "taux_co2 is not null", "order_by": "date_heure desc", "limit": "8", "timezone": "UTC"}
_RESOLUTION_MINUTES = 15
# Left out: pumped storage and batteries, whose energy was counted when it was made, and the sums of what is listed.
_TYPES = {
    "nucleaire": "B14",
    "gaz": "B04",
    "charbon": "B05",
    "fioul": "B06",
    "eolien": "B19",
    "solaire": "B16",
    "bioenergies": "B01",
    "hydraulique_fil_eau_eclusee": "B11",
    "hydraulique_lacs": "B12",
}


def request(base_url: str) -> Request:
    """Return the GET for the latest rows that are filled in."""
    return Request(url=f"{base_url}{_PATH}?{urlencode(_QUERY)}")


def parse(data: bytes, fetched_at: datetime, *, terms: Terms) -> GridSignal | NoSignal:
    """Return the intensity of the latest row in which every type has a value."""
    try:
        found = [(at, mix) for at, row in _rows(data) if (mix := _mix(row)) is not None]
    except UnreadableError as error:
        return terms.no(error.reason)
    if not found:
        return terms.no(NoSignalReason.INCOMPLETE)
    at, whole = latest(found, fetched_at)
    return terms.signal_of_mix(
        whole, data, observed_at=at, fetched_at=fetched_at, resolution_minutes=_RESOLUTION_MINUTES
    )


def parse_direct(data: bytes, fetched_at: datetime, *, terms: Terms) -> GridSignal | NoSignal:
    """Return RTE's own figure of the latest row that has one; 0 is a placeholder of theirs, never a value."""
    try:
        found = [
            (at, value) for at, row in _rows(data) if (value := finite(row.get("taux_co2"))) is not None and value > 0
        ]
    except UnreadableError as error:
        return terms.no(error.reason)
    if not found:
        return terms.no(NoSignalReason.NO_DATA)
    at, value = latest(found, fetched_at)
    return terms.signal(
        value, data, observed_at=at, fetched_at=fetched_at, method=METHOD, resolution_minutes=_RESOLUTION_MINUTES
    )


def _rows(data: bytes) -> list[tuple[datetime, dict[str, Any]]]:
    """Return each row with its time, in no order, from today's shape (`results`) or the older one (`records`).

    `date_heure` names its offset. Its quarter may begin or end there: we take the instant itself, which never makes a
    value look younger than it is.

    Raises:
        UnreadableError: it is neither shape, or there is no row.
    """
    answer = json_object(data)
    listed = rows(answer, "results") if "results" in answer else [_fields(one) for one in rows(answer, "records")]
    if not listed:
        raise UnreadableError(NoSignalReason.NO_DATA)
    if not all(isinstance(row, dict) for row in listed):
        raise UnreadableError(NoSignalReason.NOT_UNDERSTOOD)
    return [(instant(row.get("date_heure")), row) for row in listed]


def _fields(record: Any) -> Any:
    return record.get("fields") if isinstance(record, dict) else None


def _mix(row: dict[str, Any]) -> dict[str, float] | None:
    mix = {code: finite(row.get(name)) for name, code in _TYPES.items()}
    known = {code: megawatts for code, megawatts in mix.items() if megawatts is not None}
    return known if len(known) == len(mix) else None
