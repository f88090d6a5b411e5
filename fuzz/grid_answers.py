"""Made-up answers of the grid services, how each kind is written, and words that may stand where a value stands."""

from __future__ import annotations

import io
import json
import re
import zipfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from targets import Notation, words_of
from vetted_mw.demo import grid_wire

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["JSON", "NOW", "SEEDS", "TOML", "XML"]

NOW = datetime(2026, 11, 22, 10, 31, 7, tzinfo=UTC)
_FRANCE = "10YFR-RTE------C"


_INSTANTS = (
    "2026-11-22T10:30Z",
    "2026-11-22T10:30:00",
    "2026-11-22T12:30:00+02:00",
    "2026-W47-7T10:30:00Z",
    "0001-01-01T00:00:00+23:59",
    "0001-01-01T00:00Z",
    "9999-12-31T23:59:59-23:59",
    "9999-12-31T23:59Z",
)
_NUMBERS = (
    *("0", "-1", "-0.0", "1e12", "1e-999", "1e999", "9" * 4400),
    *("1795343400", "253402300799", "253402300799000"),
)
_ARABIC_ONE = "\u0661"  # a digit to str.isdigit and int()

JSON = Notation(
    value=re.compile(rb'"(?:[^"\\]|\\.)*"\s*:|("(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|\b(?:null|true|false)\b)'),
    words=words_of(
        *(f'"{one}"' for one in (*_INSTANTS, *_NUMBERS, "-", "12\u00a0345", "\u221212", _ARABIC_ONE, "", r"\ud800")),
        *_NUMBERS,
        *("null", "true", "false", "NaN", "[]", "{}", "[[]]", "[null]", '{"value":1}', "[" * 2000, "\ufeff", "<html>"),
    ),
)
XML = Notation(
    value=re.compile(rb">([^<>]+)(?=<)"),
    words=words_of(
        *(*_INSTANTS, *_NUMBERS, _ARABIC_ONE),
        *("A01", "A03", "A16", "A75", "B04", "B14", "B20", "B10", "B99", "MAW", "KWH", "999", "No matching data found"),
        *("PT15M", "PT1M", "PT0M", "PT1440M", "PT1H", "P1D", "P9D", _FRANCE, "10YFI-1--------U"),
        *("<TimeSeries>", "</TimeSeries>", "<Period>", "</Period>", "<Point>", "</Point>", "<Reason>", "</Reason>"),
        *("<outBiddingZone_Domain.mRID>", "<position>", "<quantity>", "<code>", "<text>", "<html>"),
        *("<!DOCTYPE a>", "<!ENTITY a 'b'>", "&amp;", "&#1;", "&a;", "<![CDATA[", "]]>", "<!--", "-->", "<?a?>"),
        *('encoding="utf-16"', 'encoding="utf-7"', 'encoding="cp037"', 'xmlns:a="b"', "a:", "PK\x03\x04"),
    ),
)
TOML = Notation(
    value=re.compile(rb"= ([^\n]+)"),
    words=words_of(
        *(f'"{one}"' for one in (*_INSTANTS, "measured", "forecast", "fallback", "declared", "FR", "", r"\ud800")),
        *('"production/lifecycle/average/-"', '"consumption/direct/marginal/a"', '"""', "'''", "[" * 2000),
        *(*_INSTANTS, *_NUMBERS),
        *("nan", "inf", "-inf", "true", "0x7f", "1_0", "[]", "{}", "{a.b=1}", "10:30:00", "2026-11-22"),
        *("[[reading]]\n", "reading = [{}]\n", "zone = ", "kind = ", "observed_at = ", "source = ", "#", "\x00"),
    ),
)


def _json(*answers: object) -> tuple[bytes, ...]:
    return tuple(json.dumps(answer, separators=(",", ":")).encode() for answer in answers)


def _generation(*series: tuple[str, str, str, Mapping[int, float]]) -> bytes:
    """Return an A75 document of the hour from 9: type, curve, resolution, and position -> MW."""
    written = "".join(
        f"<TimeSeries><inBiddingZone_Domain.mRID>{_FRANCE}</inBiddingZone_Domain.mRID>"
        f"<quantity_Measure_Unit.name>MAW</quantity_Measure_Unit.name><curveType>{curve}</curveType>"
        f"<MktPSRType><psrType>{code}</psrType></MktPSRType><Period><timeInterval><start>2026-11-22T09:00Z</start>"
        f"<end>2026-11-22T10:00Z</end></timeInterval><resolution>{resolution}</resolution>"
        + "".join(f"<Point><position>{at}</position><quantity>{mw}</quantity></Point>" for at, mw in points.items())
        + "</Period></TimeSeries>"
        for code, curve, resolution, points in series
    )
    head = "<type>A75</type><process.processType>A16</process.processType>"
    return f'<?xml version="1.0" encoding="UTF-8"?><GL_MarketDocument>{head}{written}</GL_MarketDocument>'.encode()


