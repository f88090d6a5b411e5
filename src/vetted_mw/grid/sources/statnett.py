"""Statnett: the Nordic and Baltic countries' generation this minute, independent of ENTSO-E. No key.

Coarse: thermal plants and what is not specified are lumps, so the share of stand-in factors is high where they run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vetted_mw.grid.absence import NoSignalReason
from vetted_mw.grid.sources.numbers import grouped
from vetted_mw.grid.sources.request import Request
from vetted_mw.grid.sources.unreadable import UnreadableError, instant_of_milliseconds, json_object, rows

if TYPE_CHECKING:
    from datetime import datetime

    from vetted_mw.grid.absence import NoSignal
    from vetted_mw.grid.signal import GridSignal
    from vetted_mw.grid.sources.terms import Terms

__all__ = ["parse", "request"]

_LUMP = "B20"
# Thermal is a lump of fuels and is counted, as what is not specified is, under "other".
_TYPES = {
    "NuclearData": "B14",
    "HydroData": "B12",
    "WindData": "B19",
    "ThermalData": _LUMP,
    "NotSpecifiedData": _LUMP,
}

_LEAST_SHARE, _MOST_SHARE = 0.8, 1.05
"""The parts must make up about the stated production: less, and fuels have vanished; more, and a number is misread."""


def request(base_url: str) -> Request:
    """Return the GET; one answer tells every country."""
    return Request(url=f"{base_url}/restapi/ProductionConsumption/GetLatestDetailedOverview")


def parse(data: bytes, fetched_at: datetime, *, terms: Terms) -> GridSignal | NoSignal:
    """Return the intensity of one country's generation, `-` standing for none.

    What the parts fall short of the stated production is of no known fuel, and never left out: a fuel that vanishes
    would make the value cleaner.
    """
    try:
        answer = json_object(data)
        observed_at = instant_of_milliseconds(answer.get("MeasuredAt"))
        column = _column(rows(answer, "Headers"), terms.name)
        mix = _mix(answer, column)
        stated = _cell(rows(answer, "ProductionData"), column) or 0.0
    except UnreadableError as error:
        return terms.no(error.reason)
    made = sum(mix.values())
    if not set(terms.expected_types) <= mix.keys() or made < _LEAST_SHARE * stated:
        return terms.no(NoSignalReason.INCOMPLETE)
    if made > _MOST_SHARE * stated:
        return terms.no(NoSignalReason.IMPLAUSIBLE)
    if made < stated:
        mix[_LUMP] = mix.get(_LUMP, 0.0) + stated - made
    return terms.signal_of_mix(mix, data, observed_at=observed_at, fetched_at=fetched_at, resolution_minutes=None)


def _mix(answer: dict[str, Any], column: int) -> dict[str, float]:
    mix: dict[str, float] = {}
    for name, code in _TYPES.items():
        megawatts = _cell(rows(answer, name), column)
        if megawatts is not None:
            mix[code] = mix.get(code, 0.0) + megawatts
    return mix


def _column(headers: list[Any], country: str) -> int:
    found = [
        number for number, header in enumerate(headers) if isinstance(header, dict) and header.get("value") == country
    ]
    if len(found) != 1:
        raise UnreadableError(NoSignalReason.WRONG_AREA)
    return found[0]


def _cell(cells: list[Any], column: int) -> float | None:
    """Return what one country generates, at least 0; None for `-`, which stands for nothing of the kind."""
    cell = cells[column] if column < len(cells) else None
    value = cell.get("value") if isinstance(cell, dict) else None
    if value == "-":
        return None
    number = grouped(value)
    if number is None:
        raise UnreadableError(NoSignalReason.NOT_A_NUMBER)
    return max(number, 0.0)
