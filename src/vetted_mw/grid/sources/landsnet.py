"""Landsnet: what Iceland generates at this moment. No key, no history; no interconnector, and UTC all year."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vetted_mw.grid.absence import NoSignalReason
from vetted_mw.grid.factors import load_factors
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
    """Return the intensity of the snapshot; what the zone always makes must be in it, further fuels may."""
    try:
        snapshot = json_object(data)
        observed_at = instant(snapshot.pop("timestamp", None), is_utc=True)
        mix = _mix(snapshot)
    except UnreadableError as error:
        return terms.no(error.reason)
    if not all(mix.get(code, 0.0) > 0 for code in terms.expected_types):
        return terms.no(NoSignalReason.INCOMPLETE)
    return terms.signal_of_mix(mix, data, observed_at=observed_at, fetched_at=fetched_at, resolution_minutes=None)


def _mix(snapshot: dict[str, Any]) -> dict[str, float]:
    """Return PSR code -> MW; a number under a name we do not know may be a fuel, which leaving out would make cleaner.

    Raises:
        UnreadableError: a fuel's value, or a number, cannot be counted.
    """
    unknown = load_factors().unknown_as
    mix: dict[str, float] = {}
    for name, value in snapshot.items():
        megawatts = finite(value)
        if megawatts is not None:
            code = _TYPES.get(name, unknown)
            mix[code] = mix.get(code, 0.0) + max(megawatts, 0.0)
        elif value is not None and (name in _TYPES or type(value) in {int, float}):
            raise UnreadableError(NoSignalReason.NOT_A_NUMBER)
    return mix