def _zipped(data: bytes, method: int) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a.xml"), data, compress_type=method)
    return packed.getvalue()


def _entsoe() -> tuple[bytes, ...]:
    mixed = _generation(
        ("B14", "A03", "PT15M", {1: 30000, 3: 31000.5}),
        ("B04", "A01", "PT60M", {1: 4000}),
        ("B20", "A01", "PT15M", {1: -3, 2: 20, 3: 30, 4: 40}),
    )
    drawn = mixed.replace(b"inBiddingZone", b"outBiddingZone", 2)  # the first series: its start tag and its end tag
    shifted = mixed.replace(b"T09:00Z", b"T08:50Z", 1)
    zipped = [_zipped(mixed, method) for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED)]
    by_minutes, nothing = grid_wire.entsoe(_FRANCE, NOW) or b"", grid_wire.acknowledgement("No matching data found")
    return (mixed, drawn, shifted, by_minutes, *zipped, nothing)


def _odre() -> tuple[bytes, ...]:
    fuels = ("nucleaire", "gaz", "charbon", "fioul", "eolien", "solaire", "bioenergies")
    row: dict[str, object] = {"date_heure": "2026-11-22T10:15:00+00:00", "taux_co2": 31}
    row |= dict.fromkeys((*fuels, "hydraulique_fil_eau_eclusee", "hydraulique_lacs"), 4000)
    later = row | {"date_heure": "2026-11-22T11:30:00+01:00", "gaz": None}
    return _json({"results": [row, later]}, {"records": [{"fields": later}, {"fields": row}]})


def _statnett() -> tuple[bytes, ...]:
    columns = {
        "Headers": ("", "SE", "NO"),
        "ProductionData": ("", "18\u00a0000", "20 000"),
        "NuclearData": ("", "6 000", "-"),
        "HydroData": ("", "8\u00a0000", "19 000"),
        "ThermalData": ("", "500", "-"),
        "WindData": ("", "3 500", "1 000"),
        "NotSpecifiedData": ("", "-", "-"),
    }
    cells = {name: [{"value": one, "titleTranslationId": None} for one in row] for name, row in columns.items()}
    return _json({"MeasuredAt": 1795343400000} | cells)


def _fingrid() -> tuple[bytes, ...]:
    start, end = "2026-11-22T10:27:00.000Z", "2026-11-22T10:30:00.000Z"
    value = {"datasetId": 265, "startTime": start, "endTime": end, "value": 38.2}
    produced = value | {"datasetId": 266}
    return _json(value, produced, {"data": [value, value | {"endTime": "2026-11-22T10:33:00+00:00"}]})


def _electricity_maps() -> tuple[bytes, ...]:
    answer = {
        "zone": "SE-SE3",
        "carbonIntensity": 22,
        "datetime": "2026-11-22T09:00:00.000Z",
        "emissionFactorType": "lifecycle",
        "isEstimated": False,
    }
    return _json(answer, answer | {"emissionFactorType": "direct", "isEstimated": True})


def _energinet() -> tuple[bytes, ...]:
    records = [
        {"Minutes5UTC": f"2026-11-22T10:{minute}:00", "PriceArea": area, "CO2Emission": 97.0}
        for minute in (20, 25)
        for area in ("DK1", "DK2")
    ]
    return _json({"dataset": "CO2Emis", "records": records})


def _http_json() -> tuple[bytes, ...]:
    values = {"actual": 140, "isEstimated": False}
    half_hour = {"from": "2026-11-22T10:00Z", "to": "2026-11-22T10:30Z", "intensity": values}
    pairs = ([0.05, 1795343400], [0.05, 1795343400000.5], [1, "2026-11-22T10:30Z"])
    return _json({"data": [half_hour, half_hour]}, *pairs)


_FILE = b"""
[[reading]]
zone = "SE_3"
gco2_per_kwh = 22.5
kind = "measured"
observed_at = 2026-11-22T10:15:00Z
source = "ours"
method = "production/lifecycle/average/ar5_v1"

[[reading]]
zone = "FR"
gco2_per_kwh = 40
kind = "forecast"
observed_at = "2026-11-22T12:15:00+01:00"
"""

SEEDS: Mapping[str, tuple[bytes, ...]] = {
    "entsoe": _entsoe(),
    "landsnet": (grid_wire.landsnet(NOW),),
    "energy_charts": (
        grid_wire.energy_charts("fr", NOW) or b"",
        *_json({"unix_seconds": [1795342500, 1795343400], "co2eq": [31.5, None], "co2eq_forecast": [None, 30]}),
    ),
    "odre": _odre(),
    "statnett": _statnett(),
    "fingrid": _fingrid(),
    "electricity_maps": _electricity_maps(),
    "energinet": _energinet(),
    "http_json": _http_json(),
    "file": (_FILE,),
}
"""Target -> answers that hold a value, and some that say there is none."""
