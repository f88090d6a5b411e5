"""Recorded answers of ENTSO-E, against a calculation of our own that knows nothing of the parser."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from grid.entsoe_documents import parsed, reason, terms, without_lineage, zipped
from vetted_mw.grid.signal import GridSignal
from vetted_mw.grid.zones import zone_of

if TYPE_CHECKING:
    from vetted_mw.grid.sources.terms import Terms

RECORDINGS = Path(__file__).parents[2].parent / "shared" / "grid-recordings" / "entsoe"
pytestmark = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recordings are not here")

_GRAMS = {
    "B01": 230, "B02": 820, "B03": 820, "B04": 490, "B05": 820, "B06": 650, "B07": 820, "B08": 820, "B09": 38,
    "B11": 24, "B12": 24, "B13": 17, "B14": 12, "B15": 230, "B16": 48, "B17": 230, "B18": 12, "B19": 11, "B20": 700,
}  # fmt: skip
_STAND_INS = {"B02", "B03", "B07", "B08", "B15", "B17", "B20"}
_QUARTER = timedelta(minutes=15)


def _calculated(root: ET.Element, zone: str) -> tuple[datetime, float, float]:
    """Return end, intensity and share of stand-ins of the newest quarter of an hour, or hour, that every type has."""
    known: dict[str, dict[datetime, float]] = defaultdict(dict)
    length = timedelta(0)
    for series in root.findall("{*}TimeSeries"):
        code = series.findtext("{*}MktPSRType/{*}psrType", "")
        if series.find("{*}outBiddingZone_Domain.mRID") is not None or code in {"B10", "B25"}:
            continue
        for one in series.findall("{*}Period"):
            step = timedelta(minutes=int(one.findtext("{*}resolution", "").removeprefix("PT").removesuffix("M")))
            length = max(length, step)
            instant = datetime.fromisoformat(one.findtext("{*}timeInterval/{*}start", ""))
            end = datetime.fromisoformat(one.findtext("{*}timeInterval/{*}end", ""))
            points = {
                int(point.findtext("{*}position", "")): float(point.findtext("{*}quantity", ""))
                for point in one.findall("{*}Point")
            }
            position, value = 1, None
            while instant < end:
                value = points.get(position, value if series.findtext("{*}curveType") == "A03" else None)
                for quarter in range(step // _QUARTER):
                    if value is not None:
                        assert instant + quarter * _QUARTER not in known[code]
                        known[code][instant + quarter * _QUARTER] = max(0.0, value)
                instant, position = instant + step, position + 1
    quarters = set.intersection(*({*values} for values in known.values()))
    start = max(
        one
        for one in quarters
        if one.timestamp() % length.total_seconds() == 0
        and all(one + n * _QUARTER in quarters for n in range(length // _QUARTER))
    )
    parts = [start + n * _QUARTER for n in range(length // _QUARTER)]
    mix = {code: sum(values[one] for one in parts) / len(parts) for code, values in known.items()}
    grams = _GRAMS | ({"B20": 258} if zone.startswith("SE") else {})
    total = sum(mix.values())
    return (
        start + length,
        sum(megawatts * grams[code] for code, megawatts in mix.items()) / total,
        sum(megawatts for code, megawatts in mix.items() if code in _STAND_INS) / total,
    )


def _zone_terms(zone: str) -> Terms:
    return terms(zone, zone_of(zone).areas["entsoe"].name)


@pytest.mark.parametrize(
    ("recording", "zone", "ended", "stated"),
    [
        ("SE-SE4_production.xml", "SE_4", "2025-10-23T10:00Z", 61.8),
        ("NO-NO5_production.xml", "NO_5", "2023-05-11T08:00Z", 24.5),
        ("NO-NO5_production-negatives.xml", "NO_5", "2023-05-11T08:00Z", 24.5),
        ("LU_production.xml", "LU", "2024-05-24T10:00Z", 150.7),
    ],
)
def test_a_recorded_document_gives_what_it_gives_by_hand(recording: str, zone: str, ended: str, stated: float) -> None:
    """Instant, intensity and share of stand-ins are those of an independent calculation, and the stated ones."""
    data = (RECORDINGS / recording).read_bytes()
    found = parsed(data, _zone_terms(zone))
    assert isinstance(found, GridSignal)
    end, grams, share = _calculated(ET.fromstring(data), zone)  # noqa: S314 (a file of ours)
    assert found.observed_at == end == datetime.fromisoformat(ended)
    assert found.gco2_per_kwh == pytest.approx(grams)
    assert found.gco2_per_kwh == pytest.approx(stated, abs=0.05)
    assert found.proxy_share == pytest.approx(share)


@pytest.mark.parametrize("until", ["2024-05-24T04:00Z", "2024-05-24T04:15Z", "2024-05-24T10:00Z"])
def test_the_hole_of_luxembourg_is_never_filled(until: str) -> None:
    """At 03:45 some types have a value and others none: cut after it, the recording's newest interval ends at 03:45."""
    root = ET.fromstring((RECORDINGS / "LU_production.xml").read_bytes())  # noqa: S314 (a file of ours)
    last = datetime.fromisoformat(until)
    for series in root.findall("{*}TimeSeries"):
        for one in series.findall("{*}Period"):
            start = datetime.fromisoformat(one.findtext("{*}timeInterval/{*}start", ""))
            end = one.find("{*}timeInterval/{*}end")
            assert end is not None
            if start >= last:
                root.remove(series)
            elif datetime.fromisoformat(end.text or "") > last:
                end.text = until
                for point in one.findall("{*}Point"):
                    if start + int(point.findtext("{*}position", "")) * _QUARTER > last:
                        one.remove(point)
    found = parsed(ET.tostring(root), _zone_terms("LU"))
    assert isinstance(found, GridSignal)
    hole = datetime(2024, 5, 24, 3, 45, tzinfo=UTC)
    assert found.observed_at == (hole if last == hole + _QUARTER else last)
    end_by_hand, grams, _ = _calculated(root, "LU")
    assert found.observed_at == end_by_hand
    assert found.gco2_per_kwh == pytest.approx(grams)


