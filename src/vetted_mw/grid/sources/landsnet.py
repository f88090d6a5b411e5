"""Landsnet: what Iceland generates at this moment. No key, no history; no interconnector, and UTC all year."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vetted_mw.grid.absence import NoSignalReason
from vetted_mw.grid.sources.numbers import finite
from vetted_mw.grid.sources.request import Request
from vetted_mw.grid.sources.unreadable import UnreadableError, instant, json_object

if TYPE_CHECKING:
    from datetime import datetime

    from vetted_mw.grid.absence import NoSignal
    from vetted_mw.grid.signal import GridSignal
    from vetted_mw.grid.sources.terms import Terms

__all__ = ["parse", "request"]

_TYPES = {"hydro": "B12", "geothermal": "B09", "oil": "B06", "wind": "B19"}


def request(base_url: str) -> Request:
    """Return the GET."""
    return Request(url=f"{base_url}/generation/api/Values")


def parse(data: bytes, fetched_at: datetime, *, terms: Terms) -> GridSignal | NoSignal:
    """Return the intensity of the snapshot; fuels are optional, its time is not."""
    try:
        snapshot = json_object(data)
        observed_at = instant(snapshot.get("timestamp"), is_utc=True)
    except UnreadableError as error:
        return terms.no(error.reason)
    mix = {code: finite(snapshot[name]) for name, code in _TYPES.items() if snapshot.get(name) is not None}
    known = {code: megawatts for code, megawatts in mix.items() if megawatts is not None}
    if len(known) < len(mix):
        return terms.no(NoSignalReason.NOT_A_NUMBER)
    return terms.signal_of_mix(known, data, observed_at=observed_at, fetched_at=fetched_at, resolution_minutes=None)
