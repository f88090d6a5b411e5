"""The demo's grid in the wire formats of ENTSO-E, Landsnet and Energy-Charts. Pure: an instant in, bytes out."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.demo.grid import WAVES, mix_at, wave_of
from vetted_mw.grid.zones import zone_of

if TYPE_CHECKING:
    from vetted_mw.demo.grid import Wave

__all__ = ["acknowledgement", "energy_charts", "entsoe", "landsnet"]

_MINUTE = timedelta(minutes=1)
_QUARTER = timedelta(minutes=15)
_STEPS = 30
_OWN_FACTORS = 1.3
"""Energy-Charts' level is another than ours: its factors are its own."""


def entsoe(eic: str, now: datetime, *, ahead: timedelta = timedelta(0), has_gaps: bool = True) -> bytes | None:
    """Return an A75 document for one area, minute by minute up to the last whole one; None for an unknown area.

    Real zones come by the quarter of an hour or the hour: the demo's are finer, so that something is seen to move.

    Args:
        eic: the area asked for.
        now: the instant.
        ahead: shifts the data in time, back when negative.
        has_gaps: leave points out that repeat the one before, as curve A03 allows; else write every point, as A01.
    """
    wave = next((wave for wave in WAVES if eic == _eic(wave)), None)
    if wave is None:
        return None
    end = now.replace(second=0, microsecond=0) + ahead
    starts = [end - step * _MINUTE for step in range(_STEPS, 0, -1)]
    mixes = [mix_at(wave, start - ahead) for start in starts]
    series = "".join(
        _series(number, code, [mix[code] for mix in mixes], starts[0], end, eic=eic, has_gaps=has_gaps)
        for number, code in enumerate(sorted(mixes[0]), start=1)
    )
    document = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<GL_MarketDocument xmlns="urn:iec62325.351:tc57wg16:451-6:generationloaddocument:3:0">'
        f"<type>A75</type><process.processType>A16</process.processType>"
        f"<createdDateTime>{now:%Y-%m-%dT%H:%M:%SZ}</createdDateTime>{series}</GL_MarketDocument>\n"
    )
    return document.encode()


def acknowledgement(text: str) -> bytes:
    """Return ENTSO-E's answer when there is no document."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<Acknowledgement_MarketDocument xmlns="urn:iec62325.351:tc57wg16:451-1:acknowledgementdocument:7:0">'
        f"<Reason><code>999</code><text>{text}</text></Reason></Acknowledgement_MarketDocument>\n"
    ).encode()


def landsnet(now: datetime, *, ahead: timedelta = timedelta(0)) -> bytes:
    """Return what Iceland generates at this moment; its time names no offset, as Landsnet's does not."""
    mix = mix_at(wave_of("IS"), now)
    stamp = (now + ahead).replace(tzinfo=None).isoformat()
    return msgspec.json.encode({"hydro": mix["B12"], "geothermal": mix["B09"], "oil": 0.0, "timestamp": stamp})


def energy_charts(country: str, now: datetime, *, ahead: timedelta = timedelta(0)) -> bytes | None:
    """Return a country's day by quarters: measured up to now, forecast after; None for an unknown country."""
    wave = next((wave for wave in WAVES if _country(wave) == country), None)
    if wave is None:
        return None
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    starts = [midnight + step * _QUARTER for step in range(-4, 96)]
    values = [round(wave.at(start) * _OWN_FACTORS, 1) for start in starts]
    is_past = [start + _QUARTER <= now for start in starts]
    return msgspec.json.encode(
        {
            "unix_seconds": [int((start + ahead).timestamp()) for start in starts],
            "co2eq": [value if past else None for value, past in zip(values, is_past, strict=True)],
            "co2eq_forecast": [None if past else value for value, past in zip(values, is_past, strict=True)],
            "deprecated": False,
        }
    )


def _series(
    number: int, code: str, values: list[float], start: datetime, end: datetime, *, eic: str, has_gaps: bool
) -> str:
    before = itertools.chain([None], values)
    points = "".join(
        f"<Point><position>{position}</position><quantity>{value:g}</quantity></Point>"
        for position, (value, last) in enumerate(zip(values, before, strict=False), start=1)
        if not has_gaps or value != last
    )
    return (
        f"<TimeSeries><mRID>{number}</mRID><businessType>A01</businessType>"
        f'<inBiddingZone_Domain.mRID codingScheme="A01">{eic}</inBiddingZone_Domain.mRID>'
        f"<quantity_Measure_Unit.name>MAW</quantity_Measure_Unit.name>"
        f"<curveType>{'A03' if has_gaps else 'A01'}</curveType><MktPSRType><psrType>{code}</psrType></MktPSRType>"
        f"<Period><timeInterval><start>{start:%Y-%m-%dT%H:%MZ}</start><end>{end:%Y-%m-%dT%H:%MZ}</end></timeInterval>"
        f"<resolution>PT1M</resolution>{points}</Period></TimeSeries>"
    )


def _eic(wave: Wave) -> str | None:
    area = zone_of(wave.zone).areas.get("entsoe")
    return None if area is None else area.name


def _country(wave: Wave) -> str | None:
    area = zone_of(wave.zone).areas.get("energy_charts")
    return None if area is None else area.name