@pytest.mark.parametrize(
    ("recording", "zone", "why"),
    [
        ("SE-SE3_generation_forecast.xml", "SE_3", "not_understood"),
        ("wind_solar_forecast_FI_DAY_AHEAD.xml", "FI", "not_understood"),
        ("DK-DK1_consumption.xml", "DK_1", "not_understood"),
        ("DK-DK1_GB_exchange_exports.xml", "DK_1", "not_understood"),
        ("DK-DK1_GB_exchange_imports.xml", "DK_1", "not_understood"),
        ("gl.load.singlepoint.xml", "CZ", "not_understood"),
        ("fake_time_series.xml", "SE_4", "not_understood"),
        ("fake_time_series_all_0.xml", "SE_4", "not_understood"),
        ("acknowledgement.no-data.xml", "SE_4", "no_data"),
        ("SE-SE4_production.xml", "SE_3", "wrong_area"),
        ("LU_production.xml", "DE_LU", "wrong_area"),
    ],
)
def test_every_other_recording_gives_no_signal(recording: str, zone: str, why: str) -> None:
    """Forecasts, load, exchange and fragments are not read as generation, nor one area's generation as another's."""
    assert reason((RECORDINGS / recording).read_bytes(), _zone_terms(zone)) == why


def test_a_recorded_document_is_the_same_zipped() -> None:
    """An archive of a real answer gives the same value."""
    data = (RECORDINGS / "SE-SE4_production.xml").read_bytes()
    plain, packed = parsed(data, _zone_terms("SE_4")), parsed(zipped(data), _zone_terms("SE_4"))
    assert isinstance(packed, GridSignal)
    assert without_lineage(plain) == without_lineage(packed)
